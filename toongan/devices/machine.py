"""What a run computes on: decided once, at its start, and handed down."""

import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from ..config import TrainConfig, options_of
from . import distributed, hardware
from .distributed import World


@dataclass(frozen=True)
class Machine:
    """How this process computes.

    Attributes:
        device: where the nets are.
        precision: of their forward passes: fp32, bf16 or fp16.
        graphs: whether a training step is recorded as a CUDA graph: not where ranks wait for one another, or where bytes
            must repeat.
        world: the ranks that train together, this process being one.
        memory_format: of weights and feature maps.
    """

    device: torch.device
    precision: str = "fp32"
    graphs: bool = False
    world: World = World()
    memory_format: torch.memory_format = torch.channels_last

    @classmethod
    @contextmanager
    def joined(cls, config: TrainConfig) -> Iterator["Machine"]:
        """Choose as `config` says, and meet the other ranks if there are any; part from them at the end.

        Raises:
            ToonGANError: the device asked for is not there.
        """
        device = distributed.local_device(hardware.choose_device(config.device))
        hardware.keep_memory()
        with hardware.kernels(device, config.deterministic), distributed.join(device) as world:
            yield cls.on(device, config.precision, world, config.deterministic)

    @classmethod
    def on(
        cls, device: torch.device, precision: str = "auto", world: World = World(), deterministic: bool = False
    ) -> "Machine":
        """The fastest way to compute on a device."""
        precision = hardware.choose_precision(precision, device)
        graphs = device.type == "cuda" and world.size == 1 and not deterministic
        return cls(device, precision, graphs, world)

    @property
    def base_channels(self) -> int:
        """The width of nets that it trains in minutes."""
        return 16 if self.device.type == "cpu" else 64

    def place(self, net: nn.Module) -> nn.Module:
        """The net on the device, its batch norm over all ranks."""
        return self.world.synced(net, self.device).to(self.device, memory_format=self.memory_format)

    def idle_gpus(self, config: TrainConfig) -> str | None:
        """How to use the other GPUs of this machine, if there are any and nobody does."""
        gpus = torch.cuda.device_count() if self.device.type == "cuda" and self.world.size == 1 else 1
        if gpus == 1:
            return None
        options = f"train {shlex.join(options_of(config))}"
        return f"This machine has {gpus} GPUs, of which one trains. All of them: torchrun --nproc-per-node {gpus} -m toongan -- {options}"

    def upload(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the CPU on the device; a GPU fetches it while the host goes on."""
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def autocast(self) -> AbstractContextManager:
        """The context in which both nets' forward passes run."""
        if self.precision == "fp32":
            return nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """Scales losses so that gradients fit half precision; idle in any other."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def adam_options(self, rate: float) -> dict:
        """Options of an optimiser. A recorded step reads the rate from a tensor, since it would repeat a number forever."""
        return {
            "lr": torch.tensor(rate, device=self.device) if self.graphs else rate,
            "fused": self.device.type in ("cpu", "cuda"),
            "capturable": self.graphs,
        }

    def __str__(self) -> str:
        return (f"{self.world.size} × " if self.world.size > 1 else "") + hardware.describe(self.device)
