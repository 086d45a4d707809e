"""Which device to train on, and in which precision."""

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ..errors import ToonGANError


def choose_device(name: str = "auto") -> torch.device:
    """`auto` takes cuda, then mps, then cpu; a GPU that this PyTorch cannot compute on is passed over, and named.

    Raises:
        ToonGANError: the device asked for is not on this machine, or cannot be used.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    kinds = [kind for kind, there in available.items() if there] if name == "auto" else [name]
    for kind in kinds:
        if not available[kind]:
            raise ToonGANError(f"{kind} is not on this machine; use auto or cpu.", "device")
        device = torch.device(kind)
        if (problem := fault(device)) is None:
            return device
        what = f"{describe(device)}, which this PyTorch cannot compute on ({problem})"
        if name != "auto":
            raise ToonGANError(f"{name} is {what}; use auto or cpu.", "device")
        print(f"The GPU of this machine is {what}: it is passed over.", file=sys.stderr, flush=True)
    raise AssertionError("a CPU is always there")


def fault(device: torch.device) -> str | None:
    """What is wrong with a GPU, tried by one small operation: some are there, and too old; None for nothing."""
    if device.type == "cpu":
        return None
    try:
        (torch.ones(2, device=device) + 1).sum().item()
    except RuntimeError as error:
        return str(error).splitlines()[0].removeprefix("CUDA error: ")
    return None


def choose_precision(name: str, device: torch.device) -> str:
    """`auto` takes bf16 where the hardware is fast at it, fp16 on older CUDA GPUs, else fp32.

    See `cpu_is_fast_at_bf16` for which CPUs count as fast.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "bf16" if device.type == "cpu" and cpu_is_fast_at_bf16() else "fp32"


def cpu_is_fast_at_bf16() -> bool:
    """Those with AMX tiles are, and AMD's with AVX-512 bf16; one of another maker knew bf16 and was slower in it."""
    return (
        torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported() and "AuthenticAMD" in cpu_vendor()
    )


def cpu_vendor() -> str:
    """What the system says of who made the processor, in whatever form."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return platform.processor()


@contextmanager
def kernels(device: torch.device, deterministic: bool, strict: bool = True) -> Iterator[None]:
    """While it lasts, a GPU computes by kernels that give the same bytes every time, or by the fastest.

    On the CPU they are the same.

    Args:
        strict: whether an operation that has no such kernel is an error, or a warning.
    """
    if device.type != "cuda":
        yield
        return
    if deterministic:  # cuBLAS reads this when it starts
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(deterministic, warn_only=not strict)
    torch.backends.cudnn.benchmark = not deterministic
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before[0])
        torch.backends.cudnn.benchmark = before[1]


def keep_memory() -> None:
    """Have glibc keep what a step frees for the next one: handed back to Linux, it would come back page by page, zeroed anew."""
    if platform.libc_ver()[0] == "glibc":
        libc, trim_threshold, mmap_threshold = ctypes.CDLL(None), -1, -3  # as in malloc.h
        libc.mallopt(trim_threshold, 2**30)
        libc.mallopt(mmap_threshold, 2**25)


def describe(device: torch.device) -> str:
    """The device in words, for `run.json` and for readers."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple GPU"
    cores, threads = counted(os.cpu_count() or 1, "core"), counted(torch.get_num_threads(), "thread")
    return f"CPU, {cores}, {threads} ({platform.machine()})"


def free_memory(device: torch.device) -> int | None:
    """Bytes free on a GPU; None where there is no telling."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return None


def counted(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given: for honest timing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
