"""Whole runs."""

import dataclasses
import hashlib
import itertools
import json

import pytest
import torch
from conftest import DEVICES, TINY
from PIL import Image

import toongan
from toongan.devices import Machine, hardware
from toongan.models import Generator
from toongan.runs import length, plan, trainer
from toongan.runs.files import HISTORY_COLUMNS, Run
from toongan.training import RECIPES

pytestmark = pytest.mark.usefixtures("few_faces")


@pytest.mark.parametrize("steps", [20, 199, 401, 19_919])
def test_rows_are_even_and_grids_never_cut_one_short(steps):
    rows, grids = [0, *plan.row_steps(steps)], plan.grid_steps(steps)
    gaps = {after - before for before, after in itertools.pairwise(rows)}
    assert rows[-1] == grids[-1] == steps and max(gaps) - min(gaps) <= 1 and len(rows) <= 201
    assert grids[0] == 0 and set(grids) <= set(rows) and len(grids) >= 16


@pytest.mark.parametrize("recipe", RECIPES)
def test_run_leaves_its_files(home, recipe):
    run = toongan.train(toongan.TrainConfig(run="r", kimg=0.64, recipe=recipe, **TINY), progress=False)
    info = run.info()
    for path in (run.generator_path, run.discriminator_path):
        assert info["sha256"][path.name] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert info["finished"] and info["steps"] == 40 and info["kimg"] == 0.64
    assert info["settings"]["recipe"] == recipe and info["seed"] == 0 and len(info["data"]["fingerprint"]) == 64
    assert {"python", "torch", "toongan"} <= info["versions"].keys()
    assert info["device"] == str(Machine.on(hardware.choose_device()))
    assert run.history_path.read_text().splitlines()[0] == ",".join(HISTORY_COLUMNS)
    history = run.history()
    assert len(history["step"]) >= 20 and history["step"][-1] == 40
    assert history["kimg"][-1] == 0.64
    assert all(0 <= value <= 1 for name in ("real_score", "fake_score") for value in history[name])
    assert history["seconds"] == sorted(history["seconds"])
    grids = run.grids
    assert len(grids) > 3 and [path.name for path in grids] == [f"samples-{i:03d}.png" for i in range(len(grids))]
    with Image.open(grids[-1]) as grid:
        assert grid.size == (8 * 34 - 2, 8 * 34 - 2)
    with Image.open(run.generated / "generated.gif") as film:
        assert film.n_frames == len(grids)
    for name in ("losses.png", "scores.png"):
        Image.open(run.generated / name).verify()


def test_first_and_last_grid_differ(tiny_home):
    grids = Run.named("tiny").grids
    assert Image.open(grids[0]).tobytes() != Image.open(grids[-1]).tobytes()


def test_files_load_with_torch_alone(tiny_home):
    run = Run.named("tiny")
    for path in (run.generator_path, run.discriminator_path):
        state = torch.load(path, weights_only=True)
        assert all(isinstance(value, torch.Tensor) and value.device.type == "cpu" for value in state.values())
    net = Generator(32, 100, 4)
    net.load_state_dict(torch.load(run.generator_path, weights_only=True))


def test_second_run_sets_the_first_aside(home):
    long = toongan.train(toongan.TrainConfig(run="r", kimg=0.64, **TINY), progress=False)
    count, bytes_before = len(long.grids), long.generator_path.read_bytes()
    short = toongan.train(toongan.TrainConfig(run="r", kimg=0.32, **TINY), progress=False)
    assert short.info()["steps"] == 20 and len(short.grids) < count
    with Image.open(short.generated / "generated.gif") as film:
        assert film.n_frames == len(short.grids)
    previous = Run.named("r-previous")
    assert previous.generator_path.read_bytes() == bytes_before and len(previous.grids) == count
    info = short.info()
    toongan.train(toongan.TrainConfig(run="r", kimg=0.32, restart=True, **TINY), progress=False)
    assert Run.named("r-previous-2").info() == info
    assert previous.generator_path.read_bytes() == bytes_before, "a third run leaves the first alone"
    names = {path.name for path in previous.checkpoints.glob("*.pt")}
    assert names == {"last.pt"}, "which is enough to make it longer, or to write its files again"


