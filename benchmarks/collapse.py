"""How often training collapses: five data sets, four seeds, four loops: `python -m benchmarks.collapse`.

Each run sees as many images as its loop reaches in three minutes on two quiet CPU cores, `KIMG`, so it can be repeated
exactly, and several can run at once. Rows go to `benchmarks/results/collapse.csv`, samples beside it.

A run has collapsed if at its end one of these holds:

- D has won: over the last rows, the real score is more than 0.9 above the fake score and D's loss below 0.2
  (`toongan.doctor`);
- G repeats itself: its images vary less than 0.35 times as much as the data's (`toongan.doctor`; before 50,000 images this is
  fog and not a failure, which spares the textbook loop);
- beaten by a mean face: the images are further from held-out ones than a set that is one and the same image, their mean.
"""

import argparse
import time
from itertools import islice

import numpy as np
import torch

import toongan
from toongan.data import batches
from toongan.datasets import evenly, split
from toongan.devices import hardware
from toongan.metrics import QuickDistance
from toongan.runs import doctor, draw, load_generator, seeded

from . import jobs, textbook

TABLE = jobs.RESULTS / "collapse.csv"
DATASETS = ("avatars", "avatars:adventurer", "avatars:toon-head", "avatars:lorelei", "avatars:big-smile")
# What differs from the defaults. The textbook loop is not ours, and has 64 base channels and batches of 128.
LOOPS = {
    "modern": jobs.PLAIN,
    "modern, flat": {"colours": 8, "differences": True},
    "classic": {"recipe": "classic"},
    "textbook": None,
}
# Thousand images in three minutes on two quiet cores.
KIMG = {"modern": 140.0, "modern, flat": 101.4, "classic": 140.0, "textbook": 18.7}
COLUMNS = (
    "loop", "dataset", "images", "seed", "kimg", "collapsed", "why", "loss_d", "real_score", "fake_score", "variety", "distance",
    "distance_of_mean", "floor", "device", "date",
)  # fmt: skip
IMAGES = 512
LAST = doctor.ROWS


def measure(job: dict) -> dict:
    loop, dataset, images, seed, kimg = (job[name] for name in ("loop", "dataset", "images", "seed", "kimg"))
    data = toongan.prepare(toongan.DataConfig(dataset, images), progress=False)
    if loop == "textbook":
        history, samples = textbook_run(data, seed, kimg)
    else:
        history, samples = our_run(loop, dataset, images, seed, kimg)
    both = split(data.hashes)
    held_out, training = (np.asarray(data.images[evenly(rows, IMAGES)]) for rows in (both.held_out, both.training))
    verdict = judge(history, samples, held_out, training)
    jobs.keep_samples("collapse", name_of(loop, dataset, seed), samples)
    last = {name: sum(row[name] for row in history[-LAST:]) / LAST for name in ("loss_d", "real_score", "fake_score")}
    return {
        **{name: round(value, 4) for name, value in last.items()},
        **verdict,
        "device": hardware.describe(torch.device("cpu")).partition(",")[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def name_of(loop: str, dataset: str, seed: int) -> str:
    """What a run and its samples are called."""
    return f"{loop.replace(', ', '-')}-{dataset.rpartition(':')[2]}-{seed}"


def judge(history: list[dict], samples: np.ndarray, held_out: np.ndarray, training: np.ndarray) -> dict:
    """Has it collapsed, and why; from the history of a run and as many samples as held-out and training images."""
    quick = QuickDistance(held_out)
    mean = np.broadcast_to(training.mean(0).round().astype(np.uint8), training.shape)
    distance, distance_of_mean = quick.distance(samples), quick.distance(np.array(mean))
    variety = doctor.variety(doctor.look(samples)) / doctor.variety(doctor.look(training))
    finding = doctor.diagnose(history, variety)
    why = finding.name if finding else ""
    if not why and not distance < distance_of_mean:
        why = "beaten by a mean face"
    return {
        "collapsed": int(bool(why)),
        "why": why,
        "variety": round(variety, 3),
        "distance": round(distance, 1),
        "distance_of_mean": round(distance_of_mean, 1),
        "floor": round(quick.distance(training), 1),
    }


def rows_of_history(run: toongan.Run) -> list[dict]:
    columns = run.history()
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


def our_run(loop: str, dataset: str, images: int, seed: int, kimg: float) -> tuple[list[dict], np.ndarray]:
    """History and samples of a run of the engine; its files are deleted."""
    config = toongan.TrainConfig(
        run=f"collapse-{name_of(loop, dataset, seed)}", dataset=dataset, count=images, seed=seed, kimg=kimg, device="cpu",
        restart=True, **LOOPS[loop],
    )  # fmt: skip
    run = toongan.train(config, progress=False)
    history = rows_of_history(run)
    generator = load_generator(run.generator_path)
    samples = draw(generator, torch.randn(IMAGES, generator.latent_dim, generator=seeded(seed, "collapse")))
    jobs.delete(run)
    return history, samples


def textbook_run(data, seed: int, kimg: float) -> tuple[list[dict], np.ndarray]:
    """The same of the textbook loop, on the same images."""
    torch.manual_seed(seed)
    cpu, batch = torch.device("cpu"), textbook.BATCH_SIZE
    images = torch.from_numpy(np.array(data.images[split(data.hashes).training]))
    G, D = textbook.nets(cpu)
    loop = textbook.train(batches(images, batch, torch.Generator().manual_seed(seed)), cpu, G, D)
    history = [
        {**row, "kimg": (step + 1) * batch / 1000} for step, row in enumerate(islice(loop, round(1000 * kimg / batch)))
    ]
    return history, draw(G, torch.randn(IMAGES, 100, generator=seeded(seed, "collapse")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loops", nargs="*", default=LOOPS, choices=LOOPS)
    parser.add_argument("--datasets", nargs="*", default=DATASETS)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2, 3])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--kimg", type=float, help="thousand images for every loop, instead of three minutes' worth")
    options = jobs.read_options(parser, measure)
    for dataset in options.datasets:
        toongan.prepare(toongan.DataConfig(dataset, options.images))
    wanted = [
        {
            "loop": loop,
            "dataset": dataset,
            "images": options.images,
            "seed": seed,
            "kimg": options.kimg or KIMG[loop],
        }
        for loop in options.loops
        for dataset in options.datasets
        for seed in options.seeds
    ]
    jobs.run_all("benchmarks.collapse", wanted, TABLE, COLUMNS, options.at_once)
    print("| loop | runs | collapsed |\n|---|---|---|")
    for loop in LOOPS:
        rows = [row for row in jobs.rows_of(TABLE) if row["loop"] == loop]
        print(f"| {loop} | {len(rows)} | {sum(int(row['collapsed']) for row in rows)} |")


if __name__ == "__main__":
    main()
