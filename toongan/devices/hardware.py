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
    """The device of a name. `auto` takes cuda, then mps, then cpu; if this PyTorch cannot use a GPU, it says so.

    Raises:
        ToonGANError: this machine lacks the device, or cannot use it.
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
        what = f"{describe(device)}, which this PyTorch cannot use ({problem})"
        if name != "auto":
            raise ToonGANError(f"{name} is {what}; use auto or cpu.", "device")
        print(f"The GPU of this machine is {what}; it is not used.", file=sys.stderr, flush=True)
    raise AssertionError("there is always a CPU")


def fault(device: torch.device) -> str | None:
    """What is wrong with a GPU, found by one small operation, since some are too old; None if it works."""
    if device.type == "cpu":
        return None
    try:
        (torch.ones(2, device=device) + 1).sum().item()
    except RuntimeError as error:
        return str(error).splitlines()[0].removeprefix("CUDA error: ")
    return None


def choose_precision(name: str, device: torch.device) -> str:
    """The precision of a name. `auto` takes bf16 where the hardware is fast at it, fp16 on older CUDA GPUs, else fp32.

    `cpu_is_fast_at_bf16` says which CPUs count as fast.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "bf16" if device.type == "cpu" and cpu_is_fast_at_bf16() else "fp32"


def cpu_is_fast_at_bf16() -> bool:
    """True with AMX tiles, and on AMD with AVX-512 bf16; on another maker's CPU without tiles, bf16 was slower."""
    return (
        torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported() and "AuthenticAMD" in cpu_vendor()
    )


def cpu_vendor() -> str:
    """The maker of the processor, in whatever form the system gives it."""
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return platform.processor()


@contextmanager
def kernels(device: torch.device, deterministic: bool, strict: bool = True) -> Iterator[None]:
    """Within this context, a GPU uses kernels that give the same bytes every time, or the fastest ones.

    On the CPU the two are the same.

    Args:
        strict: whether an operation without a deterministic kernel is an error or a warning.
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
    """Have glibc keep the memory that a step frees; from Linux it would come back page by page, zeroed again."""
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
    """Free bytes on a GPU; None if they are unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return None


def counted(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all its work, so that timings are honest."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
