"""A linear classifier of features, and what the scores of any classifier of two kinds are worth."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F


def fit_linear(features: torch.Tensor, target: torch.Tensor, seed: int, passes: int = 60) -> Callable:
    """Train a linear classifier of features `(N, L)` by logistic regression; `target` is 0 or 1, `(N,)`.

    Returns:
        The function from features to its logits `(N,)`.
    """
    mean, spread = features.mean(0), features.std(0) + 1e-3
    standard, weight = (features - mean) / spread, torch.zeros(features.shape[1] + 1, requires_grad=True)
    optimizer = torch.optim.AdamW([weight], 1e-3, weight_decay=0.1)
    order = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for _ in range(passes):
            for rows in torch.randperm(len(features), generator=order).split(64):
                logits = standard[rows] @ weight[1:] + weight[0]
                optimizer.zero_grad()
                F.binary_cross_entropy_with_logits(logits, target[rows]).backward()
                optimizer.step()
    weight = weight.detach()
    return lambda others: (others - mean) / spread @ weight[1:] + weight[0]


def halves_of(target: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows of a target `(N,)` of 0 and 1, shuffled and halved; each half has as many of either kind."""
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(seed))
    first, second = (torch.cat([order[target[order] == kind][part::2] for kind in (0, 1)]) for part in (0, 1))
    return first, second


def wilson(right: int, count: int, z: float = 1.96) -> dict[str, float]:
    """The 95 % interval of a share, low and high (Wilson 1927)."""
    share, middle = right / count, (right + z * z / 2) / (count + z * z)
    half = z / (count + z * z) * math.sqrt(count * share * (1 - share) + z * z / 4)
    return {"low": middle - half, "high": middle + half}


def separation(scores: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    """How well scores `(N,)` separate two kinds, at whatever threshold.

    Returns:
        auc: how often one of kind 1 scores higher than one of kind 0;
        fooled: the share of kind 1 that is taken for kind 0, at the threshold where both errors are equally frequent.
    """
    low, high = scores[target == 0].sort().values, scores[target == 1].sort().values
    auc = torch.searchsorted(low, high).double().mean() / len(low)
    missed = torch.searchsorted(high, scores).double() / len(high)
    alarms = 1 - torch.searchsorted(low, scores).double() / len(low)
    return {"auc": float(auc), "fooled": float(missed[(missed - alarms).abs().argmin()])}
