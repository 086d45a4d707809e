"""Runs that begin with the nets of another one."""

import dataclasses
import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from conftest import TINY, command, results

import toongan
from toongan import ToonGANError, TrainConfig
from toongan.devices import Machine
from toongan.models import SmoothKernel
from toongan.runs import feeding, load_discriminator, load_generator, trainer
from toongan.runs.start import begin_with, small_kernel
from toongan.runs.trainer import Trainer

STEPS = 40
CONFIG = TrainConfig(run="r", kimg=STEPS * 16 / 1000, device="cpu", start="tiny", **TINY)


@pytest.fixture
def start(shared_home, home):
    """In a home of the test's own, the finished run `tiny`, and the images that it saw."""
    shutil.copytree(shared_home, home, dirs_exist_ok=True)
    return toongan.find_run("tiny")


def new_trainer(**changes) -> Trainer:
    images = torch.randint(0, 256, (64, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    config = dataclasses.replace(CONFIG, **{"latent_dim": 100, **changes})
    return Trainer(config, images, Machine(torch.device("cpu")))


def test_the_small_kernel_that_was_laid_down_comes_back():
    small = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(small_kernel(SmoothKernel()(small)), small, atol=1e-6)


@pytest.mark.parametrize("checkpoint", [True, False], ids=["with-moments", "from-its-files"])
@pytest.mark.parametrize("freeze", [0, 2])
def test_it_begins_where_the_other_ended(start, checkpoint, freeze):
    if not checkpoint:
        (start.checkpoints / "last.pt").unlink()
    made = new_trainer(freeze=freeze)
    about = begin_with(made)
    assert about["moments"] is (checkpoint and not freeze) and about["from"] == "tiny"
    latent = torch.randn(4, 100, generator=torch.Generator().manual_seed(1))
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2)).clamp(-1, 1)
    G, D = load_generator(start.generator_path), load_discriminator(start.discriminator_path)
    with torch.no_grad():
        assert torch.allclose(made.generator.eval()(latent), G(latent), atol=1e-4)
        layers = [(one, other) for one, other in zip(made.D.eval().main, D.main) if isinstance(one, torch.nn.Conv2d)]
        for one, other in layers:  # a start's singular values are as far as its power iteration had come
            share = float(one.weight.norm() / other.weight.norm())
            assert 0.9 < share < 1.1 and torch.allclose(one.weight, share * other.weight, atol=1e-5)
        made.D(images)
    made.generator.train()
    made.D.train()
    before = {name: value.clone() for name, value in made.D.state_dict().items()}
    for number in range(3):
        assert made.step(number, 10).isfinite().all()
    convs = [name for name in before if name.endswith(("weight", "original")) and before[name].ndim == 4]
    moved = [not torch.equal(made.D.state_dict()[name], before[name]) for name in convs]
    assert moved == [False] * freeze + [True] * (len(convs) - freeze), "the first layers stay as they were"


def test_a_stopped_run_ends_with_the_same_bytes(start, home, monkeypatch):
    whole = toongan.train(CONFIG, progress=False)
    assert (
        whole.info()["start"]["sha256"]["G.pth"] == start.info()["sha256"]["G.pth"] and whole.info()["start"]["moments"]
    )
    expected = results(whole)
    original = trainer.Trainer.step

    def stopping(self, number, steps):
        if number == 17:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, number, steps)

    again = dataclasses.replace(CONFIG, run="again", save_seconds=0)
    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "step", stopping)
        assert not toongan.train(again, progress=False).info()["finished"]
    shutil.rmtree(start.checkpoints)  # it is not needed any more
    run = toongan.train(again, progress=False)
    assert results(run) == expected and run.info()["start"] == whole.info()["start"]


def test_a_frozen_run_goes_on_and_gets_its_files_back(start, home):
    config = dataclasses.replace(CONFIG, freeze=2)
    run = toongan.train(config, progress=False)
    expected = results(run)
    first = np.asarray(load_discriminator(run.discriminator_path).main[0].weight)
    assert np.allclose(first, load_discriminator(start.discriminator_path).main[0].weight, atol=1e-6)
    for path in (run.generator_path, run.discriminator_path, run.info_path, run.grids[-1]):
        path.unlink()
    assert results(toongan.train(config, progress=False)) == expected
    longer = toongan.train(dataclasses.replace(config, extend=True, kimg=0.8), progress=False)
    assert longer.info()["finished"] and longer.info()["start"] == run.info()["start"]


def test_the_first_grid_is_not_invented(start, home):
    """Nobody knows any more what the start drew, so a lost grid of the beginning stays lost, and never comes back wrong."""
    run = toongan.train(CONFIG, progress=False)
    for path in (run.grids[0], *(run.checkpoints / name for name in ("previous.pt", "best.pt"))):
        path.unlink(missing_ok=True)
    toongan.train(CONFIG, progress=False)
    assert run.grids[0].name != "samples-000.png"


