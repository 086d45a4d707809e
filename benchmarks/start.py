"""What beginning with a trained run saves: `python -m benchmarks.start`.

Styles that the start has never seen, 150, 500 and 2,000 images of each, trained from random nets and from `avatars-64`, for
as many images. All runs of a style are judged by the same drawings, which none of them was trained on: Fréchet distance on
MobileNetV2 at 128 px, 1,000 of each, at up to twenty moments. Rows go to `benchmarks/results/start.csv`, samples beside it;
`until` is how many thousand images a run needed to be as near as the one from random nets with its seed was in the end.
"""

import argparse
import time
from unittest import mock

import numpy as np
import torch

import toongan
from toongan import features, metrics
from toongan.datasets import evenly, split
from toongan.runs import draw, judge, load_generator, seeded

from . import jobs

TABLE = jobs.RESULTS / "start.csv"
STYLES = ("avatars:toon-head", "avatars:big-smile", "avatars:lorelei")
SIZES = (150, 500, 2000)
# What differs from a run of default settings.
ARMS = {
    "random": {},
    "start": {"start": "avatars-64"},
    "start, two layers of D frozen": {"start": "avatars-64", "freeze": 2},
    "random, DiffAugment": {"augment": "diffaugment"},
    "start, DiffAugment": {"start": "avatars-64", "augment": "diffaugment"},
}
COLUMNS = (
    "dataset", "trained_on", "arm", "seed", "kimg", "base_channels", "many", "judges", "distance", "floor", "until", "copies", "copy_ratio", "date", "curve"
)  # fmt: skip
MANY, JUDGES, SIDE, FIRST = 4_600, 1_000, 128, 0.02


def measure(job: dict) -> dict:
    """Train one run and judge it on its way and at its end."""
    many = toongan.prepare(toongan.DataConfig(job["dataset"], job["many"]), progress=False)
    count = round(job["trained_on"] * 8 / 7)
    # A set begins with the same drawings however large it is: the judges are those beyond the largest that is trained on.
    beyond = evenly(np.arange(round(max(SIZES) * 8 / 7) + 1, len(many)), 2 * JUDGES)
    real, other = (np.asarray(many.images[rows]) for rows in (beyond[::2], beyond[1::2]))
    kept = many.folder / "features"
    known = features.features_of(real, side=SIDE, keep=kept)

    def distance(generator: torch.nn.Module) -> tuple[float, np.ndarray]:
        samples = draw(generator, torch.randn(len(real), generator.latent_dim, generator=seeded(0, "evaluate")))
        return metrics.distances(features.features_of(samples, side=SIDE), known)["frechet_distance"], samples

    curve = []

    def look(self: judge.Judge, generator: torch.nn.Module, kimg: float) -> float:
        self.judged, self.floor = kimg, 0.0
        curve.append((kimg, distance(generator)[0]))
        return curve[-1][1]

    name = f"start-{job['dataset'].rpartition(':')[2]}-{job['trained_on']}-{list(ARMS).index(job['arm'])}-{job['seed']}"
    due = mock.patch.object(judge.Judge, "is_due", lambda self, kimg: kimg >= job["kimg"] * FIRST)
    with mock.patch.object(judge.Judge, "measure", look), due:  # at each sample grid, which are dense at first
        run = toongan.train(
            toongan.TrainConfig(
                run=name, restart=True, dataset=job["dataset"], count=count, seed=job["seed"], kimg=job["kimg"],
                base_channels=job["base_channels"], device="cpu", **jobs.PLAIN, **ARMS[job["arm"]],
            ),
            progress=False,
        )  # fmt: skip
    end, samples = distance(load_generator(run.generator_path))
    data = toongan.prepare(toongan.DataConfig(job["dataset"], count), progress=False)
    seen = np.asarray(data.images[split(data.hashes, run.info()["data"]["held_out"]).training])
    copying = metrics.memorisation(samples, real, seen)
    jobs.keep_samples("start", name, samples)
    jobs.delete(run)
    goal = {
        (row["dataset"], row["trained_on"], row["seed"]): row for row in jobs.rows_of(TABLE) if row["arm"] == "random"
    }
    random = goal.get((job["dataset"], str(job["trained_on"]), str(job["seed"])))
    reached = crossing(curve, float(random["distance"])) if random else None
    return {
        "judges": len(real),
        "distance": round(end, 2),
        "floor": round(metrics.distances(features.features_of(other, side=SIDE, keep=kept), known)["frechet_distance"], 2),
        "until": round(reached, 1) if reached else "",
        "copies": round(copying["copies"], 4),
        "copy_ratio": round(copying["ratio"], 3),
        "date": time.strftime("%Y-%m-%d"),
        "curve": " ".join(f"{kimg:.1f}:{value:.1f}" for kimg, value in curve),
    }  # fmt: skip


def crossing(curve: list[tuple[float, float]], goal: float) -> float | None:
    """Thousand images after which a curve is as low as `goal`, on a line between two looks; None if it never is."""
    before = None
    for kimg, value in curve:
        if value <= goal:
            if before is None:
                return kimg
            return before[0] + (kimg - before[0]) * (before[1] - goal) / (before[1] - value)
        before = kimg, value
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--datasets", nargs="*", default=STYLES)
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES, help="images to train on")
    parser.add_argument("--arms", nargs="*", choices=list(ARMS), default=["random", "start"])
    parser.add_argument("--kimg", type=float, default=200.0)
    parser.add_argument("--base-channels", type=int, default=24, help="those of the start")
    parser.add_argument("--many", type=int, default=MANY, help="drawings of a style in all")
    options = jobs.read_options(parser, measure)
    for dataset in options.datasets:
        toongan.prepare(toongan.DataConfig(dataset, options.many))
    names = ("dataset", "trained_on", "arm", "seed", "kimg", "base_channels", "many")
    for arm in options.arms:  # the random ones first, which the others are compared with
        wanted = [
            dict(zip(names, (dataset, size, arm, seed, options.kimg, options.base_channels, options.many)))
            for seed in options.seeds
            for size in options.sizes
            for dataset in options.datasets
        ]
        jobs.run_all("benchmarks.start", wanted, TABLE, COLUMNS, options.at_once)


if __name__ == "__main__":
    main()
