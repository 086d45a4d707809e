"""Runs by name."""

import re

import pytest
from conftest import REPOSITORY

import toongan
from toongan import ToonGANError, TrainConfig, preset
from toongan.cli import parsed
from toongan.paths import RunFiles
from toongan.presets import PRESETS
from toongan.runs.record import EARLIER


@pytest.mark.parametrize("name", PRESETS)
def test_the_command_line_and_a_notebook_mean_the_same(name):
    assert parsed(["train", "--preset", name]) == preset(name)
    assert parsed(["train", f"--preset={name}"]).run == name


def test_other_options_win_wherever_they_stand():
    options = ["--seed", "3", "--image_size=32", "--run", "mine"]
    wanted = TrainConfig(run="mine", image_size=32, minutes=10.0, seed=3)
    assert parsed(["train", *options, "--preset", "gpu-128"]) == wanted
    assert parsed(["train", "--preset", "gpu-128", *options]) == wanted
    assert preset("gpu-128", run="mine", image_size=32, seed=3) == wanted


def test_a_length_takes_the_place_of_the_other_kind():
    assert parsed(["train", "--preset", "gpu-64", "--kimg", "5"]) == preset("gpu-64", kimg=5)
    assert preset("gpu-64", kimg=5).minutes is None
    assert parsed(["train", "--preset", "avatars-64", "--minutes", "5"]).kimg is None


def test_a_name_that_is_none():
    with pytest.raises(ToonGANError, match="^preset must be one of quickstart, avatars-64, .*, not 'gpu'"):
        preset("gpu")
    with pytest.raises(ToonGANError, match="must be one of quickstart"):
        parsed(["train", "--preset", "gpu"])


@pytest.mark.parametrize("name", ["avatars-64", "avatars-128", "adventurer-64", "on-request-64"])
def test_the_runs_that_ship_were_trained_so(name):
    shipped = RunFiles(name, REPOSITORY / "checkpoints" / name, REPOSITORY / "generated" / name).info()
    config = preset(name)
    recorded = {**EARLIER, **shipped["settings"]}
    settings = {key: recorded[key] for key in PRESETS[name] if key != "kimg"}
    assert settings == {key: getattr(config, key) for key in settings}
    assert round(config.kimg * 1000 / shipped["settings"]["batch_size"]) == shipped["steps"]


def test_help_names_all(capsys):
    with pytest.raises(SystemExit):
        parsed(["train", "--help"])
    said = re.sub(r"[│\s]+", " ", capsys.readouterr().out)
    assert all(name in said for name in PRESETS) and toongan.preset is preset
