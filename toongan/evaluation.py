"""One card a run: every figure of chapter 05, each beside its floor, in `metrics.json` and `metrics.png`."""

import json
import pickle
import re
import time
from importlib.metadata import version
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics

from . import datasets, features, hardware, metrics
from .config import DataConfig, EvaluateConfig
from .errors import ToonGANError, out_of_memory
from .holdout import LEAST, Split, evenly, split
from .packed import PackedDataset
from .paths import atomic_write, checkpoint_folder, display, writable_folder
from .rebuild import find_run
from .runs import Run, load_generator
from .trainer import draw, seeded

EXTRACTOR = "MobileNetV2"
FEW = 500
PAIRS = 10
COPIES = 0.05
POOR_VARIETY = 0.1
CHARTS = 3
INCEPTION = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
# What a card shows, and how: key, title, factor, decimals, unit.
FIGURES = (
    ("frechet_distance", f"Fréchet distance, {EXTRACTOR}", 1, 1, ""),
    ("kernel_distance", f"kernel distance × 1,000, {EXTRACTOR}", 1, 1, ""),
    ("precision", "precision: samples that look real", 100, 1, " %"),
    ("recall", "recall: real pictures within reach", 100, 1, " %"),
    ("density", "density", 1, 3, ""),
    ("coverage", "coverage", 100, 1, " %"),
    ("two_sample", "told from real by a classifier", 100, 1, " %"),
)


def evaluate(config: EvaluateConfig, progress: bool = True) -> dict:
    """Measure the generator of a run; writes `metrics.json` and `metrics.png` beside its `G.pth` and gives the card.

    Nothing is downloaded, unless `config.inception` asks for it. The same bytes every time on one machine, but for the
    minutes and the date.

    Raises:
        ToonGANError: there is no such run, its data cannot be had, or memory is short; says what to do.
    """
    try:
        return measured(config, progress)
    except (MemoryError, RuntimeError) as error:
        if (problem := out_of_memory(error, config)) is not None:
            raise problem from error
        raise


def measured(config: EvaluateConfig, progress: bool) -> dict:
    start = time.perf_counter()
    evaluation = Evaluation(config, progress)
    card = evaluation.card()
    card["minutes"] = round((time.perf_counter() - start) / 60, 1)
    card["date"] = time.strftime("%Y-%m-%d")
    folder = card_folder(evaluation.run)
    text = json.dumps(card, indent=2, ensure_ascii=False)
    text = re.sub(r"\[\s+([\d.e-]+),\s+([\d.e-]+)\s+\]", r"[\1, \2]", text)  # a pair of shares on one line
    with atomic_write(folder / "metrics.json") as part:
        part.write_text(text + "\n", encoding="utf-8")
    fig = plot_card(card, evaluation.pairs)
    with atomic_write(folder / "metrics.png") as part:
        fig.savefig(part, dpi=100, metadata={"Software": None})
    plt.close(fig)
    if progress:
        print(table(card))
        print(f"{conditions(card)}\nFiles:")
        for name in ("metrics.json", "metrics.png"):
            print(f"  {display(folder / name)}")
    return card


def card_folder(run: Run) -> Path:
    """Where the card goes: beside the run's `G.pth`, or under TOONGAN_HOME where that may not be written to."""
    try:
        return writable_folder(run.checkpoints)
    except ToonGANError:
        return writable_folder(checkpoint_folder(run.name))


