"""Training speed against the textbook loop with the same nets, side by side: `python -m benchmarks.training_step`.

All sides run in turn, several rounds; the table gives medians and the median of the ratios round by round.
"""

import argparse
import statistics
import tempfile
import time
from itertools import cycle, islice, repeat
from pathlib import Path

import torch
from PIL import Image

import toongan
from toongan import engine, hardware
from toongan.feeding import place

from . import textbook

MANY = 10_000


def ours(options, images: torch.Tensor, device: torch.device, precision: str, recorded: bool = True, **settings):
    """Endless steps of the engine."""
    config = toongan.TrainConfig(
        image_size=options.image_size, base_channels=options.base_channels, batch_size=options.batch_size, **settings
    )
    trainer = engine.Trainer(config, images, device, precision)
    trainer.graphs = trainer.graphs and recorded
    return map(trainer.step, cycle(range(MANY)), repeat(MANY))


def deterministic(steps, device: torch.device):
    """Steps with kernels that give the same bytes every time."""
    while True:
        hardware.be_deterministic(device, True)
        value = next(steps)
        hardware.be_deterministic(device, False)
        yield value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--base-channels", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--pictures", type=int, default=4096)
    options = parser.parse_args()

    device = hardware.choose_device()
    hardware.be_deterministic(device, False)
    precision = hardware.choose_precision("auto", device)
    data = toongan.prepare(toongan.DataConfig("avatars", options.pictures, options.image_size))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "faces").mkdir()
        for number, pixels in enumerate(data.images):
            Image.fromarray(pixels).save(Path(folder) / "faces" / f"{number:05d}.png")
        files, images = (
            textbook.pictures(Path(folder), options.batch_size, options.image_size),
            place(data.images, device),
        )
        sides = {
            "textbook": textbook.train(
                files, device, *textbook.nets(device, options.image_size, options.base_channels)
            ),
            "classic": ours(options, images, device, precision, recipe="classic"),
            "modern": ours(options, images, device, precision),
        }
        other = "fp32" if precision == "bf16" else "bf16"
        sides[f"modern, {other}"] = ours(options, images, device, other)
        if device.type == "cuda":
            sides["modern, not recorded"] = ours(options, images, device, precision, recorded=False)
            sides["modern, --deterministic"] = deterministic(
                ours(options, images, device, precision, deterministic=True), device
            )
        speeds = {name: [] for name in sides}
        for steps in sides.values():
            list(islice(steps, 3))
        for _ in range(options.rounds):
            for name, steps in sides.items():
                speeds[name].append(measure(steps, options.batch_size, options.seconds, device))

    print(f"{hardware.describe(device)}, {precision}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}")
    print(
        f"{options.image_size} px, {options.base_channels} base channels, batch {options.batch_size}, "
        f"{options.rounds} rounds"
    )
    print("| loop | images/s | ratio |\n|---|---|---|")
    for name, values in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(values, speeds["textbook"], strict=True))
        print(f"| {name} | {statistics.median(values):,.0f} | {ratio:.2f} |")


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
