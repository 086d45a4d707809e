"""Looks at the samples of a run now and then: does G repeat itself, and is this the best it has been?"""

import numpy as np

from ..conditional import random_latent
from ..config import TrainConfig
from ..datasets import PackedDataset, Split, evenly
from ..devices import Machine
from ..models import Generator
from . import doctor
from .trainer import draw, seeded

VARIETY_IMAGES = 512
JUDGED = 256
JUDGED_KIMG = 20
JUDGED_SIDE = 128


class Judge:
    """Compares samples with the data.

    Attributes:
        variety_share: how varied the samples are, the data being 1; None while they are fog.
        judged: thousand images after which the distance was last measured.
        best: the smallest distance so far: its step, its floor, and the SHA-256 of the generator.
    """

    def __init__(self, config: TrainConfig, data: PackedDataset, split: Split, machine: Machine, steps: int):
        self.config, self.data, self.split, self.machine = config, data, split, machine
        self.images = steps * config.batch_size
        some = np.asarray(data.images[evenly(np.arange(len(data)), VARIETY_IMAGES)])
        self.variety_of_data = doctor.variety(doctor.look(some))
        self.variety_share: float | None = None
        self.judged, self.best, self.quality = 0.0, None, None

    def look(self, samples: np.ndarray) -> None:
        """See how varied samples, uint8 `(N, H, W, channels)`, are."""
        self.variety_share = doctor.variety(doctor.look(samples)) / max(self.variety_of_data, 1e-9)

    def is_due(self, kimg: float) -> bool:
        """Whether to measure the distance: ten times a run at most, and never in one too short to have faces."""
        at_the_end = kimg == self.images / 1000 and kimg >= JUDGED_KIMG
        return at_the_end or kimg - self.judged >= max(JUDGED_KIMG, self.images / 10_000)

    def measure(self, generator: Generator, kimg: float) -> float:
        """How far G's images are from those held out: a Fréchet distance on few and small images."""
        if self.quality is None:
            from ..metrics import QuickDistance  # its libraries take a while to load

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
        """Remember the best moment so far."""
        self.best = {"step": step, "distance": distance, "floor": round(self.floor, 3), "sha256": sha256}

    def state(self) -> dict:
        return {"variety_share": self.variety_share, "best": self.best, "judged": self.judged}

    def restore(self, saved: dict) -> None:
        self.variety_share, self.best, self.judged = saved["variety_share"], saved["best"], saved["judged"]
