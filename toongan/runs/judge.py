"""Looks at the samples of a run now and then: does G repeat itself, and is this its best state so far?"""

import numpy as np

from ..conditional import random_latent
from ..config import TrainConfig
from ..datasets import PackedDataset, Split, evenly
from ..devices import Machine
from ..models import Generator
from ..training import RECIPES
from . import doctor
from .trainer import draw, seeded

VARIETY_IMAGES = 512
JUDGED = 256
JUDGED_KIMG = 20
JUDGED_SIDE = 128


class Judge:
    """Compares samples with the data.

    Attributes:
        variety_share: how varied the samples are, relative to the data; None while they are fog.
        weave_excess: weave of the samples, less that of the data, in grey levels; None while they are fog, and where
            kernels are smooth.
        judged: thousand images after which the distance was last measured.
        best: the smallest distance so far, with its step, its floor and the SHA-256 of the generator.
    """

    def __init__(self, config: TrainConfig, data: PackedDataset, split: Split, machine: Machine, steps: int):
        self.config, self.data, self.split, self.machine = config, data, split, machine
        self.images = steps * config.batch_size
        some = np.asarray(data.images[evenly(np.arange(len(data)), VARIETY_IMAGES)])
        self.variety_of_data = doctor.variety(doctor.look(some))
        self.weave_of_data = doctor.weave(some)
        self.variety_share: float | None = None
        self.weave_excess: float | None = None
        self.judged, self.best, self.quality = 0.0, None, None

    def look(self, samples: np.ndarray) -> None:
        """Measure how varied samples, uint8 `(N, H, W, channels)`, are."""
        self.variety_share = doctor.variety(doctor.look(samples)) / max(self.variety_of_data, 1e-9)
        if not RECIPES[self.config.recipe].smooth:  # whose remedy is a recipe with smooth kernels
            self.weave_excess = doctor.weave(samples) - self.weave_of_data

    def is_due(self, kimg: float) -> bool:
        """Whether to measure the distance: at most ten times a run, and never in a run too short for faces."""
        at_the_end = kimg == self.images / 1000 and kimg >= JUDGED_KIMG
        return at_the_end or kimg - self.judged >= max(JUDGED_KIMG, self.images / 10_000)

    def measure(self, generator: Generator, kimg: float) -> float:
        """The distance of G's images from the held-out ones: a Fréchet distance on few, small images."""
        if self.quality is None:
            from ..metrics import QuickDistance  # imported late: its libraries load slowly

            rows = self.split.held_out, self.split.training
            held_out, training = (np.asarray(self.data.images[evenly(each, JUDGED)]) for each in rows)
            self.quality = QuickDistance(held_out, self.machine.device, JUDGED_SIDE)
            self.floor = self.quality.distance(training)
        latent = random_latent(generator, JUDGED, seeded(self.config.seed, "judge"))
        self.judged = kimg
        return round(self.quality.distance(draw(generator, latent)), 3)

    def is_best(self, distance: float) -> bool:
        return self.best is None or distance < self.best["distance"]

    def keep(self, step: int, distance: float, sha256: str) -> None:
        """Record the best moment so far."""
        self.best = {"step": step, "distance": distance, "floor": round(self.floor, 3), "sha256": sha256}

    def state(self) -> dict:
        seen = {"variety_share": self.variety_share, "weave_excess": self.weave_excess}
        return {**seen, "best": self.best, "judged": self.judged}

    def restore(self, saved: dict) -> None:
        self.variety_share, self.best, self.judged = saved["variety_share"], saved["best"], saved["judged"]
        self.weave_excess = saved.get("weave_excess")  # an earlier checkpoint has none