def test_tiny_budget_still_gives_twenty_rows(home):
    run = toongan.train(toongan.TrainConfig(run="r", kimg=0.001, **TINY), progress=False)
    assert len(run.history()["step"]) == 20


def test_minutes_become_images_that_kimg_repeats(home, monkeypatch):
    monkeypatch.setattr(length, "measure_speed", lambda trainer, progress: (trainer.step(0, 9), 100.0)[1])
    by_minutes = toongan.train(toongan.TrainConfig(run="a", minutes=0.1, device="cpu", **TINY), progress=False)
    info = by_minutes.info()
    assert info["steps"] == round(0.1 * 60 * 100 / 16)
    assert info["length"] == {"from": "minutes", "minutes": 0.1, "images_per_second": 100.0}
    by_kimg = toongan.train(toongan.TrainConfig(run="b", kimg=info["kimg"], device="cpu", **TINY), progress=False)
    assert by_kimg.info()["sha256"] == info["sha256"]


@pytest.mark.parametrize("busy, threads", [(True, 2), (True, 1), (False, 2)])
def test_a_busy_machine_is_said(few_faces, home, monkeypatch, capsys, busy, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(length, "measure_speed", lambda trainer, progress: 100.0)
    monkeypatch.setattr(length.time, "thread_time", iter([0.0, 0.0 if busy else 1e6]).__next__)
    toongan.train(toongan.TrainConfig(run="r", minutes=0.01, device="cpu", **TINY))
    said = capsys.readouterr().out
    assert ("Other programs keep this machine busy: training has to wait 100% of the time. Close them" in said) == busy
    assert ("start over with OMP_NUM_THREADS=1" in said) == (busy and threads > 1), "with one thread it is no remedy"


def test_speed_is_measured(home):
    data = toongan.prepare(toongan.DataConfig("avatars", 128, 32), progress=False)
    config = toongan.TrainConfig(**TINY, device="cpu")
    images, machine = torch.from_numpy(data.images.copy()), Machine(torch.device("cpu"))
    assert trainer.measure_speed(trainer.Trainer(config, images, machine), seconds=0.2) > 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_same_seed_same_bytes(home, recipe):
    config = toongan.TrainConfig(run="a", kimg=0.32, recipe=recipe, device="cpu", **TINY)
    first = toongan.train(config, progress=False)
    torch.randn(7)  # chance elsewhere in the process changes nothing
    second = toongan.train(dataclasses.replace(config, run="b"), progress=False)
    other = toongan.train(dataclasses.replace(config, run="c", seed=1), progress=False)
    for name in ("generator_path", "discriminator_path"):
        assert getattr(first, name).read_bytes() == getattr(second, name).read_bytes()
        assert getattr(first, name).read_bytes() != getattr(other, name).read_bytes()


@pytest.mark.parametrize(
    "device, precision",
    [("cpu", "fp32"), ("cpu", "bf16")] + [(d, "fp16") for d in DEVICES if d != "cpu"],
)
def test_every_precision_trains(home, device, precision):
    config = toongan.TrainConfig(run="p", kimg=0.32, device=device, precision=precision, **TINY)
    run = toongan.train(config, progress=False)
    assert run.info()["settings"]["precision"] == precision
    G = toongan.load_generator(run.generator_path)
    assert all(weights.dtype == torch.float32 and weights.isfinite().all() for weights in G.parameters())


def test_home_is_moved_by_the_environment(home):
    settings = TINY | {"image_size": 64}  # those of 32 px are there already
    run = toongan.train(toongan.TrainConfig(run="r", kimg=0.32, **settings), progress=False)
    assert run.checkpoints == home / "checkpoints" / "r" and run.generated == home / "generated" / "r"
    assert (home / "data" / "avatars-avataaars" / "64px" / "images.npy").exists()


def test_run_json_is_strict_json(tiny_home):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads(Run.named("tiny").info_path.read_text(encoding="utf-8"), parse_constant=refuse)
