"""Where images lie while training, and how batches reach the device."""

import threading

import numpy as np
import pytest
import torch
from conftest import DEVICES, TINY

import toongan
from toongan.data import batches, shuffled
from toongan.devices import Machine
from toongan.runs import feeding


def some_images(count: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)


def take(stream, count: int, images: torch.Tensor | None = None) -> torch.Tensor:
    """The next images of `batches`, or of a `feed` from `images`."""
    found = (next(stream) for _ in range(count))
    return torch.stack([(each if images is None else feeding.images_of(images, each)).cpu() for each in found])


@pytest.mark.parametrize("device", DEVICES)
def test_fetched_ahead_gives_the_very_same_batches(device):
    images = torch.from_numpy(some_images())
    device = torch.device(device)
    plain = take(batches(images, 8, torch.Generator().manual_seed(5), device), 23)
    ahead = feeding.fetched_ahead(images, 8, shuffled(len(images), 8, torch.Generator().manual_seed(5)), device)
    assert torch.equal(take(ahead, 23, images), plain)
    ahead.close()
    assert "toongan-batches" not in {thread.name for thread in threading.enumerate()}


def test_skipped_batches_are_those_that_were_seen():
    images = torch.from_numpy(some_images())
    plain = take(batches(images, 8, torch.Generator().manual_seed(5)), 23)
    order = feeding.order_of(len(images), 8, 5, skip=17)
    later = feeding.feed(images, 8, order, Machine(torch.device("cpu")))
    assert torch.equal(take(later, 6, images), plain[17:])


def test_trouble_in_the_thread_is_raised_where_it_is_seen():
    order = shuffled(4, 8, torch.Generator())
    stream = feeding.fetched_ahead(torch.from_numpy(some_images(4)), 8, order, torch.device("cpu"))
    with pytest.raises(toongan.ToonGANError, match="batch_size is 8, more than the 4 images"):
        next(stream)
    stream.close()


@pytest.mark.parametrize("device", DEVICES)
def test_a_set_goes_to_the_device_only_up_to_half_its_free_memory(device, monkeypatch):
    images = some_images()
    device = torch.device(device)
    monkeypatch.setattr(feeding, "free_memory", lambda device: 2 * images.nbytes)
    monkeypatch.setattr(feeding, "UPLOAD_BYTES", images[:7].nbytes)
    there = feeding.place(images, device)
    assert there.device.type == device.type and (there.cpu().numpy() == images).all()
    monkeypatch.setattr(feeding, "free_memory", lambda device: 2 * images.nbytes - 2)
    here = feeding.place(images, device)
    assert here.device.type == "cpu" and here.data_ptr() == images.ctypes.data, "not even copied"


def test_training_reads_the_memory_map_and_copies_nothing(tiny_home):
    data = toongan.prepare(toongan.DataConfig(count=TINY["count"], image_size=TINY["image_size"]), progress=False)
    assert isinstance(data.images, np.memmap)
    placed = feeding.place(data.images, torch.device("cpu"))
    assert placed.data_ptr() == data.images.ctypes.data
    before = (data.folder / "images.npy").read_bytes()
    placed += 1  # private to this process
    assert (data.folder / "images.npy").read_bytes() == before
