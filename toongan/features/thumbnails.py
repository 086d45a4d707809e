"""The plainest features of all, the pixels of a thumbnail: which image is the nearest, and does a generator copy?"""

import numpy as np
import torch
import torch.nn.functional as F

from .mobilenet import in_three_channels


def thumbnails(images: np.ndarray, side: int = 32) -> torch.Tensor:
    """Images, uint8 `(N, H, W, channels)`, as rows of grey levels at `side` px: `(N, side * side * 3)`."""
    small = in_three_channels(images).float()
    if small.shape[-1] != side:
        small = F.interpolate(small, (side, side), mode="bilinear", antialias=True, align_corners=False)
    return small.flatten(1)


def nearest(images: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each image, the row of the nearest other image, and its distance: root mean square, in grey levels.

    Both are uint8 `(N, H, W, channels)`; they are compared at 32 px.
    """
    mine = thumbnails(images)
    best, row = torch.full((len(mine),), torch.inf), torch.zeros(len(mine), dtype=torch.long)
    for start in range(0, len(others), 2048):  # in parts, so that memory stays flat
        far, where = torch.cdist(mine, thumbnails(others[start : start + 2048])).min(1)
        row = torch.where(far < best, start + where, row)
        best = torch.minimum(far, best)
    # Computed once more, because cdist is not exact for images that are nearly the same.
    apart = mine - thumbnails(others[row.numpy()])
    return row.numpy(), apart.square().mean(1).sqrt().numpy()


def memorisation(generated: np.ndarray, held_out: np.ndarray, training: np.ndarray) -> dict[str, float]:
    """Are generated images nearer to training images than real images that were never trained on?

    All are uint8 `(N, H, W, channels)`.

    Returns:
        generated, held_out: the median distance to the nearest training image, in grey levels;
        ratio: the first divided by the second, well below 1 if G copies;
        copies: the share of generated images that are nearer to a training image than 99 % of the held-out images are,
        0.01 if nothing is copied;
        prefers_training: how often the nearest real image is a training image, among as many of both,
        0.5 if nothing is copied.
    """
    mine, real = nearest(generated, training)[1], nearest(held_out, training)[1]
    rows = np.linspace(0, len(training) - 1, min(len(held_out), len(training))).astype(int)
    some = training[rows]
    to_some, to_held_out = nearest(generated, some)[1], nearest(generated, held_out)[1]
    return {
        "generated": float(np.median(mine)),
        "held_out": float(np.median(real)),
        "ratio": float(np.median(mine) / max(np.median(real), 1e-9)),
        "copies": float((mine < np.quantile(real, 0.01)).mean()),
        "prefers_training": float((to_some < to_held_out).mean()),
    }
