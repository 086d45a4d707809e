"""Devices: what a run computes on, decided once.

In: the device and precision of a configuration, and what torchrun says about other processes.
Out: a `Machine`: the device, the precision, whether steps are recorded as CUDA graphs, and the `World` of ranks.
Imported by: `runs`, `evaluation` and the command line. It imports plain modules only.
"""

from .distributed import World
from .machine import Machine

__all__ = ["Machine", "World"]
