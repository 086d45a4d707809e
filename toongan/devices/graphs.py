"""A training step recorded once as a CUDA graph, then replayed: one launch instead of about three hundred.

At 64 px, a fast GPU computes a step in less time than Python needs to launch it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

WARM_UP = 3
TOLERANCE = 0.1
# Held while a step is recorded; meanwhile no other thread may wait for the device.
quiet = threading.Lock()


class StepGraph:
    """A recorded step; a call makes the same step with another batch and other latent vectors.

    Args:
        step: takes `(batch, latent)` and returns its values. Everything else that it reads stays in place, and it
            changes nothing but `tensors`.
        tensors: everything that a step changes; recording restores their values.

    Raises:
        RuntimeError: this step cannot be recorded, or the recording gives other results than the step.
    """

    def __init__(
        self,
        step: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        tensors: list[torch.Tensor],
        batch: torch.Tensor,
        latent: torch.Tensor,
    ):
        self.batch, self.latent = batch.clone(), latent.clone()
        before = [tensor.clone() for tensor in tensors]
        try:
            self.record(step, tensors, before)
        finally:
            put_back(tensors, before)

    def record(self, step, tensors: list[torch.Tensor], before: list[torch.Tensor]) -> None:
        home, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(home)
        self.graph, chance = torch.cuda.CUDAGraph(), torch.cuda.get_rng_state()
        # Whatever happens, restore the stream and the random state: a failed capture leaves its own behind.
        with torch.cuda.stream(side), quiet, restored(chance):
            for _ in range(WARM_UP):  # libraries choose kernels and allocate memory in the first steps
                step(self.batch, self.latent)
            put_back(tensors, before)
            wanted_values = step(self.batch, self.latent)
            wanted = [tensor.clone() for tensor in tensors]
            put_back(tensors, before)
            with torch.cuda.graph(self.graph, stream=side, capture_error_mode="thread_local"):
                self.values = step(self.batch, self.latent)
            self.graph.replay()
        home.wait_stream(side)
        if not torch.allclose(self.values, wanted_values, TOLERANCE, TOLERANCE):
            raise RuntimeError("the recorded step gives other losses than the step itself")
        apart = sum((is_ - want).abs().sum() for is_, want in zip(tensors, wanted, strict=True))
        moved = sum((want - was).abs().sum() for want, was in zip(wanted, before, strict=True))
        if not bool(apart <= TOLERANCE * moved):
            raise RuntimeError("the recorded step gives other weights than the step itself")

    def __call__(self, batch: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        self.batch.copy_(batch)
        self.latent.copy_(latent)
        self.graph.replay()
        return self.values.clone()


@contextmanager
def restored(chance: torch.Tensor) -> Iterator[None]:
    """Restore the state of the device's random numbers."""
    try:
        yield
    finally:
        torch.cuda.set_rng_state(chance)


def put_back(tensors: list[torch.Tensor], values: list[torch.Tensor]) -> None:
    with torch.no_grad():
        torch._foreach_copy_(tensors, values)
