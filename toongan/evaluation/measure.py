"""Measure a run: every value of chapter 05, each beside its floor, in `metrics.json` and `metrics.png`."""

import dataclasses
import hashlib
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

from .. import features, metrics
from ..conditional import random_latent
from ..config import EvaluateConfig, data_of
from ..data import in_colour
from ..datasets import PackedDataset, Split, evenly, prepare, same_set, split
from ..datasets.holdout import LEAST
from ..devices import hardware
from ..errors import ToonGANError, explaining_memory, out_of_memory
from ..paths import SOFTWARE, atomic_write, checkpoint_folder, display, writable_folder
from ..runs import Run, draw, find_run, load_generator, seeded
from . import judges
from .card import EXTRACTOR, FILE, conditions, findings, plot_card, rounded, table
from .coverage import attribute_coverage
from .obedience import obedience

PAIRS = 10
INCEPTION = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)


def evaluate(config: EvaluateConfig, progress: bool = True) -> dict:
    """Measure the generator of a run; writes `metrics.json` and `metrics.png` beside its `G.pth` and returns the card.

    Nothing is downloaded, unless `config.inception` asks for it. On one machine it writes the same bytes every time,
    except for the minutes and the date.

    Raises:
        ToonGANError: there is no such run, its data cannot be found, or memory is short; says what to do.
    """
    with explaining_memory(config):
        return measured(config, progress)


def measured(config: EvaluateConfig, progress: bool) -> dict:
    start = time.perf_counter()
    evaluation = Evaluation(config, progress)
    with hardware.kernels(evaluation.device, deterministic=True, strict=False):
        evaluation.draw()
        card = evaluation.card()
    card["minutes"] = round((time.perf_counter() - start) / 60, 1)
    card["date"] = time.strftime("%Y-%m-%d")
    folder = card_folder(evaluation.run)
    text = json.dumps(card, indent=2, ensure_ascii=False)
    text = re.sub(r"\[\s+([\d.e-]+),\s+([\d.e-]+)\s+\]", r"[\1, \2]", text)  # a pair of shares on one line
    with atomic_write(folder / FILE) as part:
        part.write_text(text + "\n", encoding="utf-8")
    fig = plot_card(card, evaluation.pairs)
    with atomic_write(folder / "metrics.png") as part:
        fig.savefig(part, dpi=130, metadata={"Software": SOFTWARE})
    plt.close(fig)
    if progress:
        print(table(card))
        print(f"{conditions(card)}\nFiles:")
        for name in (FILE, "metrics.png"):
            print(f"  {display(folder / name)}")
    return card


def card_folder(run: Run) -> Path:
    """Where the card goes: beside the run's `G.pth`, or under TOONGAN_HOME if that folder is read-only."""
    try:
        return writable_folder(run.checkpoints)
    except ToonGANError:
        return writable_folder(checkpoint_folder(run.name))


