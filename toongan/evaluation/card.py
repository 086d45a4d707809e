"""What a card says and how it looks: findings in words, a table of values, a figure."""

import hashlib
import json
import textwrap

import matplotlib.pyplot as plt
import numpy as np

from ..data import in_colour
from ..features import SIDE
from ..paths import checkpoint_folder
from ..runs import Run
from .coverage import plot_mix
from .judges import OCTAVE_COUNT, OCTAVE_SIDE

FILE = "metrics.json"
EXTRACTOR = "MobileNetV2"
FEW = 500
COPIES = 0.05
NO_VARIETY = 0.1
DEAF = 0.5
CHARTS = 2
WIDTH = 9  # inches
HATCHED = {"color": "0.8", "edgecolor": "0.2", "hatch": "///"}
DARK = {"color": "0.35", "edgecolor": "0.2"}
# What a card shows, and how: key, title, factor, decimals, unit.
FIGURES = (
    ("frechet_distance", f"Fréchet distance, {EXTRACTOR} at {SIDE} px", 1, 1, ""),
    ("kernel_distance", f"kernel distance × 1,000, {EXTRACTOR}", 1, 1, ""),
    ("precision", "precision: samples that look real", 100, 1, " %"),
    ("recall", "recall: real images within reach", 100, 1, " %"),
    ("density", "density", 1, 3, ""),
    ("coverage", "coverage: real images with a sample near", 100, 1, " %"),
    ("two_sample", "told from real by a classifier", 100, 1, " %"),
    ("spectrum_distance", "power of waves off by", 1, 2, " dB"),
)
OCTAVES = (
    ("frechet_distance", f"Fréchet distance at {OCTAVE_SIDE} px", 1, ""),
    ("precision", "precision", 100, " %"),
    ("auc", "AUC of a classifier", 100, " %"),
)
READER = (
    ("frechet_distance", "Fréchet distance, attribute reader", 1, 1, ""),
    ("precision", "precision, attribute reader", 100, 1, " %"),
    ("coverage", "coverage, attribute reader", 100, 1, " %"),
    ("confidence", "confidence of the attribute reader", 100, 1, " %"),
)


def card_of(run: Run) -> dict | None:
    """The card of the generator that a run has now; None if there is none, or only one of an earlier generator."""
    try:
        digest = hashlib.sha256(run.generator_path.read_bytes()).hexdigest()
    except OSError:
        return None
    for folder in (run.checkpoints, checkpoint_folder(run.name)):
        try:
            card = json.loads((folder / FILE).read_text(encoding="utf-8"))
            if card["generator"] == digest:
                return card
        except (OSError, ValueError, KeyError, TypeError):
            pass
    return None


def findings(card: dict) -> list[str]:
    """What somebody who reads the values should know, one sentence each."""
    said, against, memory, count = [], card["compared_with"], card["memorisation"], card["count"]
    if against.get("start_may_have_seen"):
        said.append(
            "The nets that this run began with may have been trained on some of these images. If so, the values flatter it."
        )
    elif not against["never_trained_on"] and against["as_in_training"]:
        said.append(
            "This run was trained on all images, including the held-out ones, so the values flatter it and cannot show "
            "copying. Train it again with this version to keep the two apart."
        )
    elif not against["never_trained_on"]:
        said.append(
            "Nothing proves that the run was never trained on some of these images. If it was, the values flatter it."
        )
    if not against["as_in_training"]:
        said.append(
            "The images compared with are not the training's own, all of them and in the same order. It is another data "
            "set, or images were added, renamed or moved since, or other versions drew them."
        )
    if count < FEW:
        said.append(
            f"{count} images are few. Distances are larger at a small count, so compare only at the same count."
        )
    if card["variety"] < NO_VARIETY:
        said.append(
            f"G repeats itself: its images are only {100 * card['variety']:.0f} % as varied as real ones. "
            "Train with --recipe modern, or on more images."
        )
    if card["figures"]["precision"]["generated"] == card["figures"]["recall"]["generated"] == 0:
        said.append(
            "No generated image is within reach of a real one yet, so precision and recall are 0. "
            "Go by the distances until then."
        )
    if memory["copies"] > COPIES + count**-0.5:  # chance alone lifts it where there are few
        said.append(
            f"G copies: {100 * memory['copies']:.0f} % of its images are nearer to a training image than 99 % of held-out "
            "images are. Train on more images, or for a shorter time."
        )
    for name, one in (card["attributes"] or {}).items():
        if one.get("forgotten"):
            some = ", ".join(value or "none" for value in one["forgotten"][:5])
            more = ", …" if len(one["forgotten"]) > 5 else ""
            said.append(f"{name}: {len(one['forgotten'])} of {one['values']} values forgotten: {some}{more}.")
    deaf = [name for name, one in (card.get("wishes") or {}).items() if one["obeyed"] < DEAF * one["ceiling"]]
    if deaf:
        said.append(f"G draws these in fewer than half of the possible cases when asked for them: {', '.join(deaf)}.")
    unread = [name for name, one in (card["attributes"] or {}).items() if not one["legible"]]
    if unread:
        said.append(f"Left out, because the reader cannot read them even on real images: {', '.join(unread)}.")
    if card["attributes"] is None:
        said.append("The images have no labels to learn, so the card says nothing about attributes.")
    return said


