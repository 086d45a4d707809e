"""Training speed against the textbook loop with the same nets, side by side: `python -m benchmarks.training_step`.

All sides run in turn, several rounds; the table gives medians and the median of the ratios round by round. Beside each
speed stands the share of the machine's peak that it is: of its operations a second, and of its bytes a second.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import cycle, islice, repeat
from pathlib import Path

import torch
from PIL import Image

import toongan
from toongan.devices import Machine, hardware
from toongan.runs.feeding import place
from toongan.runs.trainer import Trainer

from . import textbook
from .cost import cost_of, peak_bytes, peak_flops

MANY = 10_000


@dataclasses.dataclass
class Side:
    """One loop: its endless steps; the same, not recorded, to be counted; its precision."""

    steps: Iterator
    plain: Iterator
    precision: str


def ours(
    options, images: torch.Tensor, device: torch.device, precision: str, recorded: bool = True, **settings
) -> Side:
    """Endless steps of a run."""
    config = toongan.TrainConfig(
        image_size=options.image_size, base_channels=options.base_channels, batch_size=options.batch_size, **settings
    )
    sides = []
    for wanted in (recorded, False):
        machine = Machine.on(device, precision, deterministic=config.deterministic or not wanted)
        sides.append(map(Trainer(config, images, machine).step, cycle(range(MANY)), repeat(MANY)))
    return Side(*sides, precision)


def deterministic(steps, device: torch.device):
    """Steps with kernels that give the same bytes every time."""
    while True:
        with hardware.kernels(device, deterministic=True):
            value = next(steps)
        yield value


def sides_of(options, folder: Path, device: torch.device, precision: str, other: str) -> dict[str, Side]:
    """All loops, by name; the textbook's reads its images from files."""
    data = toongan.prepare(toongan.DataConfig("avatars", options.images, options.image_size))
    (folder / "faces").mkdir()
    for number, pixels in enumerate(data.images):
        Image.fromarray(pixels).save(folder / "faces" / f"{number:05d}.png")
    files = textbook.images(folder, options.batch_size, options.image_size)
    images = place(data.images, device)
    textbooks = [
        textbook.train(files, device, *textbook.nets(device, options.image_size, options.base_channels))
        for _ in range(2)
    ]
    sides = {
        "textbook": Side(*textbooks, "fp32"),
        "classic": ours(options, images, device, precision, recipe="classic"),
        "modern": ours(options, images, device, precision),
        f"modern, {other}": ours(options, images, device, other),
    }
    if device.type == "cuda":
        sides["modern, not recorded"] = ours(options, images, device, precision, recorded=False)
        repeating = ours(options, images, device, precision, deterministic=True)
        repeating.steps = deterministic(repeating.steps, device)
        sides["modern, --deterministic"] = repeating
    return sides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--base-channels", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--images", type=int, default=4096)
    options = parser.parse_args()

    device = hardware.choose_device()
    torch.backends.cudnn.benchmark = True
    precision = hardware.choose_precision("auto", device)
    other = "fp32" if precision == "bf16" else "bf16"
    with tempfile.TemporaryDirectory() as folder:
        sides = sides_of(options, Path(folder), device, precision, other)
        speeds = {name: [] for name in sides}
        for side in sides.values():
            list(islice(side.steps, 3))
        for _ in range(options.rounds):
            for name, side in sides.items():
                speeds[name].append(measure(side.steps, options.batch_size, options.seconds, device))
        costs = {name: cost_of(partial(next, side.plain)) for name, side in sides.items()}
    brief = min(options.seconds, 1.0)
    most_flops = {one: peak_flops(device, one, brief) for one in dict.fromkeys((precision, other, "fp32"))}
    most_bytes = peak_bytes(device, brief)

    print(f"{hardware.describe(device)}, {precision}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}")
    print(
        f"{options.image_size} px, {options.base_channels} base channels, batch {options.batch_size}, "
        f"{options.rounds} rounds"
    )
    print(f"peak: {most_bytes / 1e9:,.1f} GB/s by a copy; by a matrix product, GFLOP/s:", end=" ")
    print(", ".join(f"{peak / 1e9:,.0f} in {name}" for name, peak in most_flops.items()))
    print("| loop | images/s | ratio | MFLOP an image | of the peak | MB an image | of the peak |")
    print("|---|---|---|---|---|---|---|")
    for name, values in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(values, speeds["textbook"], strict=True))
        speed, cost = statistics.median(values), costs[name]
        flops, moved = cost.flops / options.batch_size, cost.bytes / options.batch_size
        shares = flops * speed / most_flops[sides[name].precision], moved * speed / most_bytes
        print(
            f"| {name} | {speed:,.0f} | {ratio:.2f} | {flops / 1e6:,.0f} | {shares[0]:.0%} | {moved / 1e6:,.1f} | {shares[1]:.0%} |"
        )


def measure(steps, batch_size: int, seconds: float, device: torch.device) -> float:
    hardware.synchronize(device)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(steps)
        done += 1
        if done % 10 == 0:
            hardware.synchronize(device)
    hardware.synchronize(device)
    return done * batch_size / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
