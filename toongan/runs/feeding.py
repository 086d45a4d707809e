"""The images of a run: opened, then read from the device's own memory if they fit, or else fetched ahead of time."""

import dataclasses
import itertools
import queue
import threading
from collections.abc import Iterator

import numpy as np
import torch

from ..config import TrainConfig, data_of
from ..data import shuffled, to_tensor
from ..datasets import PackedDataset, Split, prepare, same_set, split
from ..devices import Machine, World
from ..devices.graphs import quiet
from ..devices.hardware import free_memory
from ..errors import ToonGANError

AHEAD = 3
# `benchmarks.start`: a start helped with 150, 500 and 2,000 images of three styles, at 64 px and 200,000 images seen, and
# DiffAugment in eight of these nine cases, from nothing and after a start. With 1,000 avatars it did not: `benchmarks.few`.
FEW_IMAGES = 2000
# The start that was measured, and its sizes: a run that is given others cannot begin with it.
START = "avatars-64"
STARTS_WITH = {
    "image_size": 64, "base_channels": 24, "latent_dim": 100, "channels": 3, "colours": 0, "differences": False,
}  # fmt: skip
UPLOAD_BYTES = 256 << 20


def open_data(config: TrainConfig, world: World, saved: dict | None, progress: bool) -> tuple[PackedDataset, Split]:
    """Open the images to train on and to hold out; they must be the same on every rank, unchanged, and enough.

    Raises:
        ToonGANError: they are not; says what to do.
    """
    data = prepare(data_of(dataclasses.asdict(config)), progress=progress)
    if config.channels is None and data.is_grey:
        data = data.in_grey()
    if data.fingerprint != world.agreed(lambda: data.fingerprint):
        raise ToonGANError(
            f"The images of {data.meta['dataset']} on this machine differ from those on the first machine; "
            "copy the data folder of the first one here."
        )
    if saved is not None and saved["fingerprint"] != data.fingerprint:
        raise ToonGANError(
            f"The images of {data.meta['dataset']} are not those that {config.run} was begun with "
            f"(fingerprint {saved['fingerprint'][:12]}, now {data.fingerprint[:12]}). "
            "Restore the earlier ones, or start over with --restart."
        )
    parts = split(data.hashes, None if saved is None else saved.get("held_out", True))
    left = len(parts.training)
    if config.batch_size is not None and config.batch_size > left:
        raise ToonGANError(
            f"is {config.batch_size}, more than the {left} images to train on ({len(data) - left} "
            "are held out); try 32.",
            "batch_size",
        )
    if progress and saved is None and (text := advice(config, left)):
        print(text, flush=True)
    return data, parts


def advice(config: TrainConfig, images: int) -> str:
    """Advice for a run with few training images; an empty string if there is none to give."""
    if config.recipe != "modern" or config.ask or images > FEW_IMAGES or same_set(config.dataset, "avatars"):
        return ""
    can_start = all(getattr(config, name) in (None, value) for name, value in STARTS_WITH.items())
    helps = [f"--start {START}"] if can_start and config.start is None else []
    if config.augment == "none":
        helps.append("--augment diffaugment")
    if not helps:
        return ""
    each = "each" if len(helps) == 2 else "it"
    both = ", and both together usually brought them nearest" if len(helps) == 2 else ""
    return (
        f"Only {images:,} images to train on. Consider {' and '.join(helps)}: with up to {FEW_IMAGES:,} images {each} brought "
        f"faces nearer to held-out drawings in nearly all runs that were measured{both}. Chapter 09 has the numbers."
    )


def place(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """Images `(N, H, W, channels)`, placed where training reads them fastest.

    A set of up to half the GPU's free memory is copied there. A larger one stays a memory map, of which the system
    keeps in memory what it can.
    """
    here = torch.from_numpy(images)
    free = free_memory(device)
    if free is None or images.nbytes > free // 2:
        return here
    there = torch.empty_like(here, device=device)
    rows = max(1, UPLOAD_BYTES // max(1, images[:1].nbytes))
    for start in range(0, len(images), rows):  # in parts, so that it is never all in host memory
        there[start : start + rows] = here[start : start + rows]
    return there


def order_of(
    count: int, batch_size: int, seed: int, skip: int = 0, rows: torch.Tensor | None = None
) -> Iterator[torch.Tensor]:
    """Yield the rows of each batch, int64 `(batch_size,)`, in the order of chapter 01, from batch `skip` on.

    Args:
        rows: the `count` rows to choose from; the first ones if None.
    """
    order = itertools.islice(shuffled(count, batch_size, torch.Generator().manual_seed(seed)), skip, None)
    return order if rows is None else (rows[chosen] for chosen in order)


def feed(
    images: torch.Tensor, batch_size: int, order: Iterator[torch.Tensor], machine: Machine
) -> Iterator[torch.Tensor]:
    """The batches of `order`, of which each rank gets its share. `images_of` turns them into images.

    Yields:
        on the device: rows of `images`, int64 `(N,)`, if these are on the device; else the pixels themselves, uint8
        `(N, H, W, channels)`, fetched ahead in a thread.
    """
    device, world = machine.device, machine.world
    order = map(world.share, order)
    if images.device.type == device.type:
        return (machine.upload(chosen) for chosen in order)
    return fetched_ahead(images, batch_size // world.size, order, device)


def images_of(images: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """A batch of `feed` as images `(N, channels, H, W)` in [-1, 1]; part of a recorded step."""
    return to_tensor(images[batch] if batch.ndim == 1 else batch)


def fetched_ahead(
    images: torch.Tensor, batch_size: int, order: Iterator[torch.Tensor], device: torch.device
) -> Iterator[torch.Tensor]:
    """The pixels of each batch; the next few are gathered in pinned memory and copied while the device computes."""
    on_cuda = device.type == "cuda"
    shape = (batch_size, *images.shape[1:])
    # A slot is refilled only once its copy is done.
    slots = [(torch.empty(shape, dtype=torch.uint8, pin_memory=on_cuda), None) for _ in range(AHEAD)]
    empty, ready, stop = queue.SimpleQueue(), queue.SimpleQueue(), threading.Event()
    for slot in slots:
        empty.put(slot)

    def gather() -> None:
        try:
            for chosen in order:
                slot, copied = empty.get()
                if stop.is_set():
                    return
                if copied is not None:
                    with quiet:
                        copied.synchronize()
                torch.index_select(images, 0, chosen, out=slot)
                ready.put(slot)
        except Exception as error:  # raised again in the main thread
            ready.put(error)

    thread = threading.Thread(target=gather, name="toongan-batches", daemon=True)
    thread.start()
    try:
        while True:
            slot = ready.get()
            if isinstance(slot, Exception):
                raise slot
            pixels = slot.to(device, non_blocking=True) if on_cuda else slot.to(device, copy=True)
            copied = torch.cuda.current_stream(device).record_event() if on_cuda else None
            empty.put((slot, copied))
            yield pixels
    finally:
        stop.set()
        empty.put((None, None))
        thread.join()
