"""What drawing on request costs in quality, and how well it is done: `python -m benchmarks.asking`.

The modern recipe trained twice on as many images, once as it is and once with `--ask all`, by every judge of
`benchmarks.quality`; of the second also how often it draws what it is asked for (`toongan.evaluation.obedience`). Rows go to
`benchmarks/results/asking.csv`: the columns named after attributes hold the share of wishes that are read in the image, those
that end in `_ceiling` the same of real images; the mean over attributes of what stays is `stays`.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch

import toongan
from toongan.conditional import random_latent
from toongan.datasets import split
from toongan.devices import hardware
from toongan.evaluation.obedience import obedience
from toongan.runs import Run, draw, load_generator, seeded

from . import jobs, quality

TABLE = jobs.RESULTS / "asking.csv"
ATTRIBUTES = (
    "accessories", "accessories_color", "background_color", "clothes", "clothes_color", "clothes_graphic", "eyebrows", "eyes",
    "facial_hair", "facial_hair_color", "hair_color", "hat_color", "mouth", "skin_color", "top",
)  # fmt: skip
COLUMNS = (
    "ask", "images", "seed", "kimg", "base_channels", *quality.COLUMNS,
    *(f"{name}{end}" for name in ATTRIBUTES for end in ("", "_ceiling")), "stays", "speed", "device", "date",
)  # fmt: skip


def measure(job: dict) -> dict:
    """Train a run, unless it is there, and measure it."""
    name = f"asking-{job['ask'] or 'none'}-{job['kimg']:g}-{job['base_channels']}-{job['seed']}"
    run = toongan.train(
        toongan.TrainConfig(
            run=name, ask=job["ask"] or None, count=job["images"], seed=job["seed"], kimg=job["kimg"],
            base_channels=job["base_channels"], device="cpu", **jobs.PLAIN,
        ),
        progress=False,
    )  # fmt: skip
    row = judged(run, job["images"])
    jobs.delete(run)
    return row


def judged(run: Run, images: int) -> dict:
    """What all judges say of a run's generator."""
    data = toongan.prepare(toongan.DataConfig(count=images), progress=False)
    parts, G, info = split(data.hashes), load_generator(run.generator_path), run.info()
    samples = draw(G, random_latent(G, len(parts.held_out), seeded(0, "evaluate")))
    row = {**quality.figures(data, parts, samples), "speed": round(1000 * info["kimg"] / info["seconds"])}
    jobs.keep_samples("asking", run.name, samples)
    if getattr(G, "attributes", None) is not None:
        held_out, truth = np.asarray(data.images[parts.held_out]), [data.labels[at] for at in parts.held_out]
        found = obedience(G, quality.reader(data, parts), held_out, truth)
        for name, one in found.items():
            row[name], row[f"{name}_ceiling"] = round(one["obeyed"], 4), round(one["ceiling"], 4)
        row["stays"] = round(statistics.mean(one["stays"] for one in found.values()), 4)
    return {**row, "device": hardware.describe(torch.device("cpu")), "date": time.strftime("%Y-%m-%d")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--kimg", type=float, default=217.0)
    parser.add_argument("--base-channels", type=int, default=16)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument(
        "--judge", type=Path, help="a folder with a G.pth that is there already: print its row, and end"
    )
    options = jobs.read_options(parser, measure)
    toongan.prepare(toongan.DataConfig(count=options.images))
    if options.judge:
        print(judged(Run(options.judge.name, options.judge, options.judge), options.images))
        return
    wanted = [
        {"ask": ask, "images": options.images, "seed": seed, "kimg": options.kimg, "base_channels": options.base_channels}
        for seed in options.seeds
        for ask in ("", "all")
    ]  # fmt: skip
    jobs.run_all("benchmarks.asking", wanted, TABLE, COLUMNS, options.at_once)


if __name__ == "__main__":
    main()
