"""One run on several GPUs or machines: `torchrun --nproc-per-node N -m toongan -- train ...`, on torch.distributed.

Every rank computes its share of each batch, the gradients are averaged, and all ranks make the same step. The batch
size is the total over all ranks, so the number of ranks changes the result by rounding only. (On the CPU, batch norm
differs too: it sees only the share of its rank.) Rank 0 decides, prints and writes.
"""

import gc
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import ToonGANError

# Ranks wait for each other while one of them downloads a data set. torchrun notices dead ranks; this time-out does not.
PATIENCE = timedelta(hours=6)


class Replica(DistributedDataParallel):
    """A net whose gradients are averaged over all ranks, as long as they are wanted.

    In G's update, D only passes gradients on and keeps none; DistributedDataParallel would wait for them forever.
    """

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        if not next(self.module.parameters()).requires_grad:
            return self.module(*inputs)
        return super().forward(*inputs)


@dataclass(frozen=True)
class World:
    """The ranks that train together. For a single rank, every method returns its argument.

    Attributes:
        rank: the number of this process.
        size: the number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process decides, prints and writes."""
        return self.rank == 0

    def check_share(self, batch_size: int) -> None:
        """
        Raises:
            ToonGANError: the ranks would not get equal shares of a batch, of two images at least.
        """
        if batch_size % self.size or batch_size < 2 * self.size:
            raise ToonGANError(
                f"is {batch_size} for all {self.size} processes together, which must share it evenly; try {64 * self.size}.",
                "batch_size",
            )

    def share(self, batch: torch.Tensor) -> torch.Tensor:
        """This rank's rows of a batch; the shares are disjoint and together make up the batch."""
        return batch[self.rank :: self.size]

    def synced(self, net: nn.Module, device: torch.device) -> nn.Module:
        """The net with batch norm over all ranks on a GPU; PyTorch has no such layer for the CPU."""
        return nn.SyncBatchNorm.convert_sync_batchnorm(net) if self.size > 1 and device.type == "cuda" else net

    def replica(self, net: nn.Module) -> nn.Module:
        """What to compute gradients with; shares its weights with `net`."""
        if self.size == 1:
            return net
        # Each rank keeps its own buffers: batch norm's are not read in training, spectral norm's are equal everywhere.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # not every PyTorch we support knows the option's new name
            return Replica(net, broadcast_buffers=False)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The mean over all ranks, on the device; does not wait for the result."""
        if self.size > 1:
            dist.all_reduce(values)
            values /= self.size
        return values

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""
        if self.size == 1:
            return flag
        flags = torch.tensor([flag], dtype=torch.int32)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def agreed(self, decide: Callable[[], object]):
        """What rank 0 decides, on every rank.

        Raises:
            ToonGANError: rank 0 found an error.
            SystemExit: the same error, on the other ranks, since one message is enough.
        """
        if self.size == 1:
            return decide()
        answer, error = None, None
        if self.leads:
            try:
                answer = decide()
            except ToonGANError as problem:
                error = problem
        box = [(answer, error is not None)]
        dist.broadcast_object_list(box, device=torch.device("cpu"))
        answer, failed = box[0]
        if error is not None:
            raise error
        if failed:
            raise SystemExit(2)
        return answer


def launched() -> World:
    """The ranks that torchrun started; a single one without it."""
    try:
        return World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    except (KeyError, ValueError):
        return World()


def restarted() -> bool:
    """Whether torchrun started this process again after one died."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def local_device(device: torch.device) -> torch.device:
    """The GPU of this rank.

    Raises:
        ToonGANError: there are more ranks than GPUs.
    """
    if device.type != "cuda" or launched().size == 1:
        return device
    local_rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local_rank >= gpus:
        raise ToonGANError(f"This machine has {gpus} GPUs; start torchrun with --nproc-per-node {gpus}.")
    return torch.device("cuda", local_rank)


def meeting_place() -> dist.Store:
    """The store in which ranks find each other's addresses.

    torchrun keeps the store when it restarts ranks, so addresses of dead ranks must not be taken for new ones. Each
    machine counts restarts by itself, so several machines need TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 instead.
    """
    store, _, _ = next(dist.rendezvous("env://"))
    alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    return dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store) if alone else store


@contextmanager
def join(device: torch.device) -> Iterator[World]:
    """Join the other ranks, and leave them at the end."""
    world = launched()
    if world.size == 1:
        yield world
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=meeting_place(), rank=world.rank, world_size=world.size, timeout=PATIENCE)
    yield world
    gc.collect()  # replicas keep the group's threads alive, which must end before Python does
    dist.destroy_process_group()  # not after an error: it would wait for ranks that may be gone
