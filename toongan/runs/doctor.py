"""Reads the curves of a run as they grow and says, in a sentence or two, what is wrong and what to change.

It knows five failures: a loss is not a number, D has won, G repeats itself, a checkerboard, nothing moves.
"""

import math
from dataclasses import dataclass

import numpy as np

ROWS = 4
CURVES = ("loss_d", "loss_g", "real_score", "fake_score")
WON = 0.9
LOW_LOSS = 0.2
POOR_VARIETY = 0.35
FOG_KIMG = 50
# Grey levels. Measured: at most 1.2 in 28 runs with smooth kernels, more than 1.5 in 41 of 42 runs with free ones.
WOVEN = 1.5
STILL = 0.01
SIDE = 8


@dataclass(frozen=True)
class Finding:
    """One failure: a short name, and what to tell the reader."""

    name: str
    text: str


NOT_A_NUMBER = Finding(
    "not a number",
    "A loss is not a number, and the weights are probably lost with it. "
    "Go back to the last good checkpoint. Compute losses from logits, in full precision, or lower the learning rates.",
)
D_WON = Finding(
    "D has won",
    "D has won: its loss is near 0 and it tells real from fake every time, so G no longer learns to draw. "
    "Use --recipe modern, or another --seed; in a loop of your own, lower D's learning rate or add spectral norm.",
)
G_REPEATS = Finding(
    "G repeats itself",
    "G repeats itself: its samples differ far less from one another than the training images do. "
    "Use --recipe modern, or more images; in a loop of your own, lower G's learning rate or raise D's. "
    "What was saved before this point may be better.",
)
CHECKERBOARD = Finding(
    "checkerboard",
    "A checkerboard: where training images are flat, the pixels of samples alternate. "
    "Use --recipe modern; in a loop of your own, use smooth kernels in G.",
)
NOTHING_MOVES = Finding(
    "nothing moves",
    "Nothing moves: the losses stand still, and D gives real and fake images the same score. "
    "Use --recipe modern; in a loop of your own, raise the learning rates, and check that images lie in [-1, 1].",
)


def look(pixels: np.ndarray) -> np.ndarray:
    """Mean and spread of the 8×8 thumbnails of images `(N, H, W, channels)`: `(2, 8, 8, channels)`, in grey levels."""
    n, height, width, channels = pixels.shape
    small = pixels.reshape(n, SIDE, height // SIDE, SIDE, width // SIDE, channels).mean((2, 4))
    return np.stack([small.mean(0), small.std(0)])


def variety(seen: np.ndarray) -> float:
    """How far images are from one another, in grey levels; takes what `look` gives."""
    return float(seen[1].mean())


def weave(pixels: np.ndarray) -> float:
    """How strongly single pixels of images `(N, H, W, channels)` alternate in most places, in grey levels.

    In each 2×2 square of pixels, this is the difference between the means of the two diagonals, halved. Most squares of
    a drawing are flat, so the median over all squares is 0.
    """
    grey = pixels.mean(3, dtype=np.float32)
    across = grey[:, :, ::2] - grey[:, :, 1::2]
    return float(np.median(np.abs(across[:, ::2] - across[:, 1::2])) / 4)


def diagnose(
    history: list[dict], variety_share: float | None = None, weave_excess: float | None = None
) -> Finding | None:
    """The first failure that the last rows of a history show; None if all is well.

    Args:
        history: rows of `history.csv`.
        variety_share: variety of the samples, divided by that of the training images.
        weave_excess: weave of the samples, less that of the training images, in grey levels.
    """
    if history and not all(math.isfinite(history[-1][name]) for name in CURVES):
        return NOT_A_NUMBER
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
    repeats = variety_share is not None and variety_share < POOR_VARIETY
    # Early samples are fog, which has no variety either: that is a failure only once there should be faces.
    if repeats and history[-1]["kimg"] >= FOG_KIMG:
        return G_REPEATS
    # Fog and one image again and again may alternate too, but that is not what is wrong with them.
    if weave_excess is not None and weave_excess > WOVEN and not repeats:
        return CHECKERBOARD
    if len(history) >= 3 * ROWS and abs(gap) < STILL and max(range_of("loss_d"), range_of("loss_g")) < STILL:
        return NOTHING_MOVES
    return None