def rounded(value):
    """All real numbers in a card to six significant digits. Further digits may differ from machine to machine."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def written(figures: dict, name: str, which: str, factor: float, decimals: int, unit: str) -> str:
    """One value as text, with its 95 % interval if it has one."""
    value = figures[name][which]
    if name == "two_sample":
        low, high = (f"{factor * value[end]:.{decimals}f}" for end in ("low", "high"))
        return f"{factor * value['accuracy']:.{decimals}f}{unit} ({low} to {high})"
    error = f" ± {figures['kernel_error'][which]:.{decimals}f}" if name == "kernel_distance" else ""
    return f"{factor * value:.{decimals}f}{error}{unit}"


def lines_of(card: dict) -> list[tuple[str, str, str]]:
    """The values of a card as text: title, generated, floor."""
    lines = []
    for name, title, *form in FIGURES:
        lines.append((title, *(written(card["figures"], name, which, *form) for which in ("generated", "floor"))))
    fooled = (f"{100 * card['figures']['two_sample'][which]['fooled']:.1f} %" for which in ("generated", "floor"))
    lines.append(("taken for real by the classifier, at equal errors", *fooled))
    by_reach = card["figures"]["precision_at"]
    shares = ([f"{100 * value:.1f}" for value in by_reach[which].values()] for which in ("generated", "floor"))
    title = f"precision with {', '.join(by_reach['floor'])} neighbours"
    lines.append((title, *(f"{', '.join(each)} %" for each in shares)))
    for name, title, factor, unit in OCTAVES:
        rows = [octave[name] for octave in card["octaves"].values()]
        both = (", ".join(f"{factor * row[which]:.1f}" for row in rows) for which in ("generated", "floor"))
        lines.append((f"{title}, images shrunk by {', '.join(card['octaves'])}", *(each + unit for each in both)))
    for name, title, *form in READER if card["reader"] else ():
        lines.append((title, *(written(card["reader"], name, which, *form) for which in ("generated", "floor"))))
    if card["inception"]:
        for name, title in (("fid", f"FID-{card['count']}, Inception"), ("kid", "KID × 1,000, Inception")):
            factor = 1 if name == "fid" else 1000
            both = (f"{factor * card['inception'][which][name]:.1f}" for which in ("generated", "floor"))
            lines.append((title, *both))
    memory = card["memorisation"]
    mine, real = f"{memory['generated']:.1f}", f"{memory['held_out']:.1f} (held out)"
    lines.append(("distance to the nearest training image", mine, real))
    return lines


def heading(card: dict) -> str:
    against = card["compared_with"]
    real = f"{card['count']:,} held out from {against['images']:,} of {against['dataset']}"
    return f"{card['run']}: {card['count']:,} generated images against {real}, seed {card['seed']}"


def conditions(card: dict) -> str:
    """What the values depend on, beside the count and the seed."""
    proved = card["compared_with"]["never_trained_on"]
    seen = "never trained on" if proved else "the run may have been trained on some"
    how = f"{card['extractor']['name']}, {card['extractor']['input']}, {card['extractor']['resizer'].split(',')[0]}"
    return f"held-out images: {seen}; {how}; {card['minutes']} minutes on {card['device']}, {card['date']}"


def table(card: dict) -> str:
    """A card as text."""
    rows = [("", "generated", "floor: real against real"), *lines_of(card)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    text = [heading(card), *(f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows)]
    for name, one in (card["attributes"] or {}).items():
        if one["legible"]:
            drawn = (
                f"{one['values'] - len(one['forgotten'])} of {one['values']} values drawn, " if one["values"] else ""
            )
            text.append(
                f"  {name:<20} {drawn}mix {100 * one['distance']:.0f} % apart (floor {100 * one['floor']:.0f} %); "
                f"read right {100 * one['accuracy']:.0f} % of the time on real images"
            )
    for name, one in (card.get("wishes") or {}).items():
        obeyed, ceiling, unasked, stays = (
            f"{100 * one[key]:.0f} %" for key in ("obeyed", "ceiling", "unasked", "stays")
        )
        text.append(
            f"  asked for {name:<18} drawn {obeyed} of the time (real images {ceiling}, unasked {unasked}); the rest stays {stays}"
        )
    return "\n".join([*text, *(f"- {sentence}" for sentence in card["findings"])])


def plot_card(card: dict, pairs: list[tuple[np.ndarray, np.ndarray, float]]) -> plt.Figure:
    """A card as a figure: values beside their floors, the attributes that differ most, nearest neighbours.

    Legends stand outside the axes, so they cover no data.
    """
    legible = {name: one for name, one in (card["attributes"] or {}).items() if one["legible"]}
    worst = sorted(legible, key=lambda name: -legible[name]["distance"])[:CHARTS]
    wishes, lines = card.get("wishes"), lines_of(card)
    heights = [0.26 * len(lines) + 0.7, 6.4, *([4.6] if worst else []), *([3.2] if wishes else []), 2.6]
    fig = plt.figure(figsize=(WIDTH, sum(heights) + 0.9), layout="constrained")
    parts = fig.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    fig.suptitle("\n".join(textwrap.fill(text, 105) for text in (heading(card), conditions(card))), fontsize=10)
    plot_lines(parts[0].subplots(), lines)
    (test, by_octave), (by_reach, waves) = parts[1].subplots(2, 2)
    plot_two_sample(test, card["figures"]["two_sample"])
    plot_octaves(by_octave, card["octaves"], min(card["count"], OCTAVE_COUNT))
    plot_reaches(by_reach, card["figures"]["precision_at"])
    plot_spectrum(waves, card["spectrum"])
    if worst:
        axes = parts[2].subplots(1, CHARTS)
        for ax, name in zip(axes, worst):
            plot_mix(ax, name, legible[name])
        for ax in axes[len(worst) :]:
            ax.axis("off")
        parts[2].legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    if wishes:
        plot_wishes(parts[-2].subplots(), wishes)
        parts[-2].legend(loc="outside upper center", ncols=3)
    ratio = card["memorisation"]["ratio"]
    parts[-1].suptitle(
        "The generated images nearest to a training image (above), and that training image (below)\n"
        f"Above each pair its distance in grey levels; the median is {ratio:.2f} times that of held-out images",
        fontsize=10,
    )
    plot_pairs(parts[-1], pairs)
    return fig


def plot_lines(ax: plt.Axes, lines: list[tuple[str, str, str]]) -> None:
    """The values of a card as a table."""
    names = ("", "generated", "floor: real against real")
    cells = ax.table(lines, colLabels=names, colWidths=(0.5, 0.25, 0.25), cellLoc="left", bbox=(0, 0, 1, 1))
    cells.auto_set_font_size(False)
    cells.set_fontsize(10)
    for cell in cells.get_celld().values():
        cell.PAD = 0.02
    ax.axis("off")


def plot_pairs(fig: plt.Figure, pairs: list[tuple[np.ndarray, np.ndarray, float]]) -> None:
    """Generated images above the training images nearest to them, each pair with its distance."""
    axes = fig.subplots(2, len(pairs), squeeze=False)
    for column, (mine, theirs, apart) in enumerate(pairs):
        for row, image in enumerate((mine, theirs)):
            axes[row, column].imshow(in_colour(image))
            axes[row, column].axis("off")
        axes[0, column].set_title(f"{apart:.1f}", fontsize=10)


def plot_two_sample(ax: plt.Axes, test: dict) -> None:
    """How often a classifier tells generated and real images from held-out ones, with its 95 % interval."""
    names = ("generated", "floor")
    shares = np.array([[100 * test[name][key] for key in ("accuracy", "low", "high")] for name in names])
    errors = np.clip([shares[:, 0] - shares[:, 1], shares[:, 2] - shares[:, 0]], 0, None)
    bars = ax.bar(("generated", "other real images\n(floor)"), shares[:, 0], yerr=errors, capsize=6, **DARK)
    bars[0].set(facecolor=HATCHED["color"], hatch=HATCHED["hatch"])
    ax.axhline(50, color="black", linestyle=":", linewidth=1)
    ax.set(ylim=(0, 105), ylabel="right answers (%)")
    ax.set_title("Told from held-out images\n(50 %, dotted: nobody can tell)", fontsize=10)


def plot_octaves(ax: plt.Axes, octaves: dict, count: int) -> None:
    """The Fréchet distance of images that were shrunk first, beside its floor."""
    at = np.arange(len(octaves))
    for name, shift, form in (("generated", -0.2, HATCHED), ("floor", 0.2, DARK)):
        heights = [octave["frechet_distance"][name] for octave in octaves.values()]
        ax.bar(at + shift, heights, 0.4, label=name, **form)
    ax.set_xticks(at, [f"by {by}" for by in octaves])
    ax.set(xlabel="images shrunk")
    ax.set_ylabel(f"Fréchet distance\n({OCTAVE_SIDE} px, {count:,} images)")
    ax.set_title("Which octave gives them away?", fontsize=10, pad=26)
    legend_above(ax)


def plot_reaches(ax: plt.Axes, precision: dict) -> None:
    """Precision over the number of neighbours that a real image's reach is measured by."""
    for name, style in (("floor", "k-"), ("generated", "k--")):
        reaches, shares = [int(reach) for reach in precision[name]], [100 * each for each in precision[name].values()]
        ax.plot(reaches, shares, style, marker="o", label=name)
    ax.set(xscale="log", ylim=(-3, 103), xlabel="neighbours", ylabel="precision (%)")
    ax.set_title("How near to real images?", fontsize=10, pad=26)
    ax.set_xticks(ticks := [int(reach) for reach in precision["floor"]], ticks)
    ax.minorticks_off()
    legend_above(ax)