class Evaluation:
    """What one card is made of: the run, its generated pictures, and two sets of real ones.

    Attributes:
        generated, held_out, floor: uint8 `(count, H, W, 3)`; the floor is real pictures from those to train on.
        training: all rows of the data set to train on.
        pairs: generated pictures and the training pictures nearest to them, nearest first; filled by `card`.
    """

    def __init__(self, config: EvaluateConfig, progress: bool):
        self.config, self.progress = config, progress
        self.run = find_run(config.run)
        self.info = self.run.info()
        generator = load_generator(self.run.generator_path)
        self.device = hardware.choose_device(config.device)
        if self.device.type == "mps":  # it lacks some of the operations, and exactness
            self.device = torch.device("cpu")
        self.data = self.open_data(generator.image_size)
        parts, self.proved = self.split()
        rows, self.training = parts.held_out, parts.training
        self.held_out_count = len(rows)
        count = min(config.count, len(rows), len(self.training))
        self.rows, self.floor_rows = evenly(rows, count), evenly(self.training, count)
        self.held_out, self.floor = (np.array(self.data.images[each]) for each in (self.rows, self.floor_rows))
        latent = torch.randn(count, generator.latent_dim, generator=seeded(config.seed, "evaluate"))
        self.generated = draw(generator.to(self.device), latent)
        self.pairs: list[tuple[np.ndarray, np.ndarray, float]] = []

    def open_data(self, image_size: int) -> PackedDataset:
        """The data set to compare with: the run's own, or the one asked for."""
        settings = self.info.get("settings", {})
        dataset, count = settings.get("dataset", "avatars"), settings.get("count")
        if self.config.dataset not in (None, dataset):
            dataset, count = self.config.dataset, None
        return datasets.prepare(DataConfig(dataset, count, image_size), progress=self.progress)

    def split(self) -> tuple[Split, bool]:
        """The pictures to compare with, and whether it is proved that the run was not trained on any of them.

        Every picture whose SHA-256 is below the number that the run recorded was held out, whatever else has changed.
        """
        own, hashes = self.info.get("data", {}), self.data.hashes
        record, same = own.get("held_out"), self.data.fingerprint == own.get("fingerprint")
        if isinstance(record, dict) and record["sha256_of"] == self.data.identity:
            parts = split(hashes, record)
            if min(len(parts.held_out), len(parts.training)) >= LEAST:
                return parts, True
        if record is True and same:  # chosen by position, which holds for the very pictures of then
            return split(hashes, True), True
        return split(hashes), False

    def bar(self, text: str) -> str | None:
        return text if self.progress else None

    def card(self) -> dict:
        config, device = self.config, self.device
        inception = self.inception() if config.inception else None
        fake = features.features_of(self.generated, device, progress=self.bar("Features of generated pictures"))
        real = features.data_features(self.data, self.rows, device, self.bar("Features of held-out pictures"))
        other = features.data_features(self.data, self.floor_rows, device, self.bar("Features of training pictures"))
        found = metrics.distances(fake, real, config.seed)
        floor = metrics.distances(other, real, config.seed)
        found["two_sample"] = metrics.two_sample_test(real, fake, config.seed)
        floor["two_sample"] = metrics.two_sample_test(real, other, config.seed)
        card = {
            "run": self.run.name,
            "count": len(self.generated),
            "seed": config.seed,
            "compared_with": self.provenance(),
            "extractor": {
                "name": f"{EXTRACTOR}, ImageNet",
                "sha256": features.WEIGHTS_SHA256,
                "input": f"{features.SIDE} px",
                "resizer": features.RESIZER,
                "features": features.LENGTH,
            },
            "figures": {name: {"generated": found[name], "floor": floor[name]} for name in found},
            "variety": spread_of(fake) / max(spread_of(real), 1e-9),
            "inception": inception,
            "memorisation": self.memorisation(),
            "attributes": self.attributes(),
        }
        card["findings"] = findings(card)
        card["versions"] = {name: version(name) for name in ("torch", "torchvision", "torch-fidelity", "numpy")}
        card["device"] = hardware.describe(device)
        return rounded(card)

    def provenance(self) -> dict:
        """What the generated pictures are compared with, and whether the run has ever seen it."""
        own = self.info.get("data", {})
        meta = self.data.meta
        return {
            "dataset": meta["dataset"],
            "pictures": len(self.data),
            "held_out": self.held_out_count,
            "fingerprint": self.data.fingerprint,
            "as_in_training": self.data.fingerprint == own.get("fingerprint"),
            "never_trained_on": self.proved,
        }

    def memorisation(self) -> dict:
        """Whether G copies, and the pairs to show for it."""
        training = Part(self.data.images, self.training)
        found = metrics.memorisation(self.generated, self.held_out, training)
        row, apart = metrics.nearest(self.generated, training)
        for number in np.argsort(apart, kind="stable")[:PAIRS]:
            self.pairs.append((self.generated[number], training[row[number]], float(apart[number])))
        return {"training_pictures": len(training), "unit": "root mean square, grey levels, at 32 px", **found}

    def attributes(self) -> dict | None:
        """What the attributes of the data become in G; None where the data has none."""
        labels = self.data.labels
        learned = [labels[row] for row in self.training]
        if not metrics.learnable(learned):
            return None
        training, text = Part(self.data.images, self.training), self.bar("Learning to read attributes")
        reader = metrics.AttributeReader(training, learned, self.config.seed, self.device, progress=text)
        return metrics.attribute_coverage(
            reader, self.generated, self.held_out, [labels[row] for row in self.rows], self.floor
        )

    def inception(self) -> dict:
        """FID and KID proper, beside their floor.

        Raises:
            ToonGANError: the Inception weights cannot be fetched.
        """
        found = {}
        real, subset = Pictures(self.held_out), min(len(self.held_out) // 2, 1000)
        if self.progress:
            print(f"Inception features of {3 * len(self.held_out):,} pictures: slow without a GPU.", flush=True)
        for name, pictures in (("generated", self.generated), ("floor", self.floor)):
            try:
                with torch.random.fork_rng(devices=[]):
                    one = calculate_metrics(
                        input1=Pictures(pictures), input2=real, fid=True, kid=True, kid_subset_size=subset,
                        rng_seed=self.config.seed % 2**32, cuda=self.device.type == "cuda", cache=False,
                        save_cpu_ram=True, verbose=False,
                    )  # fmt: skip
            except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
                folder = Path(torch.hub.get_dir()) / "checkpoints"
                raise ToonGANError(
                    f"needs Inception weights, which could not be fetched ({str(error).splitlines()[0]}); "
                    f"leave it out, or put {INCEPTION} in {folder} by hand.",
                    "inception",
                ) from error
            found[name] = {
                "fid": one["frechet_inception_distance"],
                "kid": one["kernel_inception_distance_mean"],
                "kid_std": one["kernel_inception_distance_std"],
            }
        return found


class Part:
    """Some rows of an array, read from disk only when they are asked for."""

    def __init__(self, images: np.ndarray, rows: np.ndarray):
        self.images, self.rows = images, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, wanted) -> np.ndarray:
        return self.images[self.rows[wanted]]


