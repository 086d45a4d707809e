"""How few ingredients beyond the paper give faces in the loop of chapter 03: `python -m benchmarks.first_loop`.

Each variant is the paper's loop (binary cross-entropy, constant rates, no average of weights) with some of three
ingredients: smooth kernels, spectral norm in place of batch norm in D, and Adam without momentum at 1e-3 and 5e-4. All see
as many images. The distance is the quick one: MobileNetV2 at 128 px, 256 samples against 256 images never trained on.
Rows go to `benchmarks/results/first-loop.csv`, samples beside it.
"""

import argparse
import time

import numpy as np
import torch

import toongan
from toongan.data import batches
from toongan.datasets import evenly, split
from toongan.devices import hardware
from toongan.metrics import QuickDistance
from toongan.models import Discriminator, Generator, init_weights
from toongan.runs import draw
from toongan.runs.judge import JUDGED_SIDE
from toongan.training import NonSaturating, Relativistic, train_step

from . import jobs

TABLE = jobs.RESULTS / "first-loop.csv"
PAPER, CALM = ((2e-4, 2e-4), (0.5, 0.999)), ((1e-3, 5e-4), (0.0, 0.99))  # rates of G and D, Adam's betas
VARIANTS = {
    "smooth kernels, no momentum": (True, "batch", CALM, NonSaturating),
    "paper": (False, "batch", PAPER, NonSaturating),
    "smooth kernels": (True, "batch", PAPER, NonSaturating),
    "no momentum": (False, "batch", CALM, NonSaturating),
    "smooth kernels, spectral norm": (True, "spectral", PAPER, NonSaturating),
    "spectral norm, no momentum": (False, "spectral", CALM, NonSaturating),
    "all three": (True, "spectral", CALM, NonSaturating),
    "all three, relativistic": (True, "spectral", CALM, Relativistic),
}
BATCH = 64
COLUMNS = ("variant", "images", "steps", "seed", "distance", "real_score", "fake_score", "device", "date")


def measure(job: dict) -> dict:
    smooth, norm, (rates, betas), loss = VARIANTS[job["variant"]]
    data = toongan.prepare(toongan.DataConfig(count=job["images"]), progress=False)
    parts = split(data.hashes)
    seed, size = job["seed"], data.images.shape[1]
    torch.manual_seed(seed)
    G = init_weights(Generator(size, base_channels=16, smooth=smooth))
    D = init_weights(Discriminator(size, base_channels=16, norm=norm, smooth=smooth))
    adams = [torch.optim.Adam(net.parameters(), rate, betas) for net, rate in zip((G, D), rates)]
    training = torch.from_numpy(np.array(data.images[parts.training]))
    stream = batches(training, BATCH, torch.Generator().manual_seed(seed))
    values = [train_step(G, D, *adams, loss, next(stream), torch.randn(BATCH, 100)) for _ in range(job["steps"])]
    held_out = np.asarray(data.images[evenly(parts.held_out, 256)])
    samples = draw(G, torch.randn(256, 100, generator=torch.Generator().manual_seed(seed + 1)))
    name = f"{job['variant']}-{seed}".replace(", ", "+").replace(" ", "_")
    jobs.keep_samples("first-loop", name, samples)
    real, fake = torch.stack(values[-50:])[:, 2:].mean(0).tolist()
    return {
        "distance": round(QuickDistance(held_out, "cpu", JUDGED_SIDE).distance(samples), 1),
        "real_score": round(real, 3),
        "fake_score": round(fake, 3),
        "device": hardware.describe(torch.device("cpu")).partition(",")[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--images", type=int, default=20_000)
    options = jobs.read_options(parser, measure)
    toongan.prepare(toongan.DataConfig(count=options.images))
    wanted = [
        {"variant": variant, "images": options.images, "steps": options.steps, "seed": seed}
        for seed in options.seeds
        for variant in VARIANTS
    ]
    jobs.run_all("benchmarks.first_loop", wanted, TABLE, COLUMNS, options.at_once)


if __name__ == "__main__":
    main()
