"""What a run computes on, decided once at its start and handed down."""

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
        precision: fp32, bf16 or fp16, for the forward passes.
        graphs: whether a training step is recorded as a CUDA graph. It is not if ranks wait for each other, or if bytes
            must repeat.
        world: the ranks that train together, this process included.
        memory_format: the memory format of weights and feature maps.
    """

    device: torch.device
    precision: str = "fp32"
    graphs: bool = False
    world: World = World()
    memory_format: torch.memory_format = torch.channels_last

    @classmethod
    @contextmanager
    def joined(cls, config: TrainConfig) -> Iterator["Machine"]:
        """Choose as `config` says, join the other ranks if there are any, and leave them at the end.

        Raises:
            ToonGANError: this machine lacks the requested device.
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
        """The width of nets that this machine trains in minutes."""
        return 16 if self.device.type == "cpu" else 64

    def place(self, net: nn.Module) -> nn.Module:
        """The net on the device, with batch norm over all ranks."""
        return self.world.synced(net, self.device).to(self.device, memory_format=self.memory_format)

    def idle_gpus(self, config: TrainConfig) -> str | None:
        """How to use the other GPUs of this machine, if it has any that this run does not use; else None."""
        gpus = torch.cuda.device_count() if self.device.type == "cuda" and self.world.size == 1 else 1
        if gpus == 1:
            return None
        options = f"train {shlex.join(options_of(config))}"
        launch = f"torchrun --nproc-per-node {gpus} -m toongan -- {options}"
        return f"This machine has {gpus} GPUs, and this run uses one. To use all: {launch}"

    def upload(self, tensor: torch.Tensor) -> torch.Tensor:
        """Copy a CPU tensor to the device; a GPU fetches it while the host continues."""
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def autocast(self) -> AbstractContextManager:
        """The context for the forward passes of both nets."""
        if self.precision == "fp32":
            return nullcontext()
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """The scaler that makes gradients fit fp16; it does nothing in any other precision."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def adam_options(self, rate: float) -> dict:
        """Options of an optimiser. A recorded step needs the learning rate as a tensor; a number would never change."""
        return {
            "lr": torch.tensor(rate, device=self.device) if self.graphs else rate,
            "fused": self.device.type in ("cpu", "cuda"),
            "capturable": self.graphs,
        }

    def __str__(self) -> str:
        return (f"{self.world.size} × " if self.world.size > 1 else "") + hardware.describe(self.device)
