"""The settings of a run, as given and as decided, and what `run.json` and checkpoints record."""

import dataclasses
import platform
import time
from functools import cache
from importlib.metadata import version
from pathlib import Path

from ..config import TrainConfig
from ..datasets import PackedDataset, Split, avatars
from ..devices import Machine
from .asking import to_plain
from .feeding import FEW_IMAGES
from .plan import Plan

# Images in a step. At the same number of images seen, larger batches made worse faces in every measurement, see
# `benchmarks/`.
BATCH, FEW = 64, 32
# The palette of flat drawings, and the image size at which it was measured. With few images or wishes it was not.
COLOURS, COLOURS_AT = 8, 64
# What the runs of earlier versions have that do not record it.
EARLIER = {"channels": 3, "colours": 0, "differences": False}


def settings_of(config: TrainConfig) -> dict:
    """A configuration as plain values."""
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in dataclasses.asdict(config).items()
    }


def settings_on(config: TrainConfig, machine: Machine) -> dict:
    """The same, with the choices made for `auto`."""
    return {**settings_of(config), "precision": machine.precision, "device": machine.device.type}


def decided(config: TrainConfig, machine: Machine, saved: dict | None, data: PackedDataset, images: int) -> TrainConfig:
    """The settings, with open ones filled in: as the run began, or as suits the machine and the images.

    Args:
        images: the number to train on.

    Raises:
        ToonGANError: the processes cannot share a batch evenly.
    """
    before = saved["settings"] if saved else {}
    width = before.get("base_channels") or config.base_channels or machine.base_channels
    batch = before.get("batch_size") or config.batch_size or (BATCH if images >= BATCH else FEW)
    machine.world.check_share(batch)
    usual = config.recipe == "modern" and config.image_size == COLOURS_AT and not config.ask and images > FEW_IMAGES
    fits = saved is None and usual and data.is_flat
    colours = (COLOURS if fits else 0) if config.colours is None else config.colours
    differences = fits and colours > 0 if config.differences is None else config.differences
    return dataclasses.replace(
        config,
        base_channels=width,
        batch_size=batch,
        channels=data.images.shape[3],
        colours=colours,
        differences=differences,
    )


def kind_of(config: TrainConfig) -> str:
    """The recipe of a run in words, with what depends on its images."""
    palette = [f"{config.colours} colours"] if config.colours else []
    return ", ".join([f"{config.recipe} recipe", *palette, *(["differences"] if config.differences else [])])


def record_of(config: TrainConfig, machine: Machine, data: PackedDataset, split: Split, plan: Plan, so_far) -> dict:
    """The content of `run.json`, except for the SHA-256 of the nets.

    Args:
        so_far: the session: done, seconds, findings, rescues, its judge, its trainer and its start.
    """
    asked = so_far.trainer.asked
    return {
        "run": config.run,
        "settings": settings_on(config, machine),
        **({"attributes": to_plain(asked.attributes)} if asked else {}),
        **({"start": so_far.start} if so_far.start else {}),
        "seed": config.seed,
        "steps": plan.steps,
        "grids": plan.grids,
        "extensions": plan.extensions,
        "length": plan.length,
        "data": {
            "dataset": config.dataset,
            "count": len(data),
            "trained_on": len(split.training),
            "held_out": split.record(data.identity),
            "fingerprint": data.fingerprint,
        },
        "device": str(machine),
        "processes": machine.world.size,
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
        "done": so_far.done,
        "kimg": so_far.done * config.batch_size / 1000,
        "finished": so_far.done == plan.steps,
        "seconds": round(so_far.seconds, 1),
        "findings": so_far.findings,
        "rescues": so_far.rescues,
        "best": so_far.judge.best,
    }


@cache
def versions() -> dict[str, str]:
    """The versions of everything that a run's bytes depend on."""
    return {
        "python": platform.python_version(),
        "toongan": __import__("toongan").__version__,
        **{name: version(name) for name in ("torch", "numpy", "pillow")},
        **avatars.versions(),
    }
