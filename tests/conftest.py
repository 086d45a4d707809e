"""Shared by all tests: a temporary home, tiny runs, the command line."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
import torch

matplotlib.use("Agg")

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("[0-9][0-9]_*.ipynb"))
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
TINY = {"count": 128, "image_size": 32, "base_channels": 4, "batch_size": 16}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty TOONGAN_HOME."""
    monkeypatch.setenv("TOONGAN_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory) -> Path:
    """A TOONGAN_HOME with one small finished run called `tiny`; tests only read it."""
    import toongan

    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOONGAN_HOME", str(folder))
        toongan.train(toongan.TrainConfig(run="tiny", kimg=0.64, device="cpu", **TINY), progress=False)
    return folder


@pytest.fixture
def tiny_home(shared_home, monkeypatch) -> Path:
    monkeypatch.setenv("TOONGAN_HOME", str(shared_home))
    return shared_home


def command(*arguments, home: Path, timeout: int = 300, **options) -> subprocess.CompletedProcess:
    """Run `python -m toongan ...` as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "toongan", *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "TOONGAN_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=timeout,
        **options,
    )
