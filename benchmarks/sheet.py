"""Faces to compare by eye: `python -m benchmarks.sheet before=old/G.pth after=new/G.pth --out sheet.webp`.

A row of held-out images, then a row for each generator, each from the same latent vectors, at twice their size.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import toongan
from toongan.data import tile
from toongan.datasets import evenly, split
from toongan.runs import draw, load_generator, seeded

FACES = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("generators", nargs="+", help="NAME=PATH of a G.pth, in the order of the rows")
    parser.add_argument("--dataset", default="avatars")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    rows = []
    for name, _, path in (each.partition("=") for each in options.generators):
        generator = load_generator(path)
        latent = torch.randn(FACES, generator.latent_dim, generator=seeded(0, "sheet"))
        rows.append((name, draw(generator, latent)))
    data = toongan.prepare(toongan.DataConfig(options.dataset, options.images, rows[0][1].shape[1]))
    held_out = np.array(data.images[evenly(split(data.hashes).held_out, FACES)])
    rows.insert(0, ("held-out images", held_out))

    side = 2 * held_out.shape[1] / 100  # inches, at 100 dots each
    fig, axes = plt.subplots(
        len(rows), 1, figsize=(FACES * side / 1.5, len(rows) * (side / 1.5 + 0.25)), layout="constrained"
    )
    for ax, (name, faces) in zip(axes, rows):
        ax.imshow(tile(faces, FACES), interpolation="nearest")
        ax.set_title(name, loc="left", fontsize=9)
        ax.axis("off")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(options.out, dpi=100)
    print(options.out)


if __name__ == "__main__":
    main()
