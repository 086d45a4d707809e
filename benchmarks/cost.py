"""What a training step costs, in floating-point operations and in bytes, and the most that a machine can do of both.

Operations are those of convolutions and matrix products, as `torch.utils.flop_counter` counts them. Bytes are those of every
operation's inputs and outputs, each read or written once: what would be moved if nothing stayed in a cache.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from toongan.devices import hardware

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ROUNDS = 5


@dataclass(frozen=True)
class Cost:
    """Of one step: floating-point operations, and bytes read and written."""

    flops: int
    bytes: int


class ByteCounter(TorchDispatchMode):
    """Adds up the bytes of what every operation reads and writes."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if not function.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


def cost_of(step: Callable) -> Cost:
    """Count one call of `step`, which is made as usual."""
    with FlopCounterMode(display=False) as flops, ByteCounter() as counted:
        step()
    return Cost(flops.get_total_flops(), counted.bytes)


def peak_flops(device: torch.device, precision: str, seconds: float = 1.0) -> float:
    """The most floating-point operations a second that a device was seen to do, by a large matrix product."""
    side = 2048 if device.type == "cpu" else 8192
    one, other = (torch.randn(side, side, device=device).to(DTYPES[precision]) for _ in range(2))
    return 2 * side**3 / fastest(lambda: one @ other, device, seconds)


def peak_bytes(device: torch.device, seconds: float = 1.0) -> float:
    """The most bytes a second that a device was seen to read and write, by a large copy."""
    source = torch.zeros(1 << 26 if device.type == "cpu" else 1 << 28, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / fastest(lambda: target.copy_(source), device, seconds)


def fastest(action: Callable, device: torch.device, seconds: float) -> float:
    """Seconds that `action` takes, the shortest of at least five times."""
    times, end = [], time.perf_counter() + seconds
    while len(times) < ROUNDS or time.perf_counter() < end:
        hardware.synchronize(device)
        start = time.perf_counter()
        action()
        hardware.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)
