"""Images that D sees changed: for any run, and to the same bytes after a stop."""

import dataclasses
import os
import signal

import pytest
import torch
from conftest import TINY, results

import toongan
from toongan import ToonGANError, TrainConfig
from toongan.conditional import Attributes
from toongan.devices import Machine
from toongan.runs import trainer
from toongan.runs.asking import Asked
from toongan.runs.trainer import Trainer
from toongan.variants import augment

KINDS = ("flips", "diffaugment", "both")
IMAGES = torch.randint(0, 256, (64, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def new_trainer(kind: str, asked: Asked | None = None, **changes) -> Trainer:
    config = TrainConfig(run="r", augment=kind, device="cpu", **{**TINY, **changes})
    return Trainer(config, IMAGES, Machine(torch.device("cpu")), asked=asked)


def test_the_same_chances_change_images_in_the_same_way():
    images = IMAGES[:8].permute(0, 3, 1, 2) / 127.5 - 1
    chances = torch.rand(8, 7, generator=torch.Generator().manual_seed(0))
    once, again = augment(images, chances), augment(images, chances)
    assert torch.equal(once, again) and once.shape == images.shape
    other = augment(images, chances.roll(1, 0))
    assert all(not torch.equal(one, two) for one, two in zip(once, other))
    half = torch.full((8, 7), 0.5)  # neither brighter nor greyer, not shifted: a hole in the middle
    middle = augment(images, half)
    assert torch.allclose(middle[:, :, :8], images[:, :, :8], atol=1e-5) and not middle[:, :, 12:20, 12:20].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recipe", ["modern", "classic"])
def test_d_sees_changed_images_and_g_draws_whole_ones(kind, recipe, monkeypatch):
    made, seen = new_trainer(kind, recipe=recipe), []
    made.D.register_forward_pre_hook(lambda _, images: seen.append(images[0].detach().float()))
    plain = new_trainer("none", recipe=recipe)
    for number in range(3):
        batch = next(plain.stream)
        real = IMAGES[batch].permute(0, 3, 1, 2) / 127.5 - 1
        seen.clear()
        assert made.step(number, 10).isfinite().all()
        looked = torch.cat(seen)
        assert len(looked) == 3 * 16, "at real, at generated images, and at these for G"
        mine = looked[:16]
        as_they_are = (mine - real).abs().amax((1, 2, 3)) < 0.02
        mirrored = (mine - real.flip(3)).abs().amax((1, 2, 3)) < 0.02
        if kind == "flips":
            assert (as_they_are | mirrored).all() and 2 <= mirrored.sum() <= 14
        else:
            assert not (as_they_are | mirrored).any()
        fake, again = looked[16:32], looked[32:]
        same = torch.allclose(fake, again, atol=0.02)
        assert same is (kind == "flips"), "G's are changed anew when D looks again"


@pytest.mark.usefixtures("few_faces")
@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_ends_with_the_same_bytes(home, kind, monkeypatch):
    config = TrainConfig(run="whole", kimg=0.64, augment=kind, device="cpu", save_seconds=0, **TINY)
    expected = results(toongan.train(config, progress=False))
    original = trainer.Trainer.step

    def stopping(self, number, steps):
        if number == 17:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, number, steps)

    again = dataclasses.replace(config, run="again")
    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "step", stopping)
        assert not toongan.train(again, progress=False).info()["finished"]
    assert results(toongan.train(again, progress=False)) == expected


def test_wishes_and_changes_go_together():
    numbers = torch.arange(64).view(-1, 1) % 4
    asked = Asked(Attributes({"kind": list("abcd")}, numbers), numbers)
    made = new_trainer("both", asked, latent_dim=8)
    for number in range(3):
        assert made.step(number, 10).isfinite().all()
    assert made.G.latent_dim == 12


def test_a_kind_that_is_none():
    with pytest.raises(ToonGANError, match="augment must be one of none, flips, diffaugment, both, not 'mirror'"):
        TrainConfig(augment="mirror")
