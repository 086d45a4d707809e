"""Runs: from a configuration to `G.pth` and `D.pth`. The story is told in `training_loop.py`; the rest is what it calls.

In: a `TrainConfig`, a packed data set, a machine.
Out: a `Run`: nets, curves, sample grids, checkpoints; and new faces drawn with its generator.
Imported by: `evaluation` and the command line. It imports `datasets`, `devices`, `system`, lessons and plain modules.
"""

from .files import Run
from .rebuild import find_run
from .state_dicts import load_discriminator, load_generator, save_state
from .trainer import draw, seeded

__all__ = ["Run", "draw", "find_run", "load_discriminator", "load_generator", "save_state", "seeded"]
