"""The package as a whole: which way imports run, what stands where, and earlier import paths."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import house
import pytest
from conftest import REPOSITORY

PACKAGE = REPOSITORY / "toongan"
# What chapters and the README ever told a reader to write.
SHOWN = """
from toongan import avatars, colab, datasets, doctor, hardware, training
from toongan.config import IMAGE_SIZES, check_image_size, check_parameters
from toongan.data import batches, tile, to_pixels, to_tensor
from toongan.engine import JUDGED_SIDE, draw, grid_steps
from toongan.errors import ToonGANError
from toongan.features import NAME, data_features, features_of
from toongan.holdout import evenly, held_out_rows, split, training_rows
from toongan.metrics import AttributeReader, QuickDistance, learnable, nearest
from toongan.models import Discriminator, Generator, init_weights
from toongan.paths import atomic_write, display, generated_folder, writable_folder
from toongan.results import save_film, show_grid
from toongan.nets import save_state
from toongan.runs import Run
from toongan.trainer import draw, seeded
from toongan.training import NonSaturating, RECIPES, Relativistic, bce, train_step
import toongan.engine, toongan.trainer
"""


def lint(folder) -> subprocess.CompletedProcess:
    tool = Path(sys.executable).parent / "lint-imports"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([tool, "--no-cache"], cwd=folder, env=environment, capture_output=True, text=True)


def test_imports_run_one_way():
    done = lint(REPOSITORY)
    assert done.returncode == 0 and re.search(r"[1-9] kept, 0 broken", done.stdout), done.stdout + done.stderr


@pytest.mark.parametrize(
    "module, imported",
    [
        ("models", "from toongan.runs import Run"),
        ("devices/hardware", "from toongan import data"),
        ("datasets/packed", "from toongan.devices import Machine"),
        ("runs/plan", "from toongan.runs import files"),
        ("datasets/names", "from toongan.datasets import images"),
    ],
)
def test_an_import_that_runs_the_other_way_is_seen(tmp_path, module, imported):
    copy_of_the_package(tmp_path)
    file = tmp_path / "toongan" / f"{module}.py"
    file.write_text(f"{imported}  # noqa\n" + file.read_text(encoding="utf-8"), encoding="utf-8")
    done = lint(tmp_path)
    assert done.returncode == 1 and re.search("[1-9] broken", done.stdout), done.stdout + done.stderr


def test_a_new_module_must_be_given_its_place(tmp_path):
    copy_of_the_package(tmp_path)
    (tmp_path / "toongan" / "attic.py").write_text('"""Odds and ends."""\n')
    done = lint(tmp_path)
    assert done.returncode == 1 and "attic" in done.stdout, done.stdout + done.stderr


def copy_of_the_package(folder) -> None:

    shutil.copytree(PACKAGE, folder / "toongan", ignore=shutil.ignore_patterns("__pycache__", "weights"))
    shutil.copy(REPOSITORY / "pyproject.toml", folder)


@pytest.mark.parametrize("line", SHOWN.split("\n")[1:-1])
def test_import_paths_of_earlier_chapters_work(line):
    exec(line, {})


def test_a_name_that_never_was_is_not_found():
    with pytest.raises(ImportError, match="toongan.engine"):
        exec("from toongan.engine import nothing", {})
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("toongan.nothing")


def test_every_folder_says_what_comes_in_and_out_and_who_may_import_it():
    folders = [path.parent for path in PACKAGE.glob("*/__init__.py")]
    assert {folder.name for folder in folders} == {
        "datasets", "devices", "evaluation", "features", "runs", "sharing", "system",
    }  # fmt: skip
    for folder in folders:
        said = importlib.import_module(f"toongan.{folder.name}").__doc__
        assert "Imported by:" in said and (folder.name == "system" or "\nIn: " in said and "\nOut: " in said), folder


def test_a_run_is_one_story():
    """Short enough to be read in one sitting; the loop is in it."""
    story = (PACKAGE / "runs" / "training_loop.py").read_text(encoding="utf-8")
    assert story.count("\n") <= 300
    assert re.search(
        r"while self\.done < plan\.steps.*self\.draw\(\).*\.step\(.*self\.record\(\).*self\.save\(\)", story, re.S
    )


def test_the_places_for_a_change_are_there():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^\| to change or add \| edit \|\n(.*?)^$", readme, re.M | re.S)
    named = re.findall(r"`([\w/]+\.py)`", table)
    assert len(named) >= 12 and [name for name in named if not (PACKAGE / name).is_file()] == []


def test_tests_stand_where_their_subject_stands():
    folders = {
        path.name for path in (REPOSITORY / "tests").iterdir() if path.is_dir() and not path.name.startswith("_")
    }
    assert folders - {"series"} == {path.parent.name for path in PACKAGE.glob("*/__init__.py")}


def test_the_image_shows_the_imports_as_they_are(tmp_path):
    """Drawn anew it says the same: run `make house` where it does not."""

    def said(path) -> list[str]:
        return sorted(re.findall(r"<text[^>]*>([^<]+)</text>", path.read_text(encoding="utf-8")))

    house.draw(tmp_path / "house.svg")
    assert said(house.IMAGE) == said(tmp_path / "house.svg")
