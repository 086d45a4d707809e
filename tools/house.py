"""Draw the package from its own imports: `make house` writes book/static/house.svg, which the README shows.

A box is a folder, or a group of modules at the top of the package; an arrow leads from what imports to what is imported,
and its number counts the imports. Whatever is imported stands below.
"""

import textwrap
from collections import Counter
from pathlib import Path

import grimp
import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as plt  # noqa: E402  after the backend is chosen
from matplotlib.patches import FancyArrowPatch  # noqa: E402
from matplotlib.path import Path as Curve  # noqa: E402

IMAGE = Path(__file__).resolve().parent.parent / "book" / "static" / "house.svg"
LESSONS = ("data", "models", "training", "results", "metrics", "variants", "conditional")
PLAIN = ("config", "errors", "paths", "presets", "features")
LEFT_OUT = ("__main__", "_moved")
# From the top of the image to its bottom, each with what it is for.
BOXES = {
    "cli": "the command line",
    "sharing": "a page, and files for other tools",
    "evaluation": "how good a generator is",
    "runs": "from a configuration to G.pth and D.pth",
    "devices": "what a run computes on",
    "datasets": "from a name to a packed array of images",
    "system": "locks, terminals, Colab",
    "lessons": "exported from the chapters",
    "plain modules": "for everyone",
}
WIDTH, LINE, GAP = 76, 0.19, 0.22  # of a box in letters, of a line and between two boxes in inches


def group(module: str) -> str | None:
    """The box that a module belongs to."""
    _, _, rest = module.partition(".")
    first = rest.partition(".")[0]
    if not first or first in LEFT_OUT:
        return None
    if first in LESSONS:
        return "lessons"
    return "plain modules" if first in PLAIN else first


def imports() -> Counter:
    """How often each box imports from each other one."""
    graph, found = grimp.build_graph("toongan", include_external_packages=False), Counter()
    for module in graph.modules:
        for other in graph.find_modules_directly_imported_by(module):
            pair = group(module), group(other)
            if None not in pair and pair[0] != pair[1]:
                found[pair] += 1
    return found


def rooms() -> dict[str, list[str]]:
    """The modules in each box."""
    graph = grimp.build_graph("toongan", include_external_packages=False)
    found: dict[str, list[str]] = {name: [] for name in BOXES}
    for module in sorted(graph.modules):
        name = group(module)
        leaf = module.rpartition(".")[2]
        inner = module.count(".") > 1
        if (
            name in ("lessons", "plain modules")
            and not inner
            or name not in (None, "lessons", "plain modules")
            and inner
        ):
            found[name].append(leaf)
    return found


def draw(path: Path = IMAGE) -> None:
    counts, modules = imports(), rooms()
    lines = {name: wrapped(modules[name]) for name in BOXES}
    heights = {name: LINE * (1.7 + len(lines[name])) for name in BOXES}
    tall = sum(heights.values()) + GAP * len(BOXES)
    plt.rcParams.update({"svg.hashsalt": "toongan", "svg.fonttype": "none", "font.size": 9})
    fig = plt.figure(figsize=(7.6, tall))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 7.6), ylim=(-tall, 0))
    ax.axis("off")
    top, middles = -GAP / 2, {}
    for name, purpose in BOXES.items():
        ax.add_patch(
            plt.Rectangle((0.1, top - heights[name]), 4.6, heights[name], facecolor="white", edgecolor="black")
        )
        ax.text(0.2, top - LINE, f"{name}: {purpose}", va="center", weight="bold")
        for number, line in enumerate(lines[name]):
            ax.text(0.2, top - LINE * (2 + number), line, va="center", size=8)
        middles[name] = top - heights[name] / 2
        top -= heights[name] + GAP
    order = list(BOXES)
    for (source, target), count in sorted(counts.items()):
        arrow(ax, middles[source], middles[target], count, order.index(target) - order.index(source))
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(fig)


def arrow(ax: plt.Axes, start: float, end: float, count: int, steps: int) -> None:
    """From the right edge of one box to that of another, the further out the more boxes lie in between."""
    start, end = start - 0.06, end + 0.045 * (8 - steps)
    out = 4.7 + 0.34 * steps
    curve = Curve([(4.7, start), (out + 0.1, start), (out + 0.1, end), (4.7, end)], [1, 4, 4, 4])
    style = {"arrowstyle": "-|>", "mutation_scale": 8, "linewidth": 0.5 + count**0.5 / 4, "color": "dimgrey"}
    ax.add_patch(FancyArrowPatch(path=curve, **style))
    ax.text(4.7 + 0.75 * (out + 0.1 - 4.7), (start + end) / 2, str(count), size=8, ha="center", va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})  # fmt: skip


def wrapped(words: list[str]) -> list[str]:
    """Words in lines of at most `WIDTH` letters."""
    return textwrap.wrap(", ".join(words), WIDTH)


if __name__ == "__main__":
    draw()
    print(IMAGE)
