"""What each part of the modern recipe is worth, at equal wall-clock: `python -m benchmarks.ablation`.

The ladder goes from the classic recipe to the modern one, a change at a time; the other variants make one change to the
modern recipe. None has a palette unless its name says so. Each trains with three seeds and is measured on 2,500 samples
against as many held-out images, by the judges of `benchmarks.quality`; the row `real images` has their floors.

Equal wall-clock, whatever else the machine does: what a training step of each variant costs is measured first, side by side
(`--costs`), and a variant that costs twice as much sees half as many images. So every run can be repeated exactly, and
several can run at once. Results go to `benchmarks/results/ablation.csv`, samples beside it. The column `curve` is the quick
distance on the way (`toongan.metrics.QuickDistance`), as `KIMG:DISTANCE KIMG:DISTANCE …`.
"""

import argparse
import contextlib
import csv
import dataclasses
import os
import statistics
import time
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

import toongan
from toongan import models, training
from toongan.datasets import split
from toongan.devices import Machine, hardware
from toongan.models import Discriminator, Generator, SpectralNorm, down_block
from toongan.runs import judge, load_generator
from toongan.runs import training_loop as runs
from toongan.runs.feeding import place
from toongan.runs.trainer import Trainer, draw, seeded
from toongan.training import NonSaturating, Relativistic
from toongan.variants import Hinge, gradient_penalty

from . import jobs, quality

TABLE = jobs.RESULTS / "ablation.csv"
COSTS = jobs.RESULTS / "ablation-costs.csv"
COLUMNS = ("variant", "images", "seed", "kimg", *quality.COLUMNS, "device", "date", "curve")
REAL = "real images"
KIMG = 60.0
POINTS = 8  # of a curve


