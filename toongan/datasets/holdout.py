"""Which images are kept back for judging: chosen by their own content, wherever they lie and whatever they are called.

Of every set the images with the lowest SHA-256 are held out. A run records below which number that was, so that what is
added, renamed or moved later cannot turn an image that was trained on into one that was not.
"""

from dataclasses import dataclass

import numpy as np

SHARE = 8
MOST = 2500
LEAST = 8
HIGHEST = 2**64 - 1
# So many bits of what a frame is known by are its film's: no film is on both sides, where there are others.
FILM_BITS = 48


@dataclass(frozen=True)
class Split:
    """Rows of a data set: `held_out` to judge by, `training` to train on; int64, ascending.

    Attributes:
        below: images whose SHA-256 begins below this number of 64 bits are held out; None where the choice was by
            position, as in runs of earlier versions.
    """

    held_out: np.ndarray
    training: np.ndarray
    below: int | None

    def record(self, of: str) -> dict | bool:
        """What a run keeps of it, for `run.json` and checkpoints; `of` is what the SHA-256 are of."""
        if self.below is None:
            return True
        return {"sha256_of": of, "below": f"{self.below:016x}", "count": len(self.held_out)}


def split(hashes: np.ndarray, record: dict | bool | None = None) -> Split:
    """Part a data set: an eighth, from 8 to 2,500 images, is held out.

    Args:
        hashes: the first 64 bits of each image's SHA-256, uint64 `(N,)`: `PackedDataset.hashes`.
        record: what a run recorded of its own choice, which is then repeated; True for runs of earlier versions.

    Raises:
        ValueError: fewer than 16 images; a data set of this series has 64 at least.
    """
    if record is True:
        return Split(held_out_rows(len(hashes)), training_rows(len(hashes)), None)
    if record:
        below = int(record["below"], 16)
    else:
        below = lowest(hashes, held_out_count(len(hashes)))
        whole = min(-(-below >> (64 - FILM_BITS)) << (64 - FILM_BITS), HIGHEST)
        if (hashes < np.uint64(below)).sum() < (hashes < np.uint64(whole)).sum() <= len(hashes) // 2:
            below = whole  # the film that lies across it is held out as well
    held_out = hashes < np.uint64(below)
    return Split(np.flatnonzero(held_out).astype(np.int64), np.flatnonzero(~held_out).astype(np.int64), below)


def held_out_count(count: int) -> int:
    """How many of `count` images are held out."""
    if count < 2 * LEAST:
        raise ValueError(f"{count} images are too few to keep {LEAST} back; {2 * LEAST} are the least.")
    return min(max(count // SHARE, LEAST), MOST)


def lowest(hashes: np.ndarray, count: int) -> int:
    """The number below which the `count` lowest of some hashes lie."""
    return min(int(np.partition(hashes, count - 1)[count - 1]) + 1, HIGHEST)


def held_out_rows(count: int) -> np.ndarray:
    """Rows of `count` images by the rule of earlier versions, whose runs are still judged: spread evenly; int64, ascending."""
    held = held_out_count(count)
    return (2 * np.arange(held, dtype=np.int64) + 1) * count // (2 * held)


def training_rows(count: int) -> np.ndarray:
    """The other rows, by that rule; int64, ascending."""
    return np.setdiff1d(np.arange(count, dtype=np.int64), held_out_rows(count))


def evenly(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of `rows`, from the first to the last, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
