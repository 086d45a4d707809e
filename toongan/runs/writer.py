"""Writes the files of a run during training, to its own folders and to the mirror if there is one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..data import tile, to_image
from ..models import Generator
from ..paths import atomic_write
from ..system.signature import save_image
from . import checkpoints
from .files import Run
from .log import Log
from .mirror import Mirror
from .plan import Plan
from .state_dicts import save_state


class Writer:
    """The files of one run.

    Args:
        mirrored: the folder for second copies; None for none.
        logged: whether to write for TensorBoard as well.

    Raises:
        ToonGANError: the package tensorboard is missing.
    """

    def __init__(self, run: Run, mirrored: Path | None, say: Callable[[str], None], logged: bool = False):
        self.run, self.log = run, Log(run) if logged else None
        self.mirror = None if mirrored is None else Mirror(mirrored, say)

    def grid(self, number: int, step: int, samples: np.ndarray) -> None:
        """Write a sample grid from samples, uint8 `(N, H, W, channels)`."""
        with atomic_write(self.run.grid_path(number)) as part:
            save_image(to_image(tile(samples)), part)
            data = part.read_bytes()
        if self.mirror is not None:
            self.mirror.put_grid(number, step, data)

    def checkpoint(self, state: dict) -> None:
        """Write `last.pt`; the one before stays as `previous.pt`."""
        data = checkpoints.save(self.run.checkpoints, state)
        if self.mirror is not None:
            self.mirror.put(state["done"], data)

    def best_generator(self, generator: Generator) -> str:
        """Write `G-best.pth`; returns its SHA-256."""
        return save_state(self.run.best_path, generator)

    def best_checkpoint(self, state: dict) -> None:
        """Write `best.pt`, from which `G-best.pth` can be written again."""
        data = checkpoints.save_best(self.run.checkpoints, state)
        if self.mirror is not None:
            self.mirror.put_best(state["done"], data)

    def curves(self, history: list[dict], plan: Plan, batch_size: int) -> None:
        """Write what is new in the history and the grids for TensorBoard."""
        if self.log is not None:
            self.log.write(history, plan.grids, batch_size)

    def finish(self) -> None:
        """Wait for the last copy, a minute at most."""
        if self.mirror is not None:
            self.mirror.finish()

    def close(self) -> None:
        """Stop copying and logging."""
        if self.log is not None:
            self.log.close()
        if self.mirror is not None:
            self.mirror.close()