@pytest.mark.parametrize("form", ["folder", "files"])
def test_a_folder_or_two_files(start, home, tmp_path_factory, form):
    folder = tmp_path_factory.mktemp("elsewhere")
    for name in ("G.pth", "D.pth"):
        shutil.copy(start.checkpoints / name, folder / name)
    where = str(folder) if form == "folder" else f"{folder / 'G.pth'}, {folder / 'D.pth'}"
    made = new_trainer(start=where)
    assert not begin_with(made)["moments"]
    latent = torch.randn(4, 100)
    with torch.no_grad():
        assert torch.allclose(made.generator.eval()(latent), load_generator(folder / "G.pth")(latent), atol=1e-4)


@pytest.mark.parametrize(
    "changes, sentence",
    [
        (
            {"base_channels": 8},
            r"start has base_channels 4, but this run has 8: give --base-channels 4, or another start\.",
        ),
        ({"image_size": 64}, "start has image_size 32, but this run has 64: give --image-size 32"),
        ({"colours": 3}, r"start has colours 0, but this run has 3: give --colours 0, or another start\."),
        ({"differences": True}, "start has differences False, but this run has True: give --differences False, or"),
        ({"latent_dim": 8}, "start has latent_dim 100, but this run has 8: give --latent-dim 100"),
        ({"recipe": "classic"}, "start was trained with the modern recipe: give --recipe modern"),
        ({"start": "nobody"}, "nobody has no G.pth"),
        ({"start": "~no-such-user/run"}, "start names the home folder of a user whom this machine does not know"),
        ({"start": "G.pth"}, "start is one file, G.pth, but two nets are needed"),
        ({"start": "nowhere/G.pth,nowhere/D.pth"}, "There is no file nowhere/G.pth"),
    ],
)
def test_starts_that_do_not_fit(start, changes, sentence):
    with pytest.raises(ToonGANError, match=sentence):
        toongan.train(dataclasses.replace(CONFIG, **changes), progress=False)


@pytest.mark.parametrize("frozen_first", [False, True])
def test_moments_of_frozen_weights_do_not_fit(few_faces, home, frozen_first):
    """With the classic recipe, frozen weights have the names that they have when they learn."""
    classic = {"recipe": "classic", "latent_dim": 100}
    first, then = ({"freeze": 1}, {}) if frozen_first else ({}, {"freeze": 1})
    toongan.train(dataclasses.replace(CONFIG, run="a", start=None, kimg=0.064, **classic), progress=False)
    if frozen_first:
        toongan.train(dataclasses.replace(CONFIG, run="b", start="a", kimg=0.064, **classic, **first), progress=False)
    made = new_trainer(start="b" if frozen_first else "a", **classic, **then)
    assert begin_with(made)["moments"] is False
    assert begin_with(new_trainer(start="a", **classic))["moments"] is True


def test_a_discriminator_is_no_generator(start):
    path = start.discriminator_path
    with pytest.raises(ToonGANError, match="is a discriminator; load_generator needs a G.pth"):
        toongan.train(dataclasses.replace(CONFIG, start=f"{path},{path}"), progress=False)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"start": "a,b,c"}, "start must be the name of a run, its folder, or G.pth,D.pth, not 'a,b,c'"),
        ({"start": ""}, "start must be the name of a run"),
        ({"freeze": 1}, "freeze keeps layers of a trained run; name that run with start"),
        ({"start": "tiny", "freeze": 9}, "freeze must be a whole number from 0 to 4, not 9"),
    ],
)
def test_options_that_make_no_sense(options, sentence):
    with pytest.raises(ToonGANError, match=sentence):
        TrainConfig(**options)


def test_from_the_command_line(start, home):
    small = ["--count", 128, "--image-size", 32, "--base-channels", 4, "--batch-size", 16, "--device", "cpu"]
    done = command("train", "--run", "c", "--kimg", 0.32, "--start", "tiny", "--freeze", 1, *small, home=home)
    assert done.returncode == 0, done.stderr
    assert json.loads((home / "checkpoints/c/run.json").read_text())["settings"]["start"] == "tiny"
    done = command("train", "--run", "c", "--kimg", 0.32, "--start", "other", "--freeze", 1, *small, home=home)
    assert "--start was tiny and is now other" in done.stdout + done.stderr