class Pictures(Dataset):
    """uint8 `(N, H, W, 3)` as torch-fidelity reads it: `(3, H, W)` an item."""

    def __init__(self, pictures: np.ndarray):
        self.pictures = torch.from_numpy(pictures).permute(0, 3, 1, 2)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.pictures[row]


def spread_of(rows: np.ndarray) -> float:
    """How far features `(N, L)` are from their mean, squared."""
    return float(rows.var(0, dtype=np.float64).sum())


def findings(card: dict) -> list[str]:
    """What a reader of the figures should know, a sentence each."""
    said, against, memory, count = [], card["compared_with"], card["memorisation"], card["count"]
    if not against["never_trained_on"] and against["as_in_training"]:
        said.append(
            "This run was trained on all pictures, the held-out ones too, so the figures flatter it and cannot show "
            "copying; train it again with this version to keep them apart."
        )
    elif not against["never_trained_on"]:
        said.append(
            "Nothing proves that the run was never trained on some of these pictures: if it was, the figures flatter it."
        )
    if not against["as_in_training"]:
        said.append(
            "The pictures compared with are not all those of the training, in the same order: another data set, one to "
            "which pictures were added, renamed or moved since, or drawings by other versions."
        )
    if count < FEW:
        said.append(f"{count} pictures are few: distances are larger at a small count; compare only with the same.")
    if card["variety"] < POOR_VARIETY:
        said.append(
            f"G repeats itself: its pictures are only {100 * card['variety']:.0f} % as varied as real ones. "
            "Train with --recipe modern, a larger --batch-size, or more pictures."
        )
    if card["figures"]["precision"]["generated"] == card["figures"]["recall"]["generated"] == 0:
        said.append(
            "No generated picture is within reach of a real one yet, so precision and recall are 0; "
            "the distances tell progress."
        )
    if memory["copies"] > COPIES + count**-0.5:  # chance alone lifts it where there are few
        said.append(
            f"G copies: {100 * memory['copies']:.0f} % of its pictures are nearer to a training picture than 99 % of real ones "
            "are. Train on more pictures, or for a shorter time."
        )
    for name, one in (card["attributes"] or {}).items():
        if one.get("forgotten"):
            some = ", ".join(value or "none" for value in one["forgotten"][:5])
            more = ", …" if len(one["forgotten"]) > 5 else ""
            said.append(f"{name}: {len(one['forgotten'])} of {one['values']} values forgotten: {some}{more}.")
    unread = [name for name, one in (card["attributes"] or {}).items() if not one["legible"]]
    if unread:
        said.append(f"Left out, since the classifier cannot read them on real pictures: {', '.join(unread)}.")
    if card["attributes"] is None:
        said.append("The pictures have no labels to learn, so there is nothing on attributes.")
    return said


