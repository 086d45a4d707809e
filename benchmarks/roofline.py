"""What a training step costs, counted, and how long it would take at best: `python -m benchmarks.roofline`.

No GPU is needed, and none is timed. The step runs on a pretended GPU that computes nothing and counts everything: kernels,
floating-point operations, bytes that are read and written. A time is the sum over its kernels of the longest of three: the
least that a kernel takes, its operations by the peak, its bytes by the bandwidth. Those peaks are realistic ones, stated
below; nothing that is computed from them is a measurement.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from pretend_gpu import pretended  # noqa: E402  it lives with the tests

import toongan  # noqa: E402
from toongan.devices import Machine  # noqa: E402
from toongan.runs.feeding import place  # noqa: E402
from toongan.runs.trainer import Trainer  # noqa: E402


@dataclass(frozen=True)
class Card:
    """A GPU: capability, seconds of the smallest kernel, floating-point operations a second by precision, bytes a second."""

    capability: tuple[int, int]
    kernel: float
    flops: dict[str, float]
    bytes: float


CARDS = {
    "T4": Card((7, 5), 4e-6, {"fp32": 6e12, "fp16": 22e12, "bf16": 6e12}, 260e9),
    "A100": Card((8, 0), 2.5e-6, {"fp32": 15e12, "fp16": 180e12, "bf16": 180e12}, 1.3e12),
    "H100": Card((9, 0), 2e-6, {"fp32": 40e12, "fp16": 350e12, "bf16": 350e12}, 2.7e12),
}
# Steps before the one that is counted: memory is taken in the first.
BEFORE = 2


def work_of_a_step(recipe: str, precision: str, image_size: int, batch_size: int, base_channels: int) -> list[tuple]:
    """The kernels of one step: name, floating-point operations, bytes, type of number."""
    with pretended("a GPU that counts", (9, 0), computes=False) as gpu:
        machine = Machine(torch.device("cuda", 0), precision)
        images = place(np.zeros((batch_size + 8, image_size, image_size, 3), np.uint8), machine.device)
        config = toongan.TrainConfig(
            image_size=image_size, base_channels=base_channels, batch_size=batch_size, recipe=recipe
        )
        trainer = Trainer(config, images, machine)
        for number in range(BEFORE):
            trainer.step(number, 100)
        gpu.reset()
        trainer.step(BEFORE, 100)
        return gpu.work


def seconds(work: list[tuple], card: Card, precision: str) -> float:
    """How long a step takes at best."""
    total = 0.0
    for _, flops, moved, dtype in work:
        peak = card.flops["fp32" if dtype == torch.float32 else precision]
        total += max(card.kernel, flops / peak, moved / card.bytes)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image-size", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--batch-size", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--base-channels", type=int, default=64)
    options = parser.parse_args()
    cards = " | ".join(f"{name}, at best" for name in CARDS)
    print(f"{options.base_channels} base channels, torch {torch.__version__}; images a second computed, not measured:")
    print(f"| recipe | precision | px | batch | kernels a step | GB a step | MB an image | GFLOP an image | {cards} |")
    print("|---" * (8 + len(CARDS)) + "|")
    for recipe in ("modern", "classic"):
        for precision in ("fp32", "bf16", "fp16"):
            for size in options.image_size:
                for batch in options.batch_size:
                    work = work_of_a_step(recipe, precision, size, batch, options.base_channels)
                    flops, moved = (sum(each[place] for each in work) for place in (1, 2))
                    speeds = [f"{batch / seconds(work, card, precision):,.0f}" for card in CARDS.values()]
                    print(
                        f"| {recipe} | {precision} | {size} | {batch} | {len(work)} | {moved / 1e9:.2f} "
                        f"| {moved / batch / 1e6:.1f} | {flops / batch / 1e9:.2f} | {' | '.join(speeds)} |"
                    )


if __name__ == "__main__":
    main()
