"""The training doctor: real illnesses, recognised from real curves."""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from conftest import TINY

import toongan
from benchmarks import textbook
from toongan.data import batches
from toongan.runs import doctor


def row(loss_d=1.0, loss_g=1.0, real=0.7, fake=0.3, kimg=100.0) -> dict:
    return {"kimg": kimg, "loss_d": loss_d, "loss_g": loss_g, "real_score": real, "fake_score": fake}


def test_discriminator_wins_in_the_textbook_loop(home):
    """PyTorch's official example on the built-in faces: its own losses, norms, rates and widths, but batches of 16."""
    data = toongan.prepare(toongan.DataConfig("avatars", count=128), progress=False)
    history = []
    for values in itertools.islice(textbook_loop(torch.from_numpy(data.images)), 50):
        history.append({"kimg": 0.016, **values})
        if found := doctor.diagnose(history):
            break
    assert found is doctor.D_WON, history[-5:]
    assert "--recipe modern" in found.text


def textbook_loop(images: torch.Tensor) -> Iterator[dict[str, float]]:
    torch.manual_seed(999)  # the one of the tutorial
    cpu = torch.device("cpu")
    return textbook.train(batches(images, 16, torch.Generator().manual_seed(0)), cpu, *textbook.nets(cpu))


def test_healthy_run_gets_no_remark(tiny_home):
    assert toongan.Run.named("tiny").info()["findings"] == []
    shipped = toongan.find_run("avatars-64")
    columns = shipped.history()
    history = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for end in range(1, len(history)):
        assert doctor.diagnose(history[:end]) is None


def test_generator_that_repeats_itself():
    """One face over and over, with a little noise, against 64 faces; early in training it is only fog."""
    chance = np.random.default_rng(0)
    faces = chance.integers(0, 256, (64, 8, 8, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    one = np.clip(faces[:1] + chance.normal(0, 5, faces.shape), 0, 255).astype(np.uint8)
    share = doctor.variety(doctor.look(one)) / doctor.variety(doctor.look(faces))
    assert doctor.diagnose([row()] * 12, share) is doctor.G_REPEATS
    assert doctor.diagnose([row(kimg=5.0)] * 12, share) is None
    assert doctor.diagnose([row()] * 12, 0.9) is None


def test_shipped_faces_are_varied(tmp_path, home):
    """What a good generator draws is nearly as varied as the data: far from the line of the doctor."""
    data = toongan.prepare(toongan.DataConfig("avatars", count=256), progress=False)
    from toongan.runs.trainer import draw

    G = toongan.load_generator(toongan.find_run("avatars-64").generator_path)
    samples = draw(G, torch.randn(64, G.latent_dim, generator=torch.Generator().manual_seed(0)))
    share = doctor.variety(doctor.look(samples)) / doctor.variety(doctor.look(data.images))
    assert share > 0.7


def test_nothing_moves():
    assert doctor.diagnose([row(1.386, 0.693, 0.5, 0.5)] * 12) is doctor.NOTHING_MOVES
    assert doctor.diagnose([row(1.386, 0.693, 0.5, 0.5)] * 3) is None
    assert doctor.diagnose([row(1.386 - i / 20, 0.693, 0.5, 0.5) for i in range(12)]) is None


def test_a_run_that_falls_ill_says_so_once(home, few_faces, monkeypatch, capsys):
    """D sees every fake through: the sentence is printed once and kept in run.json."""
    from toongan.runs import trainer

    monkeypatch.setattr(trainer, "train_step", lambda *arguments: torch.tensor([0.01, 9.0, 0.99, 0.01]))
    run = toongan.train(toongan.TrainConfig(run="r", kimg=0.64, device="cpu", **TINY))
    assert run.info()["findings"] == ["D has won"]
    assert capsys.readouterr().out.count("D has won: its loss is near 0") == 1
