"""Which images are held out for measuring: chosen by their content alone, not by name or place.

The images with the lowest SHA-256 of a set are held out. A run records the threshold, so that adding, renaming or
moving images later cannot turn a training image into a held-out one.
"""

from dataclasses import dataclass

import numpy as np

SHARE = 8
MOST = 2500
LEAST = 8
HIGHEST = 2**64 - 1
# The first bits of a frame's hash are its film's, so that no film is on both sides if there are several.
FILM_BITS = 48


@dataclass(frozen=True)
class Split:
    """Rows of a data set: `held_out` for measuring, `training` to train on; int64, ascending.

    Attributes:
        below: images are held out if the first 64 bits of their SHA-256 are below this number; None if the choice was
            by position, as in runs of earlier versions.
    """

    held_out: np.ndarray
    training: np.ndarray
    below: int | None

    def record(self, of: str) -> dict | bool:
        """What a run records of the split in `run.json` and checkpoints; `of` says what the SHA-256 are of."""
        if self.below is None:
            return True
        return {"sha256_of": of, "below": f"{self.below:016x}", "count": len(self.held_out)}


def split(hashes: np.ndarray, record: dict | bool | None = None) -> Split:
    """Split a data set: an eighth of it, from 8 to 2,500 images, is held out.

    Args:
        hashes: the first 64 bits of each image's SHA-256, uint64 `(N,)`: `PackedDataset.hashes`.
        record: the choice that a run recorded, which is then repeated; True for runs of earlier versions.

    Raises:
        ValueError: there are fewer than 16 images; a data set of this series has at least 64.
    """
    if record is True:
        return Split(held_out_rows(len(hashes)), training_rows(len(hashes)), None)
    if record:
        below = int(record["below"], 16)
    else:
        below = lowest(hashes, held_out_count(len(hashes)))
        whole = min(-(-below >> (64 - FILM_BITS)) << (64 - FILM_BITS), HIGHEST)
        if (hashes < np.uint64(below)).sum() < (hashes < np.uint64(whole)).sum() <= len(hashes) // 2:
            below = whole  # the film that lies across the threshold is held out as a whole
    held_out = hashes < np.uint64(below)
    return Split(np.flatnonzero(held_out).astype(np.int64), np.flatnonzero(~held_out).astype(np.int64), below)


def held_out_count(count: int) -> int:
    """How many of `count` images are held out."""
    if count < 2 * LEAST:
        raise ValueError(f"{count} images are too few to hold out {LEAST}; at least {2 * LEAST} are needed.")
    return min(max(count // SHARE, LEAST), MOST)


def lowest(hashes: np.ndarray, count: int) -> int:
    """The number below which the `count` lowest hashes lie."""
    return min(int(np.partition(hashes, count - 1)[count - 1]) + 1, HIGHEST)


def held_out_rows(count: int) -> np.ndarray:
    """Held-out rows, evenly spread: the rule of earlier versions, whose runs can still be measured; int64, ascending."""
    held = held_out_count(count)
    return (2 * np.arange(held, dtype=np.int64) + 1) * count // (2 * held)


def training_rows(count: int) -> np.ndarray:
    """The training rows by that rule; int64, ascending."""
    return np.setdiff1d(np.arange(count, dtype=np.int64), held_out_rows(count))


def evenly(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of `rows`, evenly spread from the first to the last."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
