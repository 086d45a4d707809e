"""Reads the curves as they grow and says, in a sentence, what is wrong and what to change.

Three illnesses, each told from the history's last rows: D has won, G repeats itself, nothing moves.
"""

from dataclasses import dataclass

import numpy as np

ROWS = 4
WON = 0.9
LOW_LOSS = 0.2
POOR_VARIETY = 0.35
FOG_KIMG = 50
STILL = 0.01
SIDE = 8


@dataclass(frozen=True)
class Finding:
    """One illness: a short name, and what to tell the reader."""

    name: str
    text: str


D_WON = Finding(
    "D has won",
    "D has won: its loss is near 0 and it tells real from fake every time, so G gets no direction to learn in. "
    "Use --recipe modern, or another --seed; in a loop of your own, lower D's learning rate or add spectral norm.",
)
G_REPEATS = Finding(
    "G repeats itself",
    "G repeats itself: its faces differ far less from one another than the data's. "
    "Use --recipe modern, a larger --batch-size, or more images; what is saved from before this point may be better.",
)
NOTHING_MOVES = Finding(
    "nothing moves",
    "Nothing moves: the losses stand still and D scores real and fake alike. "
    "Use --recipe modern; in a loop of your own, raise the learning rate, and check that images lie in [-1, 1].",
)


def look(pixels: np.ndarray) -> np.ndarray:
    """Mean and spread of the 8×8 thumbnails of images `(N, H, W, channels)`: `(2, 8, 8, channels)`, in grey levels."""
    n, height, width, channels = pixels.shape
    small = pixels.reshape(n, SIDE, height // SIDE, SIDE, width // SIDE, channels).mean((2, 4))
    return np.stack([small.mean(0), small.std(0)])


def variety(seen: np.ndarray) -> float:
    """How far images are from one another, in grey levels."""
    return float(seen[1].mean())


def diagnose(history: list[dict], variety_share: float | None = None) -> Finding | None:
    """What the last rows of a history show; None if all is well.

    Args:
        history: rows of `history.csv`.
        variety_share: variety of samples against the data's, 1 being as varied.
    """
    if len(history) < ROWS:
        return None

    def mean(name: str) -> float:
        return sum(row[name] for row in history[-ROWS:]) / ROWS

    def range_of(name: str) -> float:
        values = [row[name] for row in history[-3 * ROWS :]]
        return max(values) - min(values)

    gap = mean("real_score") - mean("fake_score")
    if gap > WON and mean("loss_d") < LOW_LOSS:
        return D_WON
    # Fog has no variety either: it is an illness only once there should be faces.
    if variety_share is not None and variety_share < POOR_VARIETY and history[-1]["kimg"] >= FOG_KIMG:
        return G_REPEATS
    if len(history) >= 3 * ROWS and abs(gap) < STILL and max(range_of("loss_d"), range_of("loss_g")) < STILL:
        return NOTHING_MOVES
    return None
