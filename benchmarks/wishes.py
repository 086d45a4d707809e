"""Faces on request, one wish a column: `python -m benchmarks.wishes --run on-request-64 --out wishes.png`.

Each row has the same random numbers; the first face is as the data has it, and in each further one a wish is changed.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import toongan
from toongan.conditional import one_changed
from toongan.data import tile
from toongan.runs import draw, load_generator, seeded

CHANGES = (
    "background_color=#b6e3f4", "skin_color=#614335", "hair_color=#c93305", "top=bun", "top=hat", "clothes=overall", "eyes=surprised",
    "mouth=smile", "accessories=sunglasses", "facial_hair=beardMajestic",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="on-request-64")
    parser.add_argument("--changes", nargs="*", default=CHANGES, help="NAME=VALUE, a column each")
    parser.add_argument("--rows", type=int, default=6)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    generator = load_generator(toongan.find_run(options.run).generator_path)
    changes = [tuple(each.split("=", 1)) for each in options.changes]
    latent = one_changed(generator, changes, options.rows, seeded(1, "wishes"))
    image = tile(draw(generator, latent.flatten(0, 1)), len(changes) + 1)
    side = image.shape[1] / (len(changes) + 1)
    fig, ax = plt.subplots(figsize=(12, 12 * image.shape[0] / image.shape[1] + 0.6), layout="constrained")
    ax.imshow(image, interpolation="nearest")
    titles = ["as it is", *(f"{name}\n{value}" for name, value in changes)]
    ax.set_xticks((np.arange(len(titles)) + 0.5) * side, titles, fontsize=8)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.set_yticks([])
    for edge in ax.spines.values():
        edge.set_visible(False)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(options.out, dpi=100)
    print(options.out)


if __name__ == "__main__":
    main()
