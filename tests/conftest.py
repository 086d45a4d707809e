"""Shared by all tests: a temporary home, tiny runs, the command line."""

import functools
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from browser import chromium, firefox  # noqa: F401  fixtures

matplotlib.use("Agg")
# A shell starts its background processes with SIGINT ignored, which their children inherit: tests that press Ctrl-C need it.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("[0-9][0-9]_*.ipynb"))
DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
FEW = 240
TINY = {"count": 128, "image_size": 32, "base_channels": 4, "batch_size": 16}
COMMAND = ["--count", 128, "--image-size", 32, "--base-channels", 4, "--batch-size", 16, "--device", "cpu"]


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty TOONGAN_HOME."""
    monkeypatch.setenv("TOONGAN_HOME", str(tmp_path))
    return tmp_path


def drawn_once(tmp_path_factory, worker_id: str, name: str, count: int, image_size: int) -> Path:
    """A TOONGAN_HOME with that many avatars, drawn once for all test processes; tests only read it."""
    import toongan

    root = tmp_path_factory.getbasetemp()
    folder = (root if worker_id == "master" else root.parent) / name
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOONGAN_HOME", str(folder))
        toongan.prepare(toongan.DataConfig(count=count, image_size=image_size), progress=False)
    return folder


@pytest.fixture(scope="session")
def few_drawn(tmp_path_factory, worker_id) -> Path:
    """The images of tiny runs."""
    return drawn_once(tmp_path_factory, worker_id, "few", TINY["count"], TINY["image_size"])


@pytest.fixture(scope="session")
def all_drawn(tmp_path_factory, worker_id) -> Path:
    """The images that the shipped runs learned from, and that a run takes if nobody says how many: a minute's work."""
    return drawn_once(tmp_path_factory, worker_id, "all", 20_000, 64)


@pytest.fixture
def few_faces(few_drawn, tmp_path) -> None:
    """In this test's home, the images of tiny runs are there: drawing them would take longer than the run."""
    shutil.copytree(few_drawn, tmp_path, dirs_exist_ok=True)


@pytest.fixture
def all_faces(all_drawn, tmp_path) -> None:
    """In this test's home, 20,000 avatars of 64 px are there."""
    (folder,) = all_drawn.glob("data/avatars-*/64px")
    place = tmp_path / folder.relative_to(all_drawn)
    place.parent.mkdir(parents=True)
    place.symlink_to(folder)


@pytest.fixture
def quick_speed(monkeypatch) -> None:
    """Runs given in minutes measure their speed for a moment, not for seconds."""
    from toongan.runs import length, trainer

    monkeypatch.setattr(length, "measure_speed", functools.partial(trainer.measure_speed, seconds=0.1))


@pytest.fixture(scope="session")
def shared_home(tmp_path_factory, few_drawn) -> Path:
    """A TOONGAN_HOME with one small finished run called `tiny`; tests only read it."""
    import toongan

    folder = shutil.copytree(few_drawn, tmp_path_factory.mktemp("home"), dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOONGAN_HOME", str(folder))
        toongan.train(toongan.TrainConfig(run="tiny", kimg=0.64, device="cpu", **TINY), progress=False)
    return folder


@pytest.fixture
def tiny_home(shared_home, monkeypatch) -> Path:
    monkeypatch.setenv("TOONGAN_HOME", str(shared_home))
    return shared_home


@contextmanager
def stopping_at(step: int):
    """Whoever trains is interrupted before this step, as by Ctrl-C."""
    from toongan.runs.trainer import Trainer

    original = Trainer.step

    def stopping(self, number, steps):
        if number == step:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, number, steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", stopping)
        yield


def results(run) -> dict:
    """All that must be the same, however often a run was stopped: nets, curves, last grid. Files by their SHA-256."""
    history = {name: values for name, values in run.history().items() if name != "seconds"}
    paths = run.generator_path, run.discriminator_path, *run.grids
    return {"history": history, **{path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}}


@pytest.fixture(scope="session")
def drawn() -> tuple[np.ndarray, list[dict]]:
    """720 avatars at 64 px, and their labels."""
    from toongan.datasets import avatars

    pairs = [avatars.draw("avataaars", number, 64) for number in range(3 * FEW)]
    names = sorted(set().union(*(seen for _, seen in pairs)))
    labels = [{name: seen.get(name, "") or "" for name in names} for _, seen in pairs]
    return np.stack([pixels for pixels, _ in pairs]), labels


@pytest.fixture(scope="session")
def real(drawn) -> tuple[np.ndarray, np.ndarray]:
    """Features of two halves of real images."""
    from toongan.features import features_of

    found = features_of(drawn[0][: 2 * FEW], side=96)
    return found[::2], found[1::2]


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


class SmallDisk:
    """A place for 2 MB, later for 4: a small file system, or a limit on the size of a file for who may not mount one."""

    def __init__(self, place: Path):
        place.mkdir()
        self.place, self.limit = place, resource.RLIM_INFINITY
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
        self.mounted = subprocess.run(mount, capture_output=True).returncode == 0

    def fill(self) -> None:
        if self.mounted:
            (self.place / "filler").write_bytes(bytes(2 << 20))
        else:
            self.limit = 2 << 20

    def free(self) -> None:
        self.limit = resource.RLIM_INFINITY
        (self.place / "filler").unlink(missing_ok=True)

    def run(self, *arguments, **environment) -> subprocess.CompletedProcess:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        return subprocess.run(
            [sys.executable, "-m", "toongan", *map(str, arguments)],
            cwd=REPOSITORY,
            env={**os.environ, "TOONGAN_HOME": str(self.place), **environment},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, hard)),
            capture_output=True,
            text=True,
        )

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "--lazy", self.place], check=True)


@pytest.fixture
def small_disk(tmp_path):
    disk = SmallDisk(tmp_path / "small")
    yield disk
    disk.close()


# The longest tests, which begin before all others: so that no process works alone at the end.
LONGEST = (
    "test_every_command_runs",
    "test_runs_on_its_own[04_results]",
    "test_runs_in_order",
    "test_runs_on_its_own[06_better_faces]",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.name.startswith(LONGEST))
