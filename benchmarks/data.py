"""Drawing, packing and reading images, against the usual way: `python -m benchmarks.data`.

The usual way is an `ImageFolder` behind a `DataLoader` with two workers, which decodes and resizes every image again in
every epoch. Both read the same files. All sides run in turn, several rounds; the table gives medians of images a second and the median
of the ratios round by round.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

# PyTorch is imported where it is used: the processes that pack import this file, and shall not wait for it.
import numpy as np
from PIL import Image

import toongan
from toongan.datasets import avatars
from toongan.datasets.avatars import AvatarsSource
from toongan.datasets.folders import FolderSource
from toongan.datasets.outcomes import Form
from toongan.datasets.packing import cores, pack

BATCH = 64


def write_images(folder: Path, count: int, side: int, kind: str) -> Path:
    """Files like those of the real sets: each a drawing with one pixel of its own."""
    (folder / "faces").mkdir(parents=True)
    transparent = kind == "png"
    drawings = [
        Image.fromarray(
            avatars.rasterise(
                avatars.compose("avataaars", number, background=not transparent)[0],
                side,
                None if transparent else "#ffffff",
            )
        )
        for number in range(60)
    ]
    for number in range(count):
        image = drawings[number % 60].copy()
        own = (number % 256, number // 256 % 256, 77) + ((255,) if transparent else ())
        image.paste(own, (side // 2, 0, side // 2 + 8, 8))
        image.save(folder / "faces" / f"{number:06d}.{kind}", quality=90)
    return folder


def packing(source, count: int) -> float:
    """Images a second, start of the workers included."""
    with tempfile.TemporaryDirectory() as target:
        start = time.perf_counter()
        pack(source, Path(target) / "64px", Form(64), {}, limit=count, progress=False)
        return count / (time.perf_counter() - start)


def packed_loader(folder: Path, home: Path):
    import torch

    from toongan.data import batches
    from toongan.runs.feeding import place

    os.environ["TOONGAN_HOME"] = str(home)
    data = toongan.prepare(toongan.DataConfig(f"folder:{folder}"), progress=False)
    return batches(place(data.images, torch.device("cpu")), BATCH, torch.Generator().manual_seed(0))


def reading(loader, seconds: float) -> float:
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(loader)
        done += BATCH
    return done / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--jpegs", type=int, default=20_000)
    parser.add_argument("--pngs", type=int, default=3000)
    parser.add_argument("--avatars", type=int, default=20_000)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as place_:
        home = Path(place_)
        jpegs = write_images(home / "jpeg", options.jpegs, 100, "jpg")
        pngs = write_images(home / "png", options.pngs, 500, "png")
        from . import textbook

        usual, packed = textbook.images(jpegs, BATCH), packed_loader(jpegs, home)
        next(usual)
        sides = {
            "pack JPEG of 100 px": lambda: packing(FolderSource(jpegs), options.jpegs),
            "pack transparent PNG of 500 px": lambda: packing(FolderSource(pngs), options.pngs),
            "draw avatars at 64 px": lambda: packing(AvatarsSource("avataaars"), options.avatars),
            "read shuffled, ImageFolder + DataLoader": lambda: reading(usual, options.seconds),
            "read shuffled, packed": lambda: reading(packed, options.seconds),
        }
        rates = {name: [] for name in sides}
        for _ in range(options.rounds):
            for name, run in sides.items():
                rates[name].append(run())

    print(
        f"{cores()} cores ({platform.machine()}), pillow {Image.__version__}, numpy {np.__version__}, {time.strftime('%Y-%m-%d')}"
    )
    print(f"{options.rounds} rounds; images a second: median (slowest to fastest)")
    print("| what | images/s |\n|---|---|")
    for name, values in rates.items():
        print(f"| {name} | {statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f}) |")
    *_, slow, fast = rates.values()
    ratio = statistics.median(b / a for a, b in zip(slow, fast, strict=True))
    print(f"Reading the packed form is {ratio:,.0f} times as fast.")


if __name__ == "__main__":
    main()