def plot_spectrum(ax: plt.Axes, spectrum: dict) -> None:
    """The power of waves by their length, both directions taken together."""
    for name, label, style in (("held_out", "held-out real", "k-"), ("generated", "generated", "k--")):
        power = np.mean(spectrum[name], axis=0)
        ax.plot(np.arange(1, len(power) + 1), power, style, label=label)
    ax.set(yscale="log", xlabel="waves per image", ylabel="power (grey levels squared)")
    ax.set_title("Right power at every wavelength?", fontsize=10, pad=26)
    legend_above(ax)


def legend_above(ax: plt.Axes) -> None:
    """A legend between the axes and their title."""
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, borderaxespad=0.2, fontsize=9)


def plot_wishes(ax: plt.Axes, wishes: dict) -> None:
    """How often each wish is read in the image, beside real images and chance; the most obeyed first."""
    names = sorted(wishes, key=lambda name: -wishes[name]["obeyed"])
    at = np.arange(len(names))
    ax.bar(at, [100 * wishes[name]["obeyed"] for name in names], color="0.8", edgecolor="0.2", label="as asked for")
    ax.plot(at, [100 * wishes[name]["ceiling"] for name in names], "k_", markersize=18, label="real images (ceiling)")
    ax.plot(at, [100 * wishes[name]["unasked"] for name in names], "kx", clip_on=False, label="asked for another value")
    ax.set_xticks(at, [name.replace("_", " ") for name in names], rotation=25, ha="right")
    ax.set(ylim=(0, 105), ylabel="read in the image (%)")
    ax.set_title("Does G draw what it is asked for?", fontsize=10)
