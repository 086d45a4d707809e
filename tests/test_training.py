"""The step of chapter 03 and whole runs of the engine."""

import dataclasses
import hashlib
import itertools
import json

import pytest
import torch
from conftest import DEVICES, TINY
from PIL import Image

import toongan
from toongan import engine, hardware
from toongan.models import Discriminator, Generator, init_weights
from toongan.runs import HISTORY_COLUMNS, Run
from toongan.training import RECIPES, NonSaturating, Relativistic, rate_factor, train_step, update_average

pytestmark = pytest.mark.usefixtures("few_faces")


def players(device="cpu", rate=1e-3):
    G = init_weights(Generator(32, 10, 4)).to(device)
    D = init_weights(Discriminator(32, 4)).to(device)
    adams = [torch.optim.Adam(net.parameters(), rate, (0.5, 0.999)) for net in (G, D)]
    return G, D, *adams


@pytest.mark.parametrize("loss", [NonSaturating, Relativistic])
def test_losses_fall_for_the_winner(loss):
    high, low = torch.full((4,), 2.0), torch.full((4,), -2.0)
    assert loss.discriminator(high, low) < loss.discriminator(low, high)
    assert loss.generator(high, high) < loss.generator(high, low)


def test_non_saturating_is_goodfellows():
    real, fake = torch.randn(8), torch.randn(8)
    expected = -(real.sigmoid().log().mean() + (1 - fake.sigmoid()).log().mean())
    torch.testing.assert_close(NonSaturating.discriminator(real, fake), expected)
    torch.testing.assert_close(NonSaturating.generator(real, fake), -fake.sigmoid().log().mean())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", [NonSaturating, Relativistic])
def test_step_moves_both_nets_and_reports(loss, device):
    torch.manual_seed(0)
    G, D, optimizer_g, optimizer_d = players(device)
    before = [p.detach().clone() for net in (G, D) for p in net.parameters()]
    real = torch.rand(8, 3, 32, 32, device=device) * 2 - 1
    values = train_step(G, D, optimizer_g, optimizer_d, loss, real, torch.randn(8, 10, device=device))
    assert values.shape == (4,) and values.isfinite().all() and not values.requires_grad
    assert 0 < values[2] < 1 and 0 < values[3] < 1
    moved = [not torch.equal(a, p) for a, p in zip(before, [*G.parameters(), *D.parameters()], strict=True)]
    assert all(moved)
    assert all(p.requires_grad for p in D.parameters())


def test_steps_teach_the_discriminator():
    """Against a generator that stands still, D learns to tell real from fake."""
    torch.manual_seed(0)
    G, D, _, optimizer_d = players()
    still = torch.optim.SGD(G.parameters(), lr=0.0)
    real = torch.rand(32, 3, 32, 32) * 0.2 + 0.7
    for _ in range(30):
        values = train_step(G, D, still, optimizer_d, NonSaturating, real, torch.randn(32, 10))
    assert values[2] > 0.9 and values[3] < 0.1


def test_rate_warms_up_and_falls():
    rates = [rate_factor(step, 1000, final=0.1, warmup=50) for step in range(1000)]
    assert rates[0] < 0.05 and max(rates) > 0.98
    assert abs(rates[-1] - 0.1) < 0.01
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rate_factor(0, 1000, final=1.0, warmup=0) == rate_factor(999, 1000, final=1.0, warmup=0) == 1.0


def test_average_follows_the_net():
    net, average = init_weights(Generator(32, 10, 4)), init_weights(Generator(32, 10, 4))
    gap = (net.main[0].weight - average.main[0].weight).abs().mean()
    update_average(average, net, step=20)  # a half-life of one step
    closer = (net.main[0].weight - average.main[0].weight).abs().mean()
    torch.testing.assert_close(closer, gap / 2)