def rounded(value):
    """All real numbers in a card to six significant digits: what is beyond them may differ from machine to machine."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def written(figures: dict, name: str, which: str, factor: float, decimals: int, unit: str) -> str:
    """One figure in words, with its 95 % interval if it has one."""
    value = figures[name][which]
    if name == "two_sample":
        low, high = (f"{factor * value[end]:.{decimals}f}" for end in ("low", "high"))
        return f"{factor * value['accuracy']:.{decimals}f}{unit} ({low} to {high})"
    error = f" ± {figures['kernel_error'][which]:.{decimals}f}" if name == "kernel_distance" else ""
    return f"{factor * value:.{decimals}f}{error}{unit}"


def lines_of(card: dict) -> list[tuple[str, str, str]]:
    """The figures of a card in words: title, generated, floor."""
    lines = []
    for name, title, *form in FIGURES:
        lines.append((title, *(written(card["figures"], name, which, *form) for which in ("generated", "floor"))))
    if card["inception"]:
        for name, title in (("fid", f"FID-{card['count']}, Inception"), ("kid", "KID × 1,000, Inception")):
            factor = 1 if name == "fid" else 1000
            both = (f"{factor * card['inception'][which][name]:.1f}" for which in ("generated", "floor"))
            lines.append((title, *both))
    memory = card["memorisation"]
    mine, real = f"{memory['generated']:.1f}", f"{memory['held_out']:.1f} (held out)"
    lines.append(("distance to the nearest training picture", mine, real))
    return lines


def heading(card: dict) -> str:
    against = card["compared_with"]
    real = f"{card['count']:,} held out from {against['pictures']:,} of {against['dataset']}"
    return f"{card['run']}: {card['count']:,} generated pictures against {real}, seed {card['seed']}"


def conditions(card: dict) -> str:
    """What the figures depend on, beside the count and the seed."""
    proved = card["compared_with"]["never_trained_on"]
    seen = "never trained on" if proved else "not proved that the run was not trained on some"
    how = f"{card['extractor']['name']}, {card['extractor']['input']}, {card['extractor']['resizer'].split(',')[0]}"
    return f"held-out pictures: {seen}; {how}; {card['minutes']} minutes on {card['device']}, {card['date']}"


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
                f"read right {100 * one['accuracy']:.0f} % of the time on real pictures"
            )
    return "\n".join([*text, *(f"- {sentence}" for sentence in card["findings"])])


def plot_card(card: dict, pairs: list[tuple[np.ndarray, np.ndarray, float]]) -> plt.Figure:
    """A card as a picture: figures beside their floors, the attributes that differ most, nearest neighbours."""
    legible = {name: one for name, one in (card["attributes"] or {}).items() if one["legible"]}
    worst = sorted(legible, key=lambda name: -legible[name]["distance"])[:CHARTS]
    fig = plt.figure(figsize=(13, 12 if worst else 8), layout="constrained")
    heights = [3.2, 4.2, 2.6] if worst else [3.2, 2.6]
    parts = fig.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    fig.suptitle(f"{heading(card)}\n{conditions(card)}", fontsize=11)
    figures, test = parts[0].subplots(1, 2, width_ratios=[2.2, 1])
    figures.axis("off")
    figures.set_title("Figures", loc="left")
    names = ("", "generated", "floor: real against real")
    cells = figures.table(
        lines_of(card), colLabels=names, colWidths=(0.5, 0.25, 0.25), cellLoc="left", bbox=(0, 0, 1, 1)
    )
    cells.auto_set_font_size(False)
    cells.set_fontsize(10)
    plot_two_sample(test, card["figures"]["two_sample"])
    if worst:
        for ax, name in zip(parts[1].subplots(1, CHARTS), [*worst, None, None]):
            if name is None:
                ax.axis("off")
            else:
                metrics.plot_mix(ax, name, legible[name])
                ax.tick_params(labelsize=8)
    axes = parts[-1].subplots(2, len(pairs), squeeze=False)
    ratio = card["memorisation"]["ratio"]
    parts[-1].suptitle(
        "The generated pictures nearest to a training picture (above), and that training picture (below), with their distance "
        f"in grey levels; median {ratio:.2f} times that of held-out pictures",
        fontsize=10,
    )
    for column, (mine, theirs, apart) in enumerate(pairs):
        for row, picture in enumerate((mine, theirs)):
            axes[row, column].imshow(picture)
            axes[row, column].axis("off")
        axes[0, column].set_title(f"{apart:.1f}", fontsize=9)
    return fig


def plot_two_sample(ax: plt.Axes, test: dict) -> None:
    """How often a classifier tells generated and real pictures from held-out ones, with its 95 % interval."""
    names = ("generated", "floor")
    shares = np.array([[100 * test[name][key] for key in ("accuracy", "low", "high")] for name in names])
    errors = np.clip([shares[:, 0] - shares[:, 1], shares[:, 2] - shares[:, 0]], 0, None)
    ax.bar(
        ("generated", "other real\n(floor)"),
        shares[:, 0],
        yerr=errors,
        capsize=6,
        color=("0.8", "0.35"),
        edgecolor="0.2",
    )
    ax.axhline(50, color="black", linestyle=":", linewidth=1)
    ax.set(
        ylim=(0, 105),
        ylabel="right answers (%)",
        title="Told from held-out pictures\n(50 %, dotted: indistinguishable)",
    )
