
import math
import sys
from collections import Counter
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics
from tqdm import tqdm

from .data import to_tensor
from .errors import ToonGANError
from .features import NAME, features_of

def density_coverage(generated: np.ndarray, real: np.ndarray, k: int = 5) -> tuple[float, float]:
    """Density and coverage of features `(N, L)` against real ones `(M, L)` (Naeem et al. 2020, section 3.2)."""
    generated, real = torch.from_numpy(generated).double(), torch.from_numpy(real).double()
    radii = torch.cdist(real, real).kthvalue(min(k + 1, len(real)), dim=1).values  # the nearest is itself
    apart = torch.cdist(generated, real)
    density = (apart < radii).double().sum(1).mean() / k
    coverage = (apart.min(0).values < radii).double().mean()
    return float(density), float(coverage)

class Rows(Dataset):
    """Features as a data set, a row an item: the form that torch-fidelity reads."""

    def __init__(self, features: np.ndarray):
        self.features = torch.from_numpy(features)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.features[row]


def distances(generated: np.ndarray, real: np.ndarray, seed: int = 0) -> dict[str, float]:
    """All figures that compare features `(N, 1280)` with as many real ones.

    Returns:
        frechet_distance; kernel_distance, times 1,000, and kernel_error, half of its 95 % interval;
        precision, recall (3 neighbours); density, coverage (5 neighbours).

    Raises:
        ToonGANError: fewer than 8 rows.
    """
    count = min(len(generated), len(real))
    if count < 8:
        raise ToonGANError(f"is {count}, too few to measure anything; give 8 at least.", "count")
    subset = min(count // 2, 1000)
    with torch.random.fork_rng(devices=[]):  # its loader of rows draws a seed that nothing depends on
        found = calculate_metrics(
            input1=Rows(generated), input2=Rows(real), feature_extractor=NAME, fid=True, kid=True, prc=True,
            kid_subsets=50, kid_subset_size=subset, rng_seed=seed % 2**32,
            cuda=False, cache=False, save_cpu_ram=True, verbose=False, batch_size=512,
        )  # fmt: skip
    density, coverage = density_coverage(generated, real)
    # Subsets share pictures: what they vary by is scaled to what new sets of `count` pictures would vary by.
    error = found["kernel_inception_distance_std"] * math.sqrt(subset / (count - subset))
    return {
        "frechet_distance": found["frechet_inception_distance"],
        "kernel_distance": 1000 * found["kernel_inception_distance_mean"],
        "kernel_error": 1000 * 1.96 * error,
        "precision": found["precision"],
        "recall": found["recall"],
        "density": density,
        "coverage": coverage,
    }

class QuickDistance:
    """Fréchet distance, MobileNetV2 at 96 px: for a look every few minutes of training, not for a card.

    Nothing random happens in it, and neither the global random state nor gradients are touched.

    Args:
        held_out: pictures never trained on, uint8 `(N, H, W, 3)`; their features are computed here, once.
    """

    def __init__(self, held_out: np.ndarray, device: torch.device | str = "cpu", side: int = 96):
        self.device, self.side = device, side
        self.mean, self.spread = self.moments(held_out)

    def moments(self, pictures: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean of the features, and a matrix A with AᵀA their covariance."""
        features = torch.from_numpy(features_of(pictures, self.device, self.side)).double()
        mean = features.mean(0)
        return mean, (features - mean) / math.sqrt(len(features) - 1)

    def distance(self, samples: np.ndarray) -> float:
        """How far samples, uint8 `(N, H, W, 3)`, are from the held-out pictures. Compare only at one N; 512 is plenty."""
        with torch.no_grad():
            mean, spread = self.moments(samples)
            cross = spread @ self.spread.T
            # The eigenvalues of this small matrix are those of the product of both covariances.
            roots = torch.linalg.eigvalsh(cross @ cross.T).clamp_min(0).sqrt().sum()
            total = spread.square().sum() + self.spread.square().sum()
            return float((mean - self.mean).square().sum() + total - 2 * roots)

SIDE = 64


def small_net(outputs: int, width: int = 16) -> nn.Sequential:
    """A fresh small classifier: pictures `(N, 3, 64, 64)` in [-1, 1] to logits `(N, outputs)`."""
    layers, channels = [], 3
    for grown in (width, 2 * width, 4 * width, 4 * width):
        layers += [nn.Conv2d(channels, grown, 3, 2, 1, bias=False), nn.BatchNorm2d(grown), nn.ReLU()]
        channels = grown
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * (SIDE // 16) ** 2, outputs))


def to_small(pictures: np.ndarray, device: torch.device | str) -> torch.Tensor:
    """uint8 `(N, H, W, 3)` to `(N, 3, 64, 64)` in [-1, 1] on `device`."""
    pictures = to_tensor(torch.from_numpy(np.array(pictures)).to(device))
    if pictures.shape[-1] != SIDE:
        pictures = F.interpolate(pictures, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    return pictures.contiguous(memory_format=torch.channels_last)

def fit(
    outputs: int,
    pictures: np.ndarray,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    passes: int,
    seed: int,
    device: torch.device | str = "cpu",
    progress: str | None = None,
) -> nn.Sequential:
    """Train a `small_net` on pictures, uint8 `(N, H, W, 3)`, each seen `passes` times.

    Args:
        loss: of logits `(B, outputs)` and the rows they are of.
        progress: what a progress bar says; None for no bar.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = small_net(outputs).to(device, memory_format=torch.channels_last)
    batch = min(64, len(pictures))
    steps = passes * (len(pictures) // batch)
    optimizer = torch.optim.Adam(net.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=max(steps, 2))
    order = torch.Generator().manual_seed(seed)
    bar = tqdm(total=steps, desc=progress, unit=" steps", file=sys.stdout, disable=progress is None, mininterval=0.5)
    with bar:
        for _ in range(passes):
            for rows in torch.randperm(len(pictures), generator=order).split(batch):
                if len(rows) == batch:
                    optimizer.zero_grad()
                    loss(net(to_small(pictures[rows.numpy()], device)), rows).backward()
                    optimizer.step()
                    schedule.step()
                    bar.update()
    return net.eval()


def logits_of(net: nn.Module, pictures: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """What a trained `small_net` says of pictures, uint8 `(N, H, W, 3)`: `(N, outputs)` on the CPU."""
    with torch.inference_mode():
        parts = [pictures[start : start + 256] for start in range(0, len(pictures), 256)]
        return torch.cat([net(to_small(part, device)).float().cpu() for part in parts])

def two_sample_test(
    first: np.ndarray,
    second: np.ndarray,
    seed: int = 0,
    device: torch.device | str = "cpu",
    passes: int = 8,
    progress: str | None = None,
) -> dict[str, float]:
    """How often a fresh classifier can tell two sets of pictures apart (Lopez-Paz & Oquab 2017).

    Each half of the pictures, uint8 `(N, H, W, 3)`, is judged by a classifier that was trained on the other half.

    Returns:
        accuracy, 0.5 being as good as guessing, and its 95 % interval: low, high.
    """
    pictures, target = np.concatenate([first, second]), torch.zeros(len(first) + len(second))
    target[len(first) :] = 1
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(seed))
    # Both halves hold as many of either set.
    halves = [torch.cat([order[target[order] == kind][part::2] for kind in (0, 1)]) for part in (0, 1)]
    right = 0
    for learn, judge in (halves, halves[::-1]):

        def loss(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            wanted = target[learn[rows]].to(logits.device)
            return F.binary_cross_entropy_with_logits(logits[:, 0], wanted)

        net = fit(1, pictures[learn.numpy()], loss, passes, seed, device, progress)
        says = logits_of(net, pictures[judge.numpy()], device)[:, 0] > 0
        right += int((says == (target[judge] == 1)).sum())
    return {"accuracy": right / len(target), **wilson(right, len(target))}


def wilson(right: int, count: int, z: float = 1.96) -> dict[str, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    share, middle = right / count, (right + z * z / 2) / (count + z * z)
    half = z / (count + z * z) * math.sqrt(count * share * (1 - share) + z * z / 4)
    return {"low": middle - half, "high": middle + half}

class AttributeReader:
    """A small classifier that learns to read attributes, such as the hair style, from labelled pictures.

    Args:
        pictures: uint8 `(N, H, W, 3)`.
        labels: a dictionary a picture, attribute to value; an empty value is a value like any other.
        seen: pictures that it is trained on, repeats counted.

    Attributes:
        values: attribute to the values it can take.
    """

    def __init__(
        self,
        pictures: np.ndarray,
        labels: list[dict[str, str]],
        seed: int = 0,
        device: torch.device | str = "cpu",
        seen: int = 70_000,
        progress: str | None = None,
    ):
        self.device, self.values = device, learnable(labels)
        self.sizes = [len(values) for values in self.values.values()]
        targets = self.targets(labels)

        def loss(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            wanted = targets[rows].to(logits.device)
            parts = zip(logits.split(self.sizes, 1), wanted.T, strict=True)
            return sum(F.cross_entropy(part, each, reduction="sum", ignore_index=-1) for part, each in parts) / len(rows)

        passes = max(1, min(seen // len(pictures), 20))
        self.net = fit(sum(self.sizes), pictures, loss, passes, seed, device, progress)

    def targets(self, labels: list[dict[str, str]]) -> torch.Tensor:
        """Labels as numbers `(N, attributes)`; -1 where a value is too rare to be learned."""
        numbers = [{value: i for i, value in enumerate(values)} for values in self.values.values()]
        rows = [[find.get(row[name], -1) for name, find in zip(self.values, numbers, strict=True)] for row in labels]
        return torch.tensor(rows)

    def read(self, pictures: np.ndarray) -> torch.Tensor:
        """The values that pictures, uint8 `(N, H, W, 3)`, are read to have, as numbers `(N, attributes)`."""
        parts = logits_of(self.net, pictures, self.device).split(self.sizes, 1)
        return torch.stack([part.argmax(1) for part in parts], 1)


def learnable(labels: list[dict[str, str]], least: int = 20, most: int = 128) -> dict[str, list[str]]:
    """The attributes that can be learned, each with its values, the most frequent first.

    A value needs `least` pictures; an attribute needs from 2 to `most` such values, and nine in ten pictures to have one of them.
    """
    found = {}
    for name in labels[0] if labels else ():
        counts = Counter(row[name] for row in labels)
        values = sorted((value for value in counts if counts[value] >= least), key=lambda value: (-counts[value], value))
        if 2 <= len(values) <= most and sum(counts[value] for value in values) >= 0.9 * len(labels):
            found[name] = values
    return found

LEGIBLE = 0.7
FORGOTTEN = 0.1


def attribute_coverage(
    reader: AttributeReader,
    generated: np.ndarray,
    held_out: np.ndarray,
    labels: list[dict[str, str]],
    floor: np.ndarray,
) -> dict[str, dict]:
    """How the attributes of generated pictures are spread, against those of held-out ones; all uint8 `(N, H, W, 3)`.

    Both are read by the same reader, so that what it confuses weighs on both.

    Args:
        labels: of the held-out pictures.
        floor: as many other real pictures.

    Returns:
        for each attribute
        accuracy: mean over the values of how often the reader is right, on the held-out pictures;
        legible: whether that is enough to say more; if so,
        distance: share of the pictures that would have to change for the mixes to be the same, and its floor;
        forgotten: values that are drawn less than a tenth as often as they should;
        mix: value to [share of the real, share of the generated].
    """
    truth, real, fake, other = reader.targets(labels), *(reader.read(each) for each in (held_out, generated, floor))
    found = {}
    for column, (name, values) in enumerate(reader.values.items()):
        size = len(values)
        right = [
            (real[truth[:, column] == value, column] == value).double().mean()
            for value in range(size)
            if (truth[:, column] == value).any()
        ]
        accuracy = float(torch.stack(right).mean()) if right else 0.0
        found[name] = {"accuracy": accuracy, "legible": accuracy >= LEGIBLE}
        if not found[name]["legible"]:
            continue
        mixes = [torch.bincount(each[:, column], minlength=size).double() / len(each) for each in (real, fake, other)]
        enough = mixes[0] * len(real) >= 10
        gone = enough & (mixes[1] < FORGOTTEN * mixes[0])
        found[name] |= {
            "distance": float((mixes[0] - mixes[1]).abs().sum() / 2),
            "floor": float((mixes[0] - mixes[2]).abs().sum() / 2),
            "values": int(enough.sum()),
            "forgotten": [values[i] for i in gone.nonzero().flatten().tolist()],
            "mix": {value: [float(mixes[0][i]), float(mixes[1][i])] for i, value in enumerate(values)},
        }
    return found

def plot_mix(ax: plt.Axes, name: str, attribute: dict, most: int = 12) -> None:
    """A bar chart of an attribute: how often each value is real, how often generated. Forgotten values are marked."""
    gone = attribute["forgotten"]
    values = gone + [value for value in attribute["mix"] if value not in gone]
    shown = values[:most]
    at = np.arange(len(shown))
    real, fake = np.array([attribute["mix"][value] for value in shown]).T * 100
    ax.barh(at - 0.2, real, 0.4, color="0.35", label="held-out real")
    ax.barh(at + 0.2, fake, 0.4, color="0.8", edgecolor="0.2", hatch="///", label="generated")
    ax.set_yticks(at, [f"{value or 'none'}{' (forgotten)' if value in gone else ''}" for value in shown])
    ax.invert_yaxis()
    more = f", {len(shown)} of {len(values)} shown" if len(values) > most else ""
    ax.set(xlabel="share of the pictures (%)")
    ax.set_title(f"{name.replace('_', ' ')}{more}\n{100 * attribute['distance']:.0f} % apart, floor {100 * attribute['floor']:.0f} %")
    ax.legend(loc="lower right")

def thumbnails(pictures: np.ndarray, side: int = 32) -> torch.Tensor:
    """Pictures, uint8 `(N, H, W, 3)`, as rows of grey levels at `side` px: `(N, side * side * 3)`."""
    pictures = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float()
    if pictures.shape[-1] != side:
        pictures = F.interpolate(pictures, (side, side), mode="bilinear", antialias=True, align_corners=False)
    return pictures.flatten(1)


def nearest(pictures: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each picture, the row of the nearest other one, and how far it is: root mean square, grey levels.

    Both are uint8 `(N, H, W, 3)`; they are compared at 32 px.
    """
    mine = thumbnails(pictures)
    best, row = torch.full((len(mine),), torch.inf), torch.zeros(len(mine), dtype=torch.long)
    for start in range(0, len(others), 2048):  # in parts, so that memory stays flat
        far, where = torch.cdist(mine, thumbnails(others[start : start + 2048])).min(1)
        row = torch.where(far < best, start + where, row)
        best = torch.minimum(far, best)
    apart = mine - thumbnails(others[row.numpy()])  # once more: cdist is not exact where there is little between
    return row.numpy(), apart.square().mean(1).sqrt().numpy()


def memorisation(generated: np.ndarray, held_out: np.ndarray, training: np.ndarray) -> dict[str, float]:
    """Are generated pictures nearer to training pictures than real ones that were never trained on? All uint8 `(N, H, W, 3)`.

    Returns:
        generated, held_out: the median distance to the nearest training picture, grey levels;
        ratio: the one by the other, well below 1 where G copies;
        copies: the share of generated pictures that are nearer to one than 99 % of the held-out ones are, 0.01 if nothing is copied;
        prefers_training: how often the nearest real picture is a training picture, among as many of both, 0.5 if nothing is
        copied (Meehan et al. 2020).
    """
    mine, real = nearest(generated, training)[1], nearest(held_out, training)[1]
    some = training[np.linspace(0, len(training) - 1, min(len(held_out), len(training))).astype(int)]
    to_some, to_held_out = nearest(generated, some)[1], nearest(generated, held_out)[1]
    return {
        "generated": float(np.median(mine)),
        "held_out": float(np.median(real)),
        "ratio": float(np.median(mine) / max(np.median(real), 1e-9)),
        "copies": float((mine < np.quantile(real, 0.01)).mean()),
        "prefers_training": float((to_some < to_held_out).mean()),
    }
