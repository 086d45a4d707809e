"""Google Colab, with a stand-in for its module: Drive, downloads, a machine that is taken away in the middle."""

import json
import re
import subprocess
import sys
import types
import venv
from pathlib import Path

import pytest
from conftest import NOTEBOOKS, REPOSITORY, TINY

import toongan
from toongan.runs import trainer
from toongan.system import colab, notebook
from toongan.system.notebook import OFTEN_MISSING

# The command line and terminals want them, no cell does.
NOT_IN_CHAPTERS = {"kaggle", "jupyter"}


class Colab:
    """What a chapter may ask of Colab, and what was asked."""

    def __init__(self, allowed: bool = True):
        self.allowed, self.mounted, self.downloaded = allowed, [], []

    def install(self, monkeypatch) -> "Colab":
        package = types.ModuleType("google.colab")
        package.drive = types.SimpleNamespace(mount=self.mount)
        package.files = types.SimpleNamespace(download=self.downloaded.append)
        monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
        monkeypatch.setitem(sys.modules, "google.colab", package)
        return self

    def mount(self, place: str) -> None:
        if not self.allowed:
            raise ValueError("mount failed")
        self.mounted.append(place)


@pytest.fixture
def drive(monkeypatch, tmp_path) -> Path:
    folder = tmp_path / "drive" / "projects" / "cartoons"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TOONGAN_DRIVE", str(folder))
    return folder


def quickstart(**parameters) -> dict:
    """Run all of chapter 00 in this process; gives its names."""
    names = {"__name__": "__main__"}
    for cell in json.loads(NOTEBOOKS[0].read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
            if "parameters" in cell["metadata"].get("tags", []):
                names.update(parameters)
    return names


SMALL = {"COUNT": 128, "IMAGE_SIZE": 32, "MINUTES": 0.01}


def test_default_path_asks_colab_for_nothing(home, few_faces, quick_speed, monkeypatch):
    stand_in = Colab().install(monkeypatch)
    quickstart(**SMALL)
    assert stand_in.mounted == stand_in.downloaded == []


def test_disconnected_in_the_middle(home, few_faces, drive, monkeypatch, tmp_path, capsys):
    """The machine is taken away; on a fresh one, Run all goes on from Drive and ends with the same bytes."""
    stand_in = Colab().install(monkeypatch)
    settings = {**TINY, "kimg": 0.64, "run": "colab"}
    whole = toongan.train(toongan.TrainConfig(**{**settings, "run": "whole"}), progress=False).info()["sha256"]

    steps, whole_step = [], trainer.Trainer.step

    def taken_away(self, number, total):
        steps.append(number)
        if number == 21:
            raise SystemExit
        return whole_step(self, number, total)

    monkeypatch.setattr(trainer.Trainer, "step", taken_away)
    with pytest.raises(SystemExit):
        toongan.train(toongan.TrainConfig(**settings, save_seconds=0, mirror=colab.mirror_in_drive()), progress=False)
    assert stand_in.mounted == ["/content/drive"] and list((drive / "checkpoints" / "colab").iterdir())

    monkeypatch.setattr(trainer.Trainer, "step", whole_step)
    monkeypatch.setenv("TOONGAN_HOME", str(tmp_path / "fresh machine"))
    run = toongan.train(toongan.TrainConfig(**settings, mirror=colab.mirror_in_drive()), progress=True)
    assert "in the mirror" in capsys.readouterr().out
    assert run.info()["sha256"] == whole


def test_run_all_in_colab_mirrors_and_downloads(home, few_faces, quick_speed, drive, monkeypatch):
    stand_in = Colab().install(monkeypatch)
    quickstart(**SMALL, DRIVE=True, DOWNLOAD=True)
    assert stand_in.mounted == ["/content/drive"]
    assert [Path(path).name for path in stand_in.downloaded] == ["G.pth", "D.pth"]
    assert list((drive / "checkpoints" / "quickstart").iterdir())


def test_drive_refused_or_not_in_colab(home, drive, monkeypatch):
    with pytest.raises(toongan.ToonGANError, match="DRIVE is for Google Colab; set it to False"):
        quickstart(**SMALL, DRIVE=True)
    Colab(allowed=False).install(monkeypatch)
    with pytest.raises(toongan.ToonGANError, match="DRIVE could not be mounted .*allow access, or set DRIVE to False"):
        quickstart(**SMALL, DRIVE=True)
    assert not (home / "checkpoints").exists()


def test_requirements_replace_nothing_that_colab_has(tmp_path):
    """A dry run of pip in an environment that looks like Colab's."""
    listed = (Path(__file__).parent / "colab-packages.txt").read_text(encoding="utf-8")
    there = dict(re.findall(r"^([\w-]+)==(\S+)$", listed, re.M))
    assert {"torch", "torchvision", "numpy", "pillow"} <= there.keys()
    venv.create(tmp_path / "colab")
    packages = next((tmp_path / "colab").glob("lib/python*/site-packages"))
    for name, version in there.items():
        stand_in = packages / f"{name.replace('-', '_')}-{version}.dist-info"
        stand_in.mkdir()
        (stand_in / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    report = tmp_path / "report.json"
    pip = [sys.executable, "-m", "pip", "--python", str(tmp_path / "colab" / "bin" / "python")]
    options = ["install", "--dry-run", "--report", str(report), "-r", str(REPOSITORY / "requirements.txt")]
    done = subprocess.run([*pip, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    new = {item["metadata"]["name"].lower().replace("_", "-") for item in json.loads(report.read_text())["install"]}
    assert "dicebear-core" in new and not new & there.keys()
    wanted = re.findall(r"^([\w-]+)", (REPOSITORY / "requirements.txt").read_text(encoding="utf-8"), re.M)
    missing = {name.replace("_", "-") for name in wanted} & new
    looked_for = {name.replace("_", "-") for name in OFTEN_MISSING}
    assert missing - {"dicebear-core"} <= looked_for | NOT_IN_CHAPTERS and looked_for <= missing | {"dicebear"}


def test_packages_that_cannot_be_installed_are_named(monkeypatch):
    monkeypatch.setattr(notebook, "find_spec", lambda name: None if name == "imagehash" else name)
    monkeypatch.setattr(notebook.subprocess, "run", lambda *_, **__: types.SimpleNamespace(returncode=1))
    with pytest.raises(toongan.ToonGANError, match="could not install them: imagehash. Check the network"):
        notebook.install_missing()
