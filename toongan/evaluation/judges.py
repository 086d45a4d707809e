"""More judges for chapter 05: each octave of an image by itself, waves, what a reader of attributes sees.

A feature net that looks at enlarged images hardly notices the finest waves, and at first those alone are enough to tell
every generated image from a real one. These judges say how near the images are in all other respects. Each has its floor.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from .. import metrics
from ..data import in_colour
from ..features import AttributeReader, features_of
from ..features.readers import to_small

OCTAVES = (1, 2, 4)
OCTAVE_SIDE = 128
OCTAVE_COUNT = 1000
REACHES = (3, 10, 30, 100)


def shrunk(images: np.ndarray, by: int) -> np.ndarray:
    """Images, uint8 `(N, H, W, channels)`, shrunk by averaging `by` × `by` pixels and enlarged again, without their fine waves."""
    if by == 1:
        return images
    small = F.avg_pool2d(torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float(), by)
    large = F.interpolate(small, scale_factor=by, mode="bilinear", align_corners=False)
    return large.round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def octaves(
    generated: np.ndarray,
    held_out: np.ndarray,
    floor: np.ndarray,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: str | None = None,
    keep: Path | None = None,
) -> dict[str, dict]:
    """Distances between images shrunk by 1, 2 and 4: which octave of an image gives it away?

    All are uint8 `(N, H, W, 3)`; the first 1,000 of each are judged, at 128 px. Compare values only at the same number.

    Args:
        keep: a folder in which the features of the real images are kept for the next time.

    Returns:
        for each factor: frechet_distance, precision, recall and auc (`two_sample_test`), each generated and floor.
    """
    sides, found = ((held_out, keep), (generated, None), (floor, keep)), {}
    for by in OCTAVES:
        text = None if progress is None else f"{progress} {by}"
        real, *others = (
            features_of(shrunk(each[:OCTAVE_COUNT], by), device, OCTAVE_SIDE, text, folder) for each, folder in sides
        )
        both = {}
        for name, features in zip(("generated", "floor"), others):
            values = metrics.distances(features, real, seed)
            both[name] = {key: values[key] for key in ("frechet_distance", "precision", "recall")}
            both[name]["auc"] = metrics.two_sample_test(real, features, seed)["auc"]
        found[str(by)] = {key: {name: both[name][key] for name in both} for key in both["floor"]}
    return found


def spectrum(images: np.ndarray) -> np.ndarray:
    """Mean power of waves across and down grey images, uint8 `(N, H, W, 3)`: `(2, H / 2)`, by waves per image."""
    grey = in_colour(np.asarray(images, np.float32)).mean(3)
    grey -= grey.mean((1, 2), keepdims=True)
    return np.stack([(np.abs(np.fft.rfft(grey, axis=axis)) ** 2).mean((0, 3 - axis))[1:] for axis in (2, 1)])


def spectrum_distance(generated: np.ndarray, real: np.ndarray) -> float:
    """How far the power of waves is off, in decibels: the mean over all wavelengths and both directions."""
    return float(10 * np.abs(np.log10(spectrum(generated) + 1e-9) - np.log10(spectrum(real) + 1e-9)).mean())


def precision_at(generated: np.ndarray, real: np.ndarray, reaches: tuple[int, ...] = REACHES) -> dict[str, float]:
    """Share of generated features `(N, L)` within reach of a real one, for several reaches k: its k-th nearest neighbour.

    Kynkäänniemi et al. 2019, section 2, take k = 3. With a wider reach the share moves long before that one does.
    """
    generated, real = torch.from_numpy(generated).double(), torch.from_numpy(real).double()
    among, apart = torch.cdist(real, real), torch.cdist(generated, real)
    found = {}
    for reach in reaches:
        radii = among.kthvalue(min(reach + 1, len(real)), dim=1).values  # the nearest is itself
        found[str(reach)] = float((apart <= radii).any(1).double().mean())
    return found


def reader_features(reader: AttributeReader, images: np.ndarray) -> tuple[np.ndarray, float]:
    """What a reader of attributes sees in images, uint8 `(N, H, W, 3)`: features `(N, 128)`, and its mean confidence."""
    features, sure = [], []
    with torch.inference_mode():
        for start in range(0, len(images), 256):
            small = to_small(images[start : start + 256], reader.device)
            maps = reader.net[:-2](small)
            logits = reader.net[-2:](maps).float().split(reader.sizes, 1)
            features.append(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1).float().cpu())
            sure.append(torch.stack([part.softmax(1).amax(1) for part in logits], 1).mean(1).cpu())
    return torch.cat(features).numpy(), float(torch.cat(sure).mean())


def by_reader(
    reader: AttributeReader, generated: np.ndarray, held_out: np.ndarray, floor: np.ndarray, seed: int = 0
) -> dict[str, dict]:
    """Distances in the features of a net that knows nothing but the attributes of the data.

    All are uint8 `(N, H, W, 3)`. The net looks at hair, eyes and mouths, not at texture.

    Returns:
        frechet_distance, precision, recall, coverage and confidence, each generated and floor.
    """
    real, _ = reader_features(reader, held_out)
    found = {}
    for name, images in (("generated", generated), ("floor", floor)):
        features, confidence = reader_features(reader, images)
        values = metrics.distances(features, real, seed)
        kept = {key: values[key] for key in ("frechet_distance", "precision", "recall", "coverage")}
        for key, value in {**kept, "confidence": confidence}.items():
            found.setdefault(key, {})[name] = value
    return found