class Penalised(Trainer):
    """R1 and R2 every fourth step, with four times the weight."""

    weight, every, steps = 0.1, 4, 0

    def alternate(self, real: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        if self.steps % self.every == 0:
            with torch.no_grad():
                fake = self.G(latent)
            loss = self.weight / 2 * self.every * self.penalty(real, fake)
            self.optimizer_d.zero_grad()
            loss.backward()
            self.optimizer_d.step()
        self.steps += 1
        return super().alternate(real, latent)

    def penalty(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        return gradient_penalty(self.D, real) + gradient_penalty(self.D, fake)


class Widths(Trainer):
    """G and D of different widths."""

    g = d = 16

    def make_nets(self) -> tuple[Generator, Discriminator]:
        config, recipe = self.config, self.recipe
        G = Generator(config.image_size, config.latent_dim, self.g, recipe.smooth)
        return G, Discriminator(config.image_size, self.d, recipe.norm, recipe.smooth)


class WideG(Widths):
    g = 24


class WideD(Widths):
    d = 24


class Blind(Trainer):
    """D's first kernel smooth like the others: it sees no pattern with a period of two pixels (chapter 02)."""

    def make_nets(self) -> tuple[Generator, Discriminator]:
        G, D = super().make_nets()
        first = next(place for place, layer in enumerate(D.main) if isinstance(layer, nn.Conv2d))
        sizes = D.main[first].in_channels, D.main[first].out_channels
        D.main[first] = down_block(*sizes, self.recipe.norm, first=True, smooth=True)[0]
        return G, D


class Lazy(Penalised):
    """R1 alone, every eighth step."""

    every = 8

    def penalty(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        return gradient_penalty(self.D, real)


class Fine(Trainer):
    """Channels moved from the coarse to the fine layers, at the same cost: 24, 32, 48, 64 in place of 16, 32, 64, 128."""

    def make_nets(self) -> tuple[Generator, Discriminator]:
        base = self.config.base_channels

        def widths(image_size: int, base_channels: int) -> list[int]:
            return [3 * base // 2, 2 * base, 3 * base, *[4 * base] * 5][: image_size.bit_length() - 3]

        with mock.patch.object(models, "channel_widths", widths):
            return super().make_nets()


class Spread(nn.Module):
    """A further map that says how much the images of each group of four differ (Karras et al. 2017, section 3)."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        groups = maps.unflatten(0, (-1, 4))
        spread = (groups.var(1, correction=0) + 1e-8).sqrt().mean((1, 2, 3)).repeat_interleave(4)
        return torch.cat([maps, spread.view(-1, 1, 1, 1).expand(-1, 1, *maps.shape[2:])], 1)


class Statistics(Trainer):
    """D is told how much the images of a group differ. Groups of four never hold real and generated ones together."""

    def make_nets(self) -> tuple[Generator, Discriminator]:
        G, D = super().make_nets()
        last = nn.Conv2d(D.main[-1].in_channels + 1, 1, 4, 1, 0, bias=False)
        register_parametrization(last, "weight", SpectralNorm(last.weight))
        D.main = nn.Sequential(*D.main[:-1], Spread(), last)
        return G, D


class TopK(Relativistic):
    """G learns from the three quarters of its images that come nearest to real ones (Sinha et al. 2020, section 3)."""

    @staticmethod
    def generator(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
        gap = real_logits - fake_logits
        return F.softplus(gap.topk(3 * len(gap) // 4, largest=False).values).mean()


class Blurring(Discriminator):
    """A D that sees every image through a blur: the standard deviation of `blur`, in pixels."""

    blur = 2.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.blur > 0.1:
            at = torch.arange(-5.0, 6.0, device=images.device)
            bell = (-(at**2) / (2 * self.blur**2)).exp()
            bell = (bell / bell.sum()).to(images.dtype).expand(3, 1, 1, 11)
            wide = F.pad(images, (5,) * 4, mode="reflect")
            images = F.conv2d(F.conv2d(wide, bell, groups=3), bell.transpose(2, 3), groups=3)
        return super().forward(images)


class BlurredEarly(Trainer):
    """Both sides blurred at first, less and less, until a fifth of the run is over (Sauer et al. 2022, section 3.2)."""

    def make_nets(self) -> tuple[Generator, Discriminator]:
        G, D = super().make_nets()
        D.__class__ = Blurring
        return G, D

    def step(self, number: int, steps: int) -> torch.Tensor:
        self.D.blur = 2 * max(0.0, 1 - 5 * number / steps)
        return super().step(number, steps)


@dataclasses.dataclass(frozen=True)
class Variant:
    """What differs: fields of the recipe (chapter 03), settings of the run, the trainer."""

    recipe: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)
    trainer: type[Trainer] = Trainer


# A rung of the ladder keeps those before it, and the last is the modern recipe.
LADDER = {
    "classic": Variant(),
    "smooth kernels": Variant({"smooth": True}),
    "relativistic loss": Variant({"loss": Relativistic}),
    "spectral norm in D": Variant({"norm": "spectral"}),
    "Adam betas 0, 0.99": Variant({"betas": (0.0, 0.99)}),
    "rates 1e-3, 5e-4": Variant({"rate_g": 1e-3, "rate_d": 5e-4}),
    "warm-up and cosine": Variant({"final_rate": 0.1, "warmup": 50}),
    "modern": Variant({"average": True}),
}
CHANGES = {
    "free kernels": Variant({"smooth": False}),
    "binary cross-entropy": Variant({"loss": NonSaturating}),
    "hinge loss": Variant({"loss": Hinge}),
    "batch norm in D": Variant({"norm": "batch"}),
    "no norm in D, R1 and R2": Variant({"norm": "none"}, trainer=Penalised),
    "R1 and R2 as well": Variant(trainer=Penalised),
    "Adam betas 0.5, 0.999": Variant({"betas": (0.5, 0.999)}),
    "rates 2e-4, 2e-4": Variant({"rate_g": 2e-4, "rate_d": 2e-4}),
    "rates 1e-3, 1e-3": Variant({"rate_g": 1e-3, "rate_d": 1e-3}),
    "rates 2e-3, 1e-3": Variant({"rate_g": 2e-3, "rate_d": 1e-3}),
    "no cosine": Variant({"final_rate": 1.0}),
    "half-life a fifth of the run": Variant({"half_life": 0.2}),
    "batch 32": Variant(settings={"batch_size": 32}),
    "batch 128": Variant(settings={"batch_size": 128}),
    "latent 32": Variant(settings={"latent_dim": 32}),
    "G half as wide again": Variant(trainer=WideG),
    "D half as wide again": Variant(trainer=WideD),
    "flips": Variant(settings={"augment": "flips"}),
    "DiffAugment": Variant(settings={"augment": "diffaugment"}),
}

# Asked only since D's first kernel is free; `ablation.csv` is older, and has none of them.
FURTHER = {
    "smooth first kernel in D": Variant(trainer=Blind),
    "R1 every eighth step": Variant(trainer=Lazy),
    "channels for fine layers": Variant(trainer=Fine),
    "minibatch statistics": Variant(trainer=Statistics),
    "top three quarters": Variant({"loss": TopK}),
    "blurred at first": Variant(trainer=BlurredEarly),
    "half-life a fiftieth of the run": Variant({"half_life": 0.02}),
    **{f"{width} base channels": Variant(settings={"base_channels": width}) for width in (24, 32, 48, 64)},
    **{f"{colours} colours": Variant(settings={"colours": colours}) for colours in (8, 16)},
    "differences": Variant(settings={"differences": True}),
    "8 colours and differences": Variant(settings={"colours": 8, "differences": True}),
    # Larger batches, and by which rule the rates should grow with them. The warm-up lasts as many images.
    **{
        f"batch {batch}, rates × {factor:.3g}": Variant(
            {"rate_g": 1e-3 * factor, "rate_d": 5e-4 * factor, "warmup": round(50 * 64 / batch)}, {"batch_size": batch}
        )
        for batch in (128, 256)
        for factor in (1, (batch / 64) ** 0.5, batch / 64)
    },
}


def variants() -> dict[str, Variant]:
    """Name to variant, each with its whole recipe."""
    found, recipe = {}, training.RECIPES["classic"]
    for name, variant in LADDER.items():
        recipe = dataclasses.replace(recipe, **variant.recipe)
        found[name] = dataclasses.replace(variant, recipe=recipe)
    assert recipe == training.RECIPES["modern"], "the ladder ends elsewhere"
    for name, variant in (CHANGES | FURTHER).items():
        found[name] = dataclasses.replace(variant, recipe=dataclasses.replace(recipe, **variant.recipe))
    return found


@contextlib.contextmanager
def in_place_of_modern(variant: Variant):
    """While it lasts, the modern recipe is the variant's, and runs are made by its trainer."""
    before = training.RECIPES["modern"], runs.Trainer
    training.RECIPES["modern"], runs.Trainer = variant.recipe, variant.trainer
    try:
        yield
    finally:
        training.RECIPES["modern"], runs.Trainer = before


def measure_costs(names: list[str], rounds: int, seconds: float, images: int) -> None:
    """Time a step of some variants against one of the modern recipe, in turn, and write what an image costs them.

    A difference of less than 5 % is the machine's, and counts as none. What other variants cost stays as it was.
    """
    hardware.keep_memory()
    placed = place(toongan.prepare(toongan.DataConfig(count=images)).images, torch.device("cpu"))
    cpu = torch.device("cpu")
    sides, machine = {}, Machine(cpu, hardware.choose_precision("auto", cpu))  # as runs have it
    for name, variant in variants().items():
        if name in {*names, "modern"}:
            settings = {"batch_size": 64, "base_channels": machine.base_channels, **variant.settings}
            config = toongan.TrainConfig(device="cpu", **settings)
            with in_place_of_modern(variant):
                sides[name] = variant.trainer(config, placed, machine), config.batch_size
    times = {side: [] for side in sides}
    for _ in range(rounds):
        for side, (trainer, batch) in sides.items():
            start, steps = time.perf_counter(), 0
            while time.perf_counter() - start < seconds:
                trainer.step(steps, 10_000)
                steps += 1
            times[side].append((time.perf_counter() - start) / steps / batch)
    reference = times["modern"]
    known = {row["variant"]: row["cost"] for row in jobs.rows_of(COSTS)}
    for name, values in times.items():
        cost = statistics.median(mine / theirs for mine, theirs in zip(values, reference, strict=True))
        known[name] = f"{cost if abs(cost - 1) >= 0.05 else 1:.3f}"
        print(f"{name:28} {cost:.2f}", flush=True)
    jobs.RESULTS.mkdir(parents=True, exist_ok=True)
    with open(COSTS, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("variant", "cost"), *known.items()])


def train(name: str, variant: Variant, job: dict) -> toongan.Run:
    config = toongan.TrainConfig(
        run=name, restart=True, count=job["images"], seed=job["seed"], kimg=job["kimg"], device="cpu",
        **{**jobs.PLAIN, **variant.settings},
    )  # fmt: skip
    with in_place_of_modern(variant):
        torch.manual_seed(job["seed"])  # what some variants change images with
        return toongan.train(config, progress=False)


def name_of(variant: str, seed: int) -> str:
    """What its run and its samples are called."""
    return "".join(letter if letter.isalnum() or letter == "-" else "_" for letter in f"{variant}-{seed}")


def measure(job: dict) -> dict:
    """Train a variant and measure it; or measure real images."""
    data = toongan.prepare(toongan.DataConfig(count=job["images"]), progress=False)
    parts, curve = split(data.hashes), []
    if job["variant"] == REAL:
        figures = quality.floor(data, parts)
    else:
        name = name_of(job["variant"], job["seed"])
        with mock.patch.object(judge, "JUDGED_KIMG", job["kimg"] / POINTS):
            run = train(f"ablation-{name}", variants()[job["variant"]], job)
        history = run.history()
        curve = [(kimg, value) for kimg, value in zip(history["kimg"], history["distance"]) if value is not None]
        generator = load_generator(run.generator_path)
        latent = torch.randn(len(parts.held_out), generator.latent_dim, generator=seeded(0, "evaluate"))
        samples = draw(generator, latent)
        figures = quality.figures(data, parts, samples)
        jobs.keep_samples("ablation", name, samples)
        jobs.delete(run)
    return {
        **figures,
        "device": hardware.describe(torch.device("cpu")).partition(",")[0],
        "date": time.strftime("%Y-%m-%d"),
        "curve": " ".join(f"{kimg:.1f}:{distance:.1f}" for kimg, distance in curve),
    }


def read_costs(parser: argparse.ArgumentParser) -> dict[str, float]:
    """What an image costs each variant, 1 for the modern recipe."""
    costs = {row["variant"]: float(row["cost"]) for row in jobs.rows_of(COSTS)}
    if not costs:
        parser.error(f"{os.path.relpath(COSTS)} is not there; run python -m benchmarks.ablation --costs first.")
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", nargs="*", help="only these")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--kimg", type=float, default=KIMG, help="thousand images for the modern recipe")
    parser.add_argument("--costs", action="store_true", help="measure the costs of a step, on a quiet machine, and end")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5, help="of --costs")
    parser.add_argument("--seconds", type=float, default=2.0, help="a round of a variant, for --costs")
    options = jobs.read_options(parser, measure)
    names = [name for name in variants() if options.variants is None or name in options.variants]
    if options.costs:
        measure_costs(names, options.rounds, options.seconds, options.images)
    else:
        costs = read_costs(parser)
        if unknown := [name for name in names if name not in costs]:
            parser.error(
                f"What a step of {', '.join(unknown)} costs is not known: run --costs again, on a quiet machine."
            )
        toongan.prepare(toongan.DataConfig(count=options.images))
        wanted = [{"variant": REAL, "images": options.images, "seed": 0, "kimg": 0.0}]
        wanted += [
            {"variant": name, "images": options.images, "seed": seed, "kimg": round(options.kimg / costs[name], 1)}
            for seed in options.seeds
            for name in names
        ]
        jobs.run_all("benchmarks.ablation", wanted, TABLE, COLUMNS, options.at_once)


if __name__ == "__main__":
    main()
