"""Runs: from a configuration to `G.pth` and `D.pth`. `training_loop.py` tells the story; the rest is what it calls.

In: a `TrainConfig`, a packed data set, a machine.
Out: a `Run`: nets, curves, sample grids and checkpoints; also new faces from its generator.
Imported by: `evaluation` and the command line. It imports `datasets`, `devices`, `system`, lessons and plain modules.
"""

from .files import Run
from .rebuild import find_run
from .state_dicts import load_discriminator, load_generator, save_state
from .trainer import draw, seeded

__all__ = ["Run", "draw", "find_run", "load_discriminator", "load_generator", "save_state", "seeded"]
