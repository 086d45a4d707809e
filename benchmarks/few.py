"""What a run makes of 1,000 images only: `python -m benchmarks.few`.

The modern recipe on 1,000 images, the same with mirrored images, with DiffAugment, and with a palette and differences, and
the modern recipe on 17,500; all at equal wall-clock (the costs are those of `benchmarks.ablation`). All are judged by the
same images, which none of them was trained on. Rows go to `benchmarks/results/few.csv`, samples beside it.

`by_heart` is r_v of Karras et al. 2020 (*Training Generative Adversarial Networks with Limited Data*, section 3): how far
D's logits of held-out images have fallen from those of the images that it was trained on towards those of generated ones.
0 if D knows nothing by heart, 1 if new drawings look generated to it.
"""

import argparse
import time

import numpy as np
import torch

import toongan
from toongan import features, metrics
from toongan.data import to_tensor
from toongan.datasets import evenly, split
from toongan.devices import hardware
from toongan.runs import draw, load_discriminator, load_generator, seeded

from . import ablation, collapse, jobs

TABLE = jobs.RESULTS / "few.csv"
MANY, FEW = 20_000, 1_142  # of which an eighth, at most 2,500, is held out
PALETTE = "8 colours and differences"
RUNS = (("modern", MANY), *((variant, FEW) for variant in ("modern", "flips", "DiffAugment", PALETTE)))
COLUMNS = (
    "variant", "images", "many", "seed", "kimg", "trained_on", "collapsed", "why", "variety", "by_heart", "judged_by",
    "frechet_distance", "frechet_floor", "precision", "precision_floor", "recall", "recall_floor", "copy_ratio", "device",
    "date",
)  # fmt: skip
THUMBNAILS = 512


def measure(job: dict) -> dict:
    name = ablation.name_of(f"{job['variant']}-{job['images']}", job["seed"])
    run = ablation.train(f"few-{name}", ablation.variants()[job["variant"]], job)
    G, D = load_generator(run.generator_path), load_discriminator(run.discriminator_path)

    # A set of avatars begins with the same ones however large it is: of the large one, judge by those beyond the small one.
    data = toongan.prepare(toongan.DataConfig(count=job["many"]), progress=False)
    few = min(FEW, job["many"] // 2)
    both = split(data.hashes)
    judges, others = (rows[rows >= few] for rows in (both.held_out, both.training))
    others = evenly(others, len(judges))
    samples = draw(G, torch.randn(len(judges), G.latent_dim, generator=seeded(0, "evaluate")))
    real = features.data_features(data, judges)
    found = metrics.distances(features.features_of(samples), real)
    floor = metrics.distances(features.data_features(data, others), real)

    trained_on = split(data.hashes[: job["images"]]).training
    training, held_out = (np.asarray(data.images[evenly(rows, THUMBNAILS)]) for rows in (trained_on, judges))
    with torch.no_grad():
        known, new, drawn = (
            D(to_tensor(torch.from_numpy(np.array(these)))).mean().item()
            for these in (training, held_out, samples[:THUMBNAILS])
        )
    copying = metrics.memorisation(samples, np.asarray(data.images[judges]), np.asarray(data.images[trained_on]))
    verdict = collapse.judge(collapse.rows_of_history(run), samples[:THUMBNAILS], held_out, training)
    jobs.keep_samples("few", name, samples)
    jobs.delete(run)
    return {
        "trained_on": len(trained_on),
        **{name: verdict[name] for name in ("collapsed", "why", "variety")},
        "by_heart": round((known - new) / (known - drawn), 4),
        "judged_by": len(judges),
        **{
            f"{name}{end}": round(values[name], 4)
            for end, values in (("", found), ("_floor", floor))
            for name in ("precision", "recall")
        },
        "frechet_distance": round(found["frechet_distance"], 2),
        "frechet_floor": round(floor["frechet_distance"], 2),
        "copy_ratio": round(copying["ratio"], 3),
        "device": hardware.describe(torch.device("cpu")).partition(",")[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--kimg", type=float, default=200.0, help="thousand images for the modern recipe")
    parser.add_argument(
        "--images", type=int, default=MANY, help="of the large set; the small one has at most half of them"
    )
    options = jobs.read_options(parser, measure)
    costs = ablation.read_costs(parser)
    few = min(FEW, options.images // 2)
    for count in (options.images, few):
        toongan.prepare(toongan.DataConfig(count=count))
    wanted = [
        {
            "variant": variant,
            "images": few if images == FEW else options.images,
            "many": options.images,
            "seed": seed,
            "kimg": round(options.kimg / costs[variant], 1),
        }
        for seed in options.seeds
        for variant, images in RUNS
    ]
    jobs.run_all("benchmarks.few", wanted, TABLE, COLUMNS, options.at_once)


if __name__ == "__main__":
    main()
