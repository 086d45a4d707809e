"""What each part of the modern recipe is worth, at equal wall-clock: `python -m benchmarks.ablation`.

Two series: `ladder` goes from the classic recipe to the modern one, a change at a time; `change` makes one change to the
modern recipe. Every variant trains anew with three seeds and is measured on 2,500 samples against as many held-out pictures.

Equal wall-clock, whatever else the machine does: what a training step of each variant costs is measured first, side by side
(`--costs`), and a variant that costs twice as much sees half as many pictures. So every run can be repeated exactly, and
several can run at once. Results go to `benchmarks/results/ablation.csv`, samples beside it.
"""

import argparse
import csv
import dataclasses
import os
import shutil
import statistics
import time

import numpy as np
import toongan
import torch
from PIL import Image
from toongan import features, hardware, metrics, training
from toongan.data import tile
from toongan.feeding import place
from toongan.holdout import held_out_rows, training_rows
from toongan.runs import load_generator
from toongan.trainer import Trainer, draw, seeded
from toongan.training import NonSaturating, Relativistic

from . import jobs

TABLE = jobs.RESULTS / "ablation.csv"
COSTS = jobs.RESULTS / "ablation-costs.csv"
COLUMNS = (
    "series", "variant", "pictures", "seed", "kimg", "frechet_distance", "floor", "precision", "recall", "device", "date"
)  # fmt: skip
KIMG = 100.0

# Name to changes of the recipe (chapter 03) and of the run's settings. A step of the ladder keeps those before it.
LADDER: dict[str, tuple[dict, dict]] = {
    "classic": ({}, {}),
    "relativistic loss": ({"loss": Relativistic}, {}),
    "spectral norm in D": ({"norm": "spectral"}, {}),
    "Adam betas 0, 0.99": ({"betas": (0.0, 0.99)}, {}),
    "rates 1e-3, 5e-4": ({"rate_g": 1e-3, "rate_d": 5e-4}, {}),
    "smooth kernels": ({"smooth": True}, {}),
    "warm-up and cosine": ({"final_rate": 0.1, "warmup": 50}, {}),
    "average of weights": ({"average": True}, {}),  # and that is the modern recipe
}
CHANGE: dict[str, tuple[dict, dict]] = {
    "modern": ({}, {}),
    "binary cross-entropy": ({"loss": NonSaturating}, {}),
    "batch norm in D": ({"norm": "batch"}, {}),
    "free kernels": ({"smooth": False}, {}),
    "Adam betas 0.5, 0.999": ({"betas": (0.5, 0.999)}, {}),
    "rates 2e-4, 2e-4": ({"rate_g": 2e-4, "rate_d": 2e-4}, {}),
    "rates 1e-3, 1e-3": ({"rate_g": 1e-3, "rate_d": 1e-3}, {}),
    "rates 2e-3, 1e-3": ({"rate_g": 2e-3, "rate_d": 1e-3}, {}),
    "no cosine": ({"final_rate": 1.0}, {}),
    "batch 32": ({}, {"batch_size": 32}),
    "batch 128": ({}, {"batch_size": 128}),
    "latent 32": ({}, {"latent_dim": 32}),
}


def variants(series: str) -> dict[str, tuple[training.Recipe, dict]]:
    """Name to recipe and settings."""
    if series == "change":
        return {
            name: (dataclasses.replace(training.RECIPES["modern"], **recipe), settings)
            for name, (recipe, settings) in CHANGE.items()
        }
    found, recipe = {}, training.RECIPES["classic"]
    for name, (changes, settings) in LADDER.items():
        recipe = dataclasses.replace(recipe, **changes)
        found[name] = recipe, settings
    return found


