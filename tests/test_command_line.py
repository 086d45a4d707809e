"""The command line in a subprocess, as a user meets it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, command
from makers import Server, cartoon_set, fill_folder, images, make_tar
from PIL import Image

from toongan import TrainConfig, cli, load_generator
from toongan.config import options_of

SMALL = ["--count", 128, "--image-size", 32, "--base-channels", 4, "--batch-size", 16, "--device", "cpu"]


def test_train_then_generate(tmp_path):
    done = command("train", "--dataset", "avatars", "--kimg", 0.4, "--seed", 3, "--run", "mine", *SMALL, home=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "checkpoints" / "mine"
    for name in ("G.pth", "D.pth", "run.json", "history.csv"):
        assert (folder / name).stat().st_size > 0
        assert name in done.stdout
    for name in ("losses.png", "scores.png", "generated.gif", "samples-000.png"):
        assert (tmp_path / "generated" / "mine" / name).stat().st_size > 0
        assert name in done.stdout
    assert "Drawing avataaars: 100%" in done.stdout and "Training: 100%" in done.stdout
    assert json.loads((folder / "run.json").read_text())["seed"] == 3

    out = tmp_path / "grid.png"
    done = command("generate", "--run", "mine", "--count", 16, "--seed", 0, "--out", out, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Image.open(out).size == (4 * 34 - 2, 4 * 34 - 2)


def test_minutes_are_measured_and_printed(tmp_path):
    done = command("train", "--minutes", 0.01, "--run", "m", *SMALL, home=tmp_path)
    assert done.returncode == 0, done.stderr
    kimg = json.loads((tmp_path / "checkpoints" / "m" / "run.json").read_text())["kimg"]
    assert f"--kimg {kimg!r}\n" in done.stdout and "images a second" in done.stdout


def script(*arguments, home, cwd=REPOSITORY, **environment) -> subprocess.CompletedProcess:
    """`sh download-dataset.sh ...` as a user would."""
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", str(REPOSITORY / "download-dataset.sh"), *map(str, arguments)],
        env={**os.environ, "TOONGAN_HOME": str(home), "PATH": path, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def test_data_by_script_and_command(tmp_path):
    done = command("data", "avatars:adventurer", "--count", 70, "--image-size", 32, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "70 images of 32 px" in done.stdout
    done = script("avatars", "--count", 70, "--image-size", 32, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "data").glob("[!.]*")} == {"avatars-adventurer", "avatars-avataaars"}


@pytest.mark.parametrize("arguments", [[], ["--image-size", 32], ["cartoonset10k", "--image-size", 32]])
def test_script_downloads_cartoon_set_unless_told_otherwise(tmp_path, arguments):
    archive = make_tar(tmp_path / "set.tgz", cartoon_set(64)).read_bytes()
    with Server(archive) as server:
        for _ in range(2):
            done = script(*arguments, home=tmp_path, TOONGAN_MIRROR=server.url)
            assert done.returncode == 0, done.stderr
            assert f"64 images of {32 if arguments else 64} px" in done.stdout
        assert [path for path, _ in server.requests] == ["/cartoonset10k.tgz"]


def test_script_takes_paths_from_where_it_is_called(tmp_path):
    fill_folder(tmp_path / "there" / "my faces", images(66))
    done = script("folder:my faces", "--image-size", 32, home=tmp_path, cwd=tmp_path / "there")
    assert done.returncode == 0, done.stderr
    assert "66 images of 32 px" in done.stdout
    done = script("folder:no faces", home=tmp_path, cwd=tmp_path / "there")
    assert done.returncode == 2 and "error: NAME folder:" in done.stderr and "is not there" in done.stderr


def test_script_explains_itself(tmp_path):
    done = script("--help", home=tmp_path)
    assert done.returncode == 0 and "NAME" in done.stdout
    for name in ("cartoonset10k", "anime-faces", "folder:PATH", "drive"):
        assert name in done.stdout


def test_script_without_the_packages(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    alone = tmp_path / "download-dataset.sh"  # away from the .venv of this repository
    alone.write_bytes((REPOSITORY / "download-dataset.sh").read_bytes())
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "PYTHONNOUSERSITE": "1"}
    done = subprocess.run(["sh", str(alone)], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "-m pip install -r" in done.stderr


def test_help_explains_every_option():
    for name, options in {
        "train": ["--dataset", "--image-size", "--minutes", "--kimg", "--seed", "--run", "--base-channels", "--device"],
        "generate": ["--run", "--count", "--seed", "--out"],
        "data": ["NAME", "--count", "--image-size"],
    }.items():
        done = command(name, "--help", home=REPOSITORY)
        assert done.returncode == 0
        assert f"usage: python -m toongan {name}" in done.stdout, "what to type, word for word"
        for option in options:
            assert option in done.stdout


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["train", "--image-size", 100], "--image-size must be 32, 64, 128 or 256, not 100"),
        (["data", "avatars", "--image-size", 65], "--image-size must be 32, 64, 128 or 256, not 65"),
        (["train", "--dataset", "cats"], "--dataset 'cats' is not known; use avatars"),
        (["train", "--dataset", "avatars:cubism"], "--dataset has no style 'cubism'; choose one of: adventurer"),
        (["data", "avatars:initials"], "NAME has no style 'initials'"),
        (["train", "--minutes", 0], "--minutes must be more than 0, not 0"),
        (["train", "--kimg", -1], "--kimg must be more than 0, not -1"),
        (["train", "--minutes", "nan"], "--minutes must be more than 0, not nan"),
        (["train", "--minutes", 1, "--kimg", 1], "--minutes sets the length of training, and so does kimg"),
        (["train", "--count", 5], "--count must be a whole number from 64 to 1,000,000, not 5"),
        (["data", "avatars", "--count", 1000001], "--count must be a whole number from 64 to 1,000,000"),
        (["data", "folder:/no/such/folder"], "NAME folder:/no/such/folder is not there; check the path"),
        (["train", "--dataset", "zip:/no/such.zip"], "--dataset zip:/no/such.zip is not there; check the path"),
        (["train", "--batch-size", 256, "--count", 100], "--batch-size is 256, more than the 100 images"),
        (["train", "--run", "../evil"], "--run must be a plain name"),
        (["train", "--base-channels", 0], "--base-channels must be a whole number from 4 to 512"),
        (["generate", "--run", "nobody"], "--run nobody has no G.pth"),
        (["generate", "--count", 0], "--count must be a whole number from 1 to 10,000"),
        (["generate", "--out", "grid.txt"], "--out must end in .png, .jpg or .webp"),
    ],
)
def test_wrong_option(tmp_path, arguments, says):
    done = command(*arguments, home=tmp_path)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and says in lines[0], done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["train", "--image-sise", 64], ["train", "--seed", "x"], ["paint"], []])
def test_unknown_option_or_type(tmp_path, arguments):
    done = command(*arguments, home=tmp_path)
    assert done.returncode == 2 and done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_home_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = command("train", *SMALL, home=tmp_path / "file")
    assert done.returncode == 2
    assert "Cannot write to" in done.stderr and "TOONGAN_HOME" in done.stderr and "Traceback" not in done.stderr
    done = command("data", "avatars", home=tmp_path / "file")
    assert done.returncode == 2 and "Cannot write to" in done.stderr


def test_out_in_a_folder_that_cannot_be_made(shared_home, tmp_path):
    (tmp_path / "file").write_text("in the way")
    done = command("generate", "--run", "tiny", "--out", tmp_path / "file" / "grid.png", home=shared_home)
    assert done.returncode == 2 and "Cannot write to" in done.stderr


def test_broken_generator_file(tmp_path):
    folder = tmp_path / "checkpoints" / "r"
    folder.mkdir(parents=True)
    (folder / "G.pth").touch()
    done = command("generate", "--run", "r", "--out", tmp_path / "grid.png", home=tmp_path)
    assert done.returncode == 2 and "G.pth is empty" in done.stderr
    assert not (tmp_path / "grid.png").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_usable_files(tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "toongan", "train", "--run", "r", "--kimg", "1000", *map(str, SMALL)],
        cwd=REPOSITORY,
        env={**os.environ, "TOONGAN_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    seen = ""
    while "real 0" not in seen:  # the bar's first reading: training is under way
        part = process.stdout.read(1)
        assert part, seen
        seen += part
    process.send_signal(number)
    rest, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Everything is saved; run the same command again to continue" in rest and "G.pth" in rest
    info = json.loads((tmp_path / "checkpoints" / "r" / "run.json").read_text())
    assert not info["finished"] and 0 < info["done"] < info["steps"]
    assert load_generator(tmp_path / "checkpoints" / "r" / "G.pth").image_size == 32
    for name in ("losses.png", "scores.png", "generated.gif"):
        assert (tmp_path / "generated" / "r" / name).stat().st_size > 0


@pytest.mark.parametrize("differences", [None, False, True])
def test_options_that_are_printed_mean_the_same_settings(differences):
    config = TrainConfig(colours=8, differences=differences, frames=True, restart=True)
    assert cli.parsed(["train", *options_of(config)]) == config
