"""Which pictures are kept back for judging: chosen by their number alone, the same on every machine and for ever."""

import numpy as np

SHARE = 8
MOST = 2500
LEAST = 8


def held_out_rows(count: int) -> np.ndarray:
    """Rows of `count` pictures that are never trained on: an eighth of them, from 8 to 2,500, spread evenly.

    Returns:
        int64, ascending.

    Raises:
        ValueError: fewer than 16 pictures; a data set of this series has 64 at least.
    """
    if count < 2 * LEAST:
        raise ValueError(f"{count} pictures are too few to keep {LEAST} back; {2 * LEAST} are the least.")
    held = min(max(count // SHARE, LEAST), MOST)
    return (2 * np.arange(held, dtype=np.int64) + 1) * count // (2 * held)


def training_rows(count: int) -> np.ndarray:
    """The other rows, in order: what a run trains on.

    Returns:
        int64, ascending.
    """
    mine = np.ones(count, bool)
    mine[held_out_rows(count)] = False
    return np.flatnonzero(mine).astype(np.int64, copy=False)


def evenly(rows: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of `rows`, from the first to the last, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]