def measure_costs(rounds: int, seconds: float, pictures: int) -> None:
    """Time a step of each variant against one of the modern recipe, in turn, and write the costs of a picture."""
    images = place(toongan.prepare(toongan.DataConfig(count=pictures)).images, torch.device("cpu"))
    sides = {}
    for series in ("ladder", "change"):
        for name, (recipe, settings) in variants(series).items():
            training.RECIPES["modern"], kept = recipe, training.RECIPES["modern"]
            config = toongan.TrainConfig(device="cpu", **settings)
            sides[series, name] = Trainer(config, images, torch.device("cpu"), "fp32"), config.batch_size
            training.RECIPES["modern"] = kept
    times = {side: [] for side in sides}
    for _ in range(rounds):
        for side, (trainer, batch) in sides.items():
            start, steps = time.perf_counter(), 0
            while time.perf_counter() - start < seconds:
                trainer.step(steps, 10_000)
                steps += 1
            times[side].append((time.perf_counter() - start) / steps / batch)
    reference = times["change", "modern"]
    jobs.RESULTS.mkdir(parents=True, exist_ok=True)
    with open(COSTS, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("series", "variant", "cost"))
        for (series, name), values in times.items():
            cost = statistics.median(mine / theirs for mine, theirs in zip(values, reference, strict=True))
            writer.writerow((series, name, f"{cost:.3f}"))
            print(f"{series:8} {name:28} {cost:.2f}", flush=True)


def measure(job: dict) -> dict:
    """Train a variant and measure it. Runs in a process of its own: it changes the recipe for all of it."""
    recipe, settings = variants(job["series"])[job["variant"]]
    training.RECIPES["modern"] = recipe
    name = f"ablation-{job['series']}-{job['variant']}-{job['seed']}"
    name = "".join(letter if letter.isalnum() or letter == "-" else "_" for letter in name)
    config = toongan.TrainConfig(
        run=name, restart=True, count=job["pictures"], seed=job["seed"], kimg=job["kimg"], device="cpu", **settings
    )
    run = toongan.train(config, progress=False)
    data = toongan.prepare(toongan.DataConfig(count=job["pictures"]), progress=False)
    rows, others = held_out_rows(len(data)), training_rows(len(data))
    real = features.data_features(data, rows)
    floor = features.data_features(data, others[np.linspace(0, len(others) - 1, len(rows)).round().astype(int)])
    generator = load_generator(run.generator_path)
    samples = draw(generator, torch.randn(len(rows), generator.latent_dim, generator=seeded(0, "evaluate")))
    found = metrics.distances(features.features_of(samples), real)
    folder = jobs.RESULTS / "ablation"
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(tile(samples[:16])).save(folder / f"{name.removeprefix('ablation-')}.webp", quality=80)
    for place_of_files in (run.checkpoints, run.generated):
        shutil.rmtree(place_of_files)
    return {
        "frechet_distance": round(found["frechet_distance"], 2),
        "floor": round(metrics.distances(floor, real)["frechet_distance"], 2),
        "precision": round(found["precision"], 4),
        "recall": round(found["recall"], 4),
        "device": hardware.describe(torch.device("cpu")).partition(",")[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", nargs="*", default=["ladder", "change"], choices=["ladder", "change"])
    parser.add_argument("--variants", nargs="*", help="only these")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--kimg", type=float, default=KIMG, help="thousand images for the modern recipe")
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--costs", action="store_true", help="measure the costs of a step, on a quiet machine, and end")
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5, help="of --costs")
    parser.add_argument("--seconds", type=float, default=2.0, help="a round of a variant, for --costs")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        jobs.answer(options.job, measure)
    elif options.costs:
        measure_costs(options.rounds, options.seconds, options.pictures)
    else:
        costs = {(row["series"], row["variant"]): float(row["cost"]) for row in jobs.rows_of(COSTS)}
        if not costs:
            parser.error(f"{os.path.relpath(COSTS)} is not there; run python -m benchmarks.ablation --costs first.")
        toongan.prepare(toongan.DataConfig(count=options.pictures))
        wanted = [
            {
                "series": series,
                "variant": name,
                "pictures": options.pictures,
                "seed": seed,
                "kimg": round(options.kimg / costs[series, name], 1),
            }
            for seed in options.seeds
            for series in options.series
            for name in variants(series)
            if options.variants is None or name in options.variants
        ]
        jobs.run_all("benchmarks.ablation", wanted, TABLE, COLUMNS, options.at_once)


if __name__ == "__main__":
    main()
