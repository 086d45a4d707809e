"""The training doctor: real failures, recognised from real curves and samples."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from conftest import TINY

import toongan
from benchmarks import textbook
from toongan.data import batches
from toongan.runs import doctor, draw


def row(loss_d=1.0, loss_g=1.0, real=0.7, fake=0.3, kimg=100.0) -> dict:
    return {"kimg": kimg, "loss_d": loss_d, "loss_g": loss_g, "real_score": real, "fake_score": fake}


def test_discriminator_wins_in_the_textbook_loop(home):
    """PyTorch's official example on the built-in faces: its own losses, norms, learning rates and widths, but batches of 16."""
    data = toongan.prepare(toongan.DataConfig("avatars", count=128), progress=False)
    history = []
    for values in itertools.islice(textbook_loop(torch.from_numpy(data.images)), 50):
        history.append({"kimg": 0.016, **values})
        if found := doctor.diagnose(history):
            break
    assert found is doctor.D_WON, history[-5:]
    assert "--recipe modern" in found.text


def textbook_loop(images: torch.Tensor) -> Iterator[dict[str, float]]:
    torch.manual_seed(999)  # as in the tutorial
    cpu = torch.device("cpu")
    return textbook.train(batches(images, 16, torch.Generator().manual_seed(0)), cpu, *textbook.nets(cpu))


BUNDLED = ("avatars-64", "avatars-128", "adventurer-64", "on-request-64")


def test_healthy_run_gets_no_remark(tiny_home):
    assert toongan.Run.named("tiny").info()["findings"] == []


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_run_gets_no_remark(home, name):
    columns = toongan.find_run(name).history()
    history = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for end in range(1, len(history) + 1):
        assert doctor.diagnose(history[:end], 0.9, 0.5) is None


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("name", doctor.CURVES)
def test_loss_that_is_not_a_number(name, broken):
    """Said at once, after the first row too."""
    for before in (0, 12):
        history = [row()] * before + [row() | {name: broken}]
        assert doctor.diagnose(history) is doctor.NOT_A_NUMBER
    assert doctor.diagnose([row() | {"distance": None}] * 12) is None


def test_generator_that_repeats_itself():
    """One face again and again, with a little noise, against 64 faces; early in training it is only fog."""
    chance = np.random.default_rng(0)
    faces = chance.integers(0, 256, (64, 8, 8, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    one = np.clip(faces[:1] + chance.normal(0, 5, faces.shape), 0, 255).astype(np.uint8)
    share = doctor.variety(doctor.look(one)) / doctor.variety(doctor.look(faces))
    assert doctor.diagnose([row()] * 12, share) is doctor.G_REPEATS
    assert doctor.diagnose([row(kimg=5.0)] * 12, share) is None
    assert doctor.diagnose([row()] * 12, 0.9) is None


def samples_of(G: torch.nn.Module) -> np.ndarray:
    return draw(G, torch.randn(64, G.latent_dim, generator=torch.Generator().manual_seed(0)))


def test_bundled_faces_are_varied_and_smooth(home):
    """Samples of a good generator are nearly as varied as the data, and as free of weave: far from the doctor's limits."""
    data = toongan.prepare(toongan.DataConfig("avatars", count=256), progress=False)
    samples = samples_of(toongan.load_generator(toongan.find_run("avatars-64").generator_path))
    share = doctor.variety(doctor.look(samples)) / doctor.variety(doctor.look(data.images))
    assert share > 0.7
    assert doctor.weave(samples) - doctor.weave(data.images) < doctor.WOVEN / 2


def test_free_kernels_leave_a_checkerboard(few_faces):
    """A bundled generator whose last kernel is no longer smooth: the four pixels of each square no longer agree."""
    data = toongan.prepare(toongan.DataConfig("avatars", count=TINY["count"], image_size=32), progress=False)
    G = toongan.load_generator(toongan.find_run("avatars-64").generator_path)
    last = [module for module in G.modules() if isinstance(module, torch.nn.ConvTranspose2d)][-1]
    excess = []
    for strength in (0.0, 0.2):
        with torch.no_grad():
            last.weight[..., ::2, ::2] *= 1 + strength
            last.weight[..., 1::2, 1::2] *= 1 + strength
        samples = samples_of(G)
        excess.append(doctor.weave(samples) - doctor.weave(data.images))
    share = doctor.variety(doctor.look(samples)) / doctor.variety(doctor.look(data.images))
    assert doctor.diagnose([row()] * 12, share, excess[0]) is None
    assert doctor.diagnose([row()] * 12, share, excess[1]) is doctor.CHECKERBOARD


def test_one_woven_image_is_no_checkerboard():
    """One image again and again is the greater failure, and early fog is none."""
    assert doctor.diagnose([row()] * 12, 0.1, 5.0) is doctor.G_REPEATS
    assert doctor.diagnose([row(kimg=5.0)] * 12, 0.1, 5.0) is None


@pytest.mark.parametrize("edge", ["none", "upright", "level"])
def test_weave_ignores_edges(edge):
    """It is what alternates both ways; edges along rows or columns do not, nor do slopes."""
    slope = np.add.outer(np.arange(32), np.arange(32)) * 2
    if edge != "none":
        slope[np.indices(slope.shape)[int(edge == "upright")] % 4 > 1] += 60
    images = np.repeat(slope.astype(np.uint8)[None, :, :, None], 3, 3)
    assert doctor.weave(images) == 0
    for rows, weave in ((8, 0), (32, 4)):  # in a few places, as in any drawing, and everywhere
        woven = images.copy()
        woven[:, :rows:2, ::2] += 8
        woven[:, 1:rows:2, 1::2] += 8
        assert doctor.weave(woven) == weave


def test_nothing_moves():
    assert doctor.diagnose([row(1.386, 0.693, 0.5, 0.5)] * 12) is doctor.NOTHING_MOVES
    assert doctor.diagnose([row(1.386, 0.693, 0.5, 0.5)] * 3) is None
    assert doctor.diagnose([row(1.386 - i / 20, 0.693, 0.5, 0.5) for i in range(12)]) is None


def test_a_failing_run_says_so_once(home, few_faces, monkeypatch, capsys):
    """D tells every fake from a real image: the sentence is printed once and kept in run.json."""
    from toongan.runs import trainer

    monkeypatch.setattr(trainer, "train_step", lambda *arguments: torch.tensor([0.01, 9.0, 0.99, 0.01]))
    run = toongan.train(toongan.TrainConfig(run="r", kimg=0.64, device="cpu", **TINY))
    assert run.info()["findings"] == ["D has won"]
    assert capsys.readouterr().out.count("D has won: its loss is near 0") == 1


@pytest.mark.parametrize("recipe, found", [("classic", ["checkerboard"]), ("modern", [])])
def test_a_checkerboard_is_reported_where_the_remedy_helps(recipe, found, home, few_faces, monkeypatch):
    """Free kernels are measured in a run, too. Smooth ones are what the sentence advises, so they are not."""
    monkeypatch.setattr(doctor, "WOVEN", -1000.0)
    monkeypatch.setattr(doctor, "POOR_VARIETY", 0.0)
    run = toongan.train(toongan.TrainConfig(run="r", kimg=0.64, device="cpu", recipe=recipe, **TINY), progress=False)
    assert run.info()["findings"] == found
