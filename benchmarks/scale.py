"""What large sets cost, and how soon training begins: `python -m benchmarks.scale`.

- Training speed with 1,000 and with 1,000,000 packed images, in turn in one process; the larger file, of noise, takes
  12 GB of the disk.
- Peak memory of `python -m toongan train` with 100,000 images, and the seconds until its first step, with packed data.
"""

import argparse
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, repeat
from pathlib import Path

import numpy as np
import torch

import toongan
from toongan.devices import Machine, hardware
from toongan.runs.feeding import place
from toongan.runs.trainer import Trainer

from .training_step import MANY, measure

BATCH = 64
FIRST_STEP = re.compile(r"Training: .*?\| [1-9]")


def noise(path: Path, count: int) -> np.ndarray:
    """`count` images of 64 px on disk."""
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 64, 64, 3))
    chance = np.random.default_rng(0).integers(0, 256, (1000, 64, 64, 3), np.uint8)
    for start in range(0, count, 1000):
        images[start : start + 1000] = chance
    images.flush()
    return np.load(path, mmap_mode="c")


def speeds(folder: Path, options, device: torch.device) -> list[float]:
    """Ratios of speed, the large set to the small one."""
    sides = []
    for count in (1000, options.images):
        images = place(noise(folder / f"{count}.npy", count), device)
        machine = Machine.on(device)
        config = toongan.TrainConfig(batch_size=BATCH, base_channels=machine.base_channels)
        trainer = Trainer(config, images, machine)
        sides.append(map(trainer.step, cycle(range(MANY)), repeat(MANY)))
        next(sides[-1])
    rounds = [[measure(steps, BATCH, options.seconds, device) for steps in sides] for _ in range(options.rounds)]
    return [large / small for small, large in rounds]


def watched(home: Path, *arguments: str) -> tuple[float, int]:
    """Seconds until the first step of `python -m toongan train`, and the run's peak memory in bytes."""
    command = [sys.executable, "-m", "toongan", "train", "--device", "cpu", "--restart", *arguments]
    environment = {**os.environ, "TOONGAN_HOME": str(home), "PYTHONUNBUFFERED": "1"}
    start, first, text = time.perf_counter(), None, ""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        while part := process.stdout.read1(4096):
            text += part.decode(errors="ignore")
            if first is None and FIRST_STEP.search(text):
                first = time.perf_counter() - start
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or first is None:
        sys.exit(f"error: {' '.join(command)} failed:\n{text[-2000:]}")
    return first, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--avatars", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()

    device = hardware.choose_device()
    with tempfile.TemporaryDirectory() as folder:
        # Children first: one of a large parent starts with its peak.
        home = Path(folder) / "home"
        environment = {**os.environ, "TOONGAN_HOME": str(home)}
        many = [sys.executable, "-m", "toongan", "data", "--count", str(options.avatars)]
        subprocess.run(many, env=environment, check=True, stdout=subprocess.DEVNULL)
        count = ("--count", str(options.avatars))
        firsts = [watched(home, "--kimg", "3.2", *count) for _ in range(3)]
        measured = [watched(home, "--minutes", "0.05", *count)[0] for _ in range(3)]
        ratios = speeds(Path(folder), options, device)

    print(f"{hardware.describe(device)}, torch {torch.__version__} ({platform.machine()}), {time.strftime('%Y-%m-%d')}")
    print(f"speed with {options.images:,} images to that with 1,000: {statistics.median(ratios):.3f}", end=" ")
    print(f"({min(ratios):.3f} to {max(ratios):.3f}, {options.rounds} rounds)")
    print(f"peak memory with {options.avatars:,} images on the CPU: {max(m for _, m in firsts) / 1e9:.2f} GB")
    print(f"seconds to the first step, warm: {statistics.median(s for s, _ in firsts):.1f} with --kimg,", end=" ")
    print(f"{statistics.median(measured):.1f} with --minutes, which first measures the speed")


if __name__ == "__main__":
    main()
