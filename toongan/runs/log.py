"""The curves and grids of a run for TensorBoard, in `checkpoints/RUN/log/`."""

import shutil
import time

import numpy as np
from PIL import Image

from ..data import to_rgb
from ..system.extras import needed
from .files import Run

CURVES = ("loss_d", "loss_g", "real_score", "fake_score", "distance")


class Log:
    """What TensorBoard shows of a run, by the number of images seen.

    It is a second view of the history and the grids. Each process writes it from scratch, so that a run that was
    stopped, or went back to an earlier checkpoint, has a single curve without a jump.

    Raises:
        ToonGANError: the package tensorboard is missing.
    """

    def __init__(self, run: Run):
        needed("tensorboard")
        self.run, self.writer, self.steps = run, None, []

    def write(self, history: list[dict], grids: list[int], batch_size: int) -> None:
        """Add the new rows of the history and the new grids."""
        known = [row["step"] for row in history]
        if self.writer is None or self.steps != known[: len(self.steps)]:
            self.begin()
        began = time.time() - (history[-1]["seconds"] if history else 0)
        for row in history[len(self.steps) :]:
            for name in CURVES:
                if row[name] is not None:
                    images, when = row["step"] * batch_size, began + row["seconds"]
                    self.writer.add_scalar(name, row[name], images, walltime=when)
        self.steps = known
        for path in self.run.grids:
            number = int(path.stem.rpartition("-")[2])
            if path.name not in self.drawn and number < len(grids):
                with Image.open(path) as grid:
                    self.writer.add_image(
                        "samples", np.asarray(to_rgb(grid)), grids[number] * batch_size, dataformats="HWC"
                    )
                self.drawn.add(path.name)
        self.writer.flush()

    def begin(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.close()
        folder = self.run.checkpoints / "log"
        shutil.rmtree(folder, ignore_errors=True)
        self.writer, self.steps, self.drawn = SummaryWriter(str(folder), purge_step=0), [], set()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