@pytest.mark.parametrize("steps", [20, 199, 401, 19_919])
def test_rows_are_even_and_grids_never_cut_one_short(steps):
    rows, grids = [0, *engine.row_steps(steps)], engine.grid_steps(steps)
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
    assert {"python", "torch", "toongan"} <= info["versions"].keys() and info["device"].startswith(("CPU", "NVIDIA"))
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
    monkeypatch.setattr(engine, "measure_speed", lambda trainer, progress: (trainer.step(0, 9), 100.0)[1])
    by_minutes = toongan.train(toongan.TrainConfig(run="a", minutes=0.1, device="cpu", **TINY), progress=False)
    info = by_minutes.info()
    assert info["steps"] == round(0.1 * 60 * 100 / 16)
    assert info["length"] == {"from": "minutes", "minutes": 0.1, "images_per_second": 100.0}
    by_kimg = toongan.train(toongan.TrainConfig(run="b", kimg=info["kimg"], device="cpu", **TINY), progress=False)
    assert by_kimg.info()["sha256"] == info["sha256"]


@pytest.mark.parametrize("busy", [True, False])
def test_a_busy_machine_is_said(home, monkeypatch, capsys, busy):
    monkeypatch.setattr(engine, "measure_speed", lambda trainer, progress: 100.0)
    monkeypatch.setattr(engine.time, "thread_time", iter([0.0, 0.0 if busy else 1e6]).__next__)
    toongan.train(toongan.TrainConfig(run="r", minutes=0.01, device="cpu", **TINY))
    assert (
        "Other programs keep this machine busy: training has to wait 100% of the time" in capsys.readouterr().out
    ) == busy


def test_speed_is_measured(home):
    data = toongan.prepare(toongan.DataConfig("avatars", 128, 32), progress=False)
    config = toongan.TrainConfig(**TINY, device="cpu")
    trainer = engine.Trainer(config, torch.from_numpy(data.images.copy()), torch.device("cpu"), "fp32")
    assert engine.measure_speed(trainer, seconds=0.2) > 1


def some_trainer(device: str, recipe: str = "modern") -> engine.Trainer:
    images = torch.randint(0, 256, (128, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    device = hardware.choose_device(device)
    return engine.Trainer(toongan.TrainConfig(recipe=recipe, **TINY), images.to(device), device, "fp32")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_recorded_step_is_the_step_itself(device, recipe):
    recorded, plain = some_trainer(device, recipe), some_trainer(device, recipe)
    plain.graphs = False
    for number in range(12):
        if number == 6:  # with other tensors and another rate than those it was recorded with
            recorded.restore(recorded.state(), number)
            recorded.rate_scale = plain.rate_scale = 0.1
        values = [trainer.step(number, 12).cpu() for trainer in (recorded, plain)]
        assert torch.allclose(*values, atol=0.05)
    assert (recorded.graph is not None) == (device == "cuda")


def test_step_that_cannot_be_recorded_is_made_all_the_same():
    wanting, plain = some_trainer("cpu"), some_trainer("cpu")
    wanting.graphs = True  # on a device that has no graphs
    with pytest.warns(UserWarning, match="No CUDA graph"):
        first = wanting.step(0, 3)
    assert torch.equal(first, plain.step(0, 3))
    assert torch.equal(wanting.step(1, 3), plain.step(1, 3))


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


def test_generate_repeats_by_seed(tiny_home, tmp_path):
    paths = [
        toongan.generate(toongan.GenerateConfig("tiny", count=9, seed=seed, out=tmp_path / f"{i}.png"))
        for i, seed in enumerate([5, 5, 6])
    ]
    first, same, other = (path.read_bytes() for path in paths)
    assert first == same != other
    assert Image.open(paths[0]).size == (3 * 34 - 2, 3 * 34 - 2)


def test_run_json_is_strict_json(tiny_home):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads(Run.named("tiny").info_path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_generated_faces_are_not_the_sample_grid(tiny_home, tmp_path):
    """The same seed for training and drawing must still give new faces."""
    path = toongan.generate(toongan.GenerateConfig("tiny", count=64, seed=0, out=tmp_path / "g.png"))
    assert Image.open(path).tobytes() != Image.open(Run.named("tiny").grids[-1]).convert("RGB").tobytes()