class Evaluation:
    """What one card is made of: the run, its generated images, and two sets of real ones.

    Attributes:
        generated, held_out, floor: uint8 `(count, H, W, 3)`; the floor is real images from those to train on.
        training: all rows of the data set that a run may train on.
        start_saw: whether the nets that the run began with may have been trained on some of the held-out images.
        pairs: generated images and the training images nearest to them, nearest first; filled by `card`.
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
        self.generator, self.count = generator, count
        self.pairs: list[tuple[np.ndarray, np.ndarray, float]] = []

    def draw(self) -> None:
        """Draw the generated images."""
        latent = random_latent(self.generator, self.count, seeded(self.config.seed, "evaluate"))
        self.generated = draw(self.generator.to(self.device), latent)

    def open_data(self, image_size: int) -> PackedDataset:
        """The data set to compare with: the run's own, or the one asked for."""
        wanted = data_of({**self.info.get("settings", {}), "image_size": image_size})
        if self.config.dataset not in (None, wanted.dataset):
            wanted = dataclasses.replace(wanted, dataset=self.config.dataset, count=None)
        return prepare(wanted, progress=self.progress)

    def split(self) -> tuple[Split, bool]:
        """The images to compare with, and whether it is proved that the run was not trained on any of them.

        Every image whose SHA-256 is below the number that the run recorded was held out, whatever has changed since.
        """
        own, hashes = self.info.get("data", {}), self.data.hashes
        before = (self.info.get("start") or {}).get("trained_on", [])
        self.start_saw = any(same_set(name, self.data.meta["dataset"]) for name in before)
        fresh = not self.start_saw
        record, same = own.get("held_out"), self.data.fingerprint == own.get("fingerprint")
        if isinstance(record, dict) and record["sha256_of"] == self.data.identity:
            parts = split(hashes, record)
            if min(len(parts.held_out), len(parts.training)) >= LEAST:
                return parts, fresh
        if record is True and same:  # chosen by position, which holds for the very images of then
            return split(hashes, True), fresh
        return split(hashes), False

    def bar(self, text: str) -> str | None:
        return text if self.progress else None

    def card(self) -> dict:
        config, device = self.config, self.device
        inception = self.inception() if config.inception else None
        fake = features.features_of(self.generated, device, progress=self.bar("Features of generated images"))
        real = features.data_features(self.data, self.rows, device, self.bar("Features of held-out images"))
        other = features.data_features(self.data, self.floor_rows, device, self.bar("Features of training images"))
        found = metrics.distances(fake, real, config.seed)
        floor = metrics.distances(other, real, config.seed)
        for values, seen, images in ((found, fake, self.generated), (floor, other, self.floor)):
            values["two_sample"] = metrics.two_sample_test(real, seen, config.seed)
            values["precision_at"] = judges.precision_at(seen, real)
            values["spectrum_distance"] = judges.spectrum_distance(images, self.held_out)
        three = self.generated, self.held_out, self.floor
        reader = self.reader()
        card = {
            "run": self.run.name,
            "generator": hashlib.sha256(self.run.generator_path.read_bytes()).hexdigest(),
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
            "octaves": judges.octaves(
                *three, config.seed, device, self.bar("Features, shrunk by"), self.data.folder / "features"
            ),
            "spectrum": {
                name: judges.spectrum(images).tolist() for name, images in zip(("generated", "held_out"), three)
            },
            "reader": None if reader is None else judges.by_reader(reader, *three, config.seed),
            "attributes": None if reader is None else self.attributes(reader),
            "wishes": self.wishes(reader),
        }
        card["findings"] = findings(card)
        card["versions"] = {name: version(name) for name in ("torch", "torchvision", "torch-fidelity", "numpy")}
        card["device"] = hardware.describe(device)
        return rounded(card)

    def provenance(self) -> dict:
        """What the generated images are compared with, and whether the run has ever seen it."""
        own = self.info.get("data", {})
        meta = self.data.meta
        return {
            "dataset": meta["dataset"],
            "images": len(self.data),
            "held_out": self.held_out_count,
            "fingerprint": self.data.fingerprint,
            "as_in_training": self.data.fingerprint == own.get("fingerprint"),
            "never_trained_on": self.proved,
            "start_may_have_seen": self.start_saw,
        }

    def memorisation(self) -> dict:
        """Whether G copies, and the pairs to show for it."""
        training, generated = Part(self.data.images, self.training), self.asked_for_new()
        found = metrics.memorisation(generated, self.held_out, training)
        row, apart = features.nearest(generated, training)
        for number in np.argsort(apart, kind="stable")[:PAIRS]:
            self.pairs.append((generated[number], training[row[number]], float(apart[number])))
        return {"training_images": len(training), "unit": "root mean square, grey levels, at 32 px", **found}

    def asked_for_new(self) -> np.ndarray:
        """Generated images that should be new, unless G copies.

        If G is asked for everything that a training image has, it may draw that image without copying it. So a G that
        can be asked is asked for what held-out images have.
        """
        attributes = self.generator.attributes
        if attributes is None:
            return self.generated
        wishes = attributes.one_hot(attributes.numbers([self.data.labels[row] for row in self.rows]))
        chance = seeded(self.config.seed, "asked for new")
        noise = torch.randn(self.count, self.generator.latent_dim - attributes.length, generator=chance)
        return draw(self.generator, torch.cat([noise, wishes], 1))

    def reader(self) -> features.AttributeReader | None:
        """A net that has learned to read the attributes of the data; None where the data has none."""
        learned = [self.data.labels[row] for row in self.training]
        if not features.learnable(learned):
            return None
        training, text = Part(self.data.images, self.training), self.bar("Learning to read attributes")
        return features.AttributeReader(training, learned, self.config.seed, self.device, progress=text)

    def attributes(self, reader: features.AttributeReader) -> dict:
        """What the attributes of the data become in G."""
        truth = [self.data.labels[row] for row in self.rows]
        return attribute_coverage(reader, self.generated, self.held_out, truth, self.floor)

    def wishes(self, reader: features.AttributeReader | None) -> dict | None:
        """Whether G draws what it is asked for; None if it cannot be asked, or if no reader can tell."""
        if reader is None or self.generator.attributes is None:
            return None
        truth = [self.data.labels[row] for row in self.rows]
        return obedience(self.generator, reader, self.held_out, truth, self.config.seed) or None

    def inception(self) -> dict:
        """FID and KID proper, beside their floor.

        Raises:
            ToonGANError: the Inception weights cannot be fetched.
        """
        found = {}
        real, subset = Images(self.held_out), min(len(self.held_out) // 2, 1000)
        if self.progress:
            print(f"Inception features of {3 * len(self.held_out):,} images: slow without a GPU.", flush=True)
        for name, images in (("generated", self.generated), ("floor", self.floor)):
            try:
                with torch.random.fork_rng(devices=[]):
                    one = calculate_metrics(
                        input1=Images(images), input2=real, fid=True, kid=True, kid_subset_size=subset,
                        rng_seed=self.config.seed % 2**32, cuda=self.device.type == "cuda", cache=False,
                        save_cpu_ram=True, verbose=False,
                    )  # fmt: skip
            except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
                if (problem := out_of_memory(error, self.config)) is not None:
                    raise problem from error
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
    """Some rows of an array, read from disk only when they are needed."""

    def __init__(self, images: np.ndarray, rows: np.ndarray):
        self.images, self.rows = images, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, wanted) -> np.ndarray:
        return self.images[self.rows[wanted]]


class Images(Dataset):
    """uint8 `(N, H, W, 3)` as torch-fidelity reads it: `(3, H, W)` an item."""

    def __init__(self, images: np.ndarray):
        self.images = torch.from_numpy(np.array(in_colour(images))).permute(0, 3, 1, 2)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.images[row]


def spread_of(rows: np.ndarray) -> float:
    """How far features `(N, L)` are from their mean, squared."""
    return float(rows.var(0, dtype=np.float64).sum())
