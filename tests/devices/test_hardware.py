"""What is chosen for which machine."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from pretend_gpu import pretended

import toongan
from toongan.datasets import PackedDataset
from toongan.devices import Machine, hardware
from toongan.runs.record import decided

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "tiles, bf16, vendor, precision",
    [
        (True, True, "GenuineIntel", "bf16"),
        (False, True, "vendor_id\t: AuthenticAMD", "bf16"),
        (False, True, "AMD64 Family 26 Model 2, AuthenticAMD", "bf16"),
        (False, True, "GenuineIntel", "fp32"),
        (False, False, "AuthenticAMD", "fp32"),
        (False, False, "", "fp32"),
    ],
)
def test_a_cpu_trains_in_the_precision_it_is_fast_at(monkeypatch, tiles, bf16, vendor, precision):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(hardware, "cpu_vendor", lambda: vendor)
    assert hardware.choose_precision("auto", CPU) == precision
    assert hardware.choose_precision("fp32", CPU) == "fp32"


def test_the_maker_of_the_processor_is_known():
    assert hardware.cpu_vendor()


def data_of(images: np.ndarray) -> PackedDataset:
    return PackedDataset(Path(), images, {}, "")


FLAT = data_of(np.full((256, 8, 8, 3), 200, np.uint8))
NOISY = data_of(np.random.default_rng(0).integers(0, 256, (256, 8, 8, 3), np.uint8))


def test_settings_that_are_left_open_are_those_of_the_run_or_suit_the_machine():
    config, here = toongan.TrainConfig(), Machine.on(CPU)
    new = decided(config, here, None, NOISY, 20_000)
    assert (new.batch_size, new.base_channels) == (64, 16)
    assert decided(config, here, None, NOISY, 63).batch_size == 32
    before = {"settings": {"batch_size": 16, "base_channels": 8}}
    assert decided(config, here, before, FLAT.in_grey(), 20_000) == toongan.TrainConfig(
        batch_size=16, base_channels=8, channels=1, colours=0, differences=False
    )
    assert decided(toongan.TrainConfig(batch_size=96), here, None, NOISY, 20_000).batch_size == 96
    with pretended("Tesla T4", (7, 5)):
        on_a_gpu = decided(config, Machine.on(torch.device("cuda", 0)), None, NOISY, 20_000)
        assert (on_a_gpu.batch_size, on_a_gpu.base_channels) == (64, 64)


@pytest.mark.parametrize(
    "data, images, settings, colours, differences",
    [
        (FLAT, 2001, {}, 8, True),
        (FLAT.in_grey(), 2001, {"channels": 1}, 8, True),
        (FLAT, 2000, {}, 0, False),
        (NOISY, 20_000, {}, 0, False),
        (FLAT, 20_000, {"recipe": "classic"}, 0, False),
        (FLAT, 20_000, {"ask": "all"}, 0, False),
        (FLAT, 20_000, {"image_size": 128}, 0, False),
        (FLAT, 20_000, {"colours": 0}, 0, False),
        (FLAT, 20_000, {"colours": 16}, 16, True),
        (FLAT, 20_000, {"differences": False}, 8, False),
        (NOISY, 20_000, {"colours": 5, "differences": True}, 5, True),
    ],
)
def test_many_flat_drawings_get_a_palette_and_differences(data, images, settings, colours, differences):
    found = decided(toongan.TrainConfig(**settings), Machine.on(CPU), None, data, images)
    assert (found.colours, found.differences) == (colours, differences)


def test_sixty_four_images_are_trained_on_without_any_option(home):
    """56 of them, since 8 are held out: fewer than the usual batch."""
    folder = home / "mine"
    folder.mkdir()
    from PIL import Image

    chance = np.random.default_rng(0)
    for number in range(64):
        Image.fromarray(chance.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{number}.png")
    small = {name: value for name, value in TINY.items() if name not in ("batch_size", "count")}
    config = toongan.TrainConfig(run="mine", dataset=f"folder:{folder}", kimg=0.64, device="cpu", **small)
    run = toongan.train(config, progress=False)
    assert run.info()["settings"]["batch_size"] == 32 and run.info()["finished"]
    assert toongan.train(config, progress=False).info()["sha256"] == run.info()["sha256"]