def test_a_run_may_begin_anew_from_itself_and_a_bad_start_moves_nothing(start, home):
    before = results(start)
    with pytest.raises(ToonGANError, match="start has base_channels 4"):
        toongan.train(dataclasses.replace(CONFIG, run="tiny", restart=True, base_channels=8), progress=False)
    assert results(toongan.find_run("tiny")) == before and not (home / "checkpoints" / "tiny-previous").exists()
    run = toongan.train(dataclasses.replace(CONFIG, run="tiny", restart=True), progress=False)
    assert run.info()["start"]["from"] == "tiny" and results(toongan.find_run("tiny-previous")) == before


def test_a_start_decides_the_width_where_none_is_given(start, home):
    settings = {name: value for name, value in TINY.items() if name != "base_channels"}
    run = toongan.train(TrainConfig(run="r", kimg=0.4, device="cpu", start="tiny", **settings), progress=False)
    assert run.info()["settings"]["base_channels"] == TINY["base_channels"]
    assert toongan.train(TrainConfig(run="r", kimg=0.4, device="cpu", start="tiny", **settings), progress=False).info()[
        "finished"
    ]


def test_a_start_with_a_palette(home, few_faces):
    settings = dict(kimg=0.4, device="cpu", **TINY)
    first = toongan.train(TrainConfig(run="first", colours=3, **settings), progress=False)
    (first.checkpoints / "last.pt").unlink()
    latent = torch.randn(4, 100)
    made = new_trainer(start="first", colours=3)
    begin_with(made)
    with torch.no_grad():
        assert torch.allclose(made.generator.eval()(latent), load_generator(first.generator_path)(latent), atol=1e-4)
    run = toongan.train(TrainConfig(run="r", start="first", **settings), progress=False)
    assert run.info()["settings"]["colours"] == 3 and load_generator(run.generator_path).colours == 3


def test_a_start_whose_d_sees_differences(home, few_faces):
    settings = dict(kimg=0.4, device="cpu", **TINY)
    toongan.train(TrainConfig(run="first", differences=True, **settings), progress=False)
    run = toongan.train(TrainConfig(run="r", start="first", **settings), progress=False)
    assert run.info()["settings"]["differences"] and load_discriminator(run.discriminator_path).differences


def test_a_card_says_if_the_start_may_have_seen_the_held_out_images(start, home):
    config = toongan.EvaluateConfig(run="r", device="cpu")
    run = toongan.train(CONFIG, progress=False)
    assert run.info()["start"]["trained_on"] == ["avatars"]
    card = toongan.evaluate(config, progress=False)
    assert not card["compared_with"]["never_trained_on"]
    assert sum("nets that this run began with may have been trained on" in each for each in card["findings"]) == 1
    other = dataclasses.replace(CONFIG, dataset="avatars:lorelei")
    assert toongan.train(other, progress=False).info()["start"]["trained_on"] == ["avatars"]
    assert toongan.evaluate(config, progress=False)["compared_with"]["never_trained_on"]
    again = dataclasses.replace(CONFIG, run="again", start="r")
    assert toongan.train(again, progress=False).info()["start"]["trained_on"] == ["avatars:lorelei", "avatars"]


@pytest.mark.parametrize(
    "given, advised",
    [
        ({}, "Consider --start avatars-64 and --augment diffaugment: with up to 2,000 images each brought"),
        ({"start": "few"}, "Consider --augment diffaugment: with up to 2,000 images it brought"),
        ({"base_channels": 16}, "Consider --augment diffaugment:"),  # avatars-64 has other sizes
        ({"channels": 4}, "Consider --augment diffaugment:"),
        ({"differences": True}, "Consider --augment diffaugment:"),
        ({"augment": "diffaugment"}, "Consider --start avatars-64: with"),
        ({"augment": "flips", "start": "few"}, ""),
        ({"dataset": "avatars"}, ""),
        ({"recipe": "classic"}, ""),
    ],
)
def test_few_images_are_advised(given, advised):
    said = feeding.advice(TrainConfig(**{"dataset": "avatars:lorelei", **given}), 63)
    assert said.startswith(f"Only 63 images to train on. {advised}") if advised else said == ""
    assert feeding.advice(TrainConfig(**{"dataset": "avatars:lorelei", **given}), 2001) == ""


def test_the_advised_start_has_the_sizes_that_are_said():
    run = toongan.find_run(feeding.START)
    nets = load_generator(run.generator_path), load_discriminator(run.discriminator_path)
    sizes = {**vars(nets[1]), **vars(nets[0])}
    assert {name: sizes[name] for name in feeding.STARTS_WITH} == feeding.STARTS_WITH


def test_a_run_with_few_images_prints_the_advice(few_faces, home, capsys):
    toongan.train(
        TrainConfig(run="few", dataset="avatars:lorelei", **{**TINY, "count": 72, "kimg": 0.4, "device": "cpu"})
    )
    assert "Only 63 images to train on. Consider --augment diffaugment:" in capsys.readouterr().out
