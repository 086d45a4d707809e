"""Two sets of features compared by torch-fidelity, a library that is checked against the papers' own code."""

import math

import numpy as np
import torch
from torch.utils.data import Dataset
from torch_fidelity import calculate_metrics

from .mobilenet import NAME


class Rows(Dataset):
    """Features as a data set, one row per item: the form that torch-fidelity reads."""

    def __init__(self, features: np.ndarray):
        self.features = torch.from_numpy(features)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.features[row]


def compared(generated: np.ndarray, real: np.ndarray, seed: int = 0) -> dict[str, float]:
    """What torch-fidelity says of features `(N, L)` and as many real ones; the global random state is left alone.

    Returns:
        frechet_distance; kernel_distance, times 1,000, over 50 random subsets, and kernel_error, half of its 95 %
        interval; precision and recall (3 neighbours).
    """
    count = min(len(generated), len(real))
    subset = min(count // 2, 1000)
    with torch.random.fork_rng(devices=[]):  # the loader of rows draws a seed that nothing depends on
        found = calculate_metrics(
            input1=Rows(generated), input2=Rows(real), feature_extractor=NAME, fid=True, kid=True, prc=True,
            kid_subsets=50, kid_subset_size=subset, rng_seed=seed % 2**32,
            cuda=False, cache=False, save_cpu_ram=True, verbose=False, batch_size=512,
        )  # fmt: skip
    # Subsets share images, so they vary less than new sets of `count` images would. This scales it up.
    error = found["kernel_inception_distance_std"] * math.sqrt(subset / (count - subset))
    return {
        "frechet_distance": found["frechet_inception_distance"],
        "kernel_distance": 1000 * found["kernel_inception_distance_mean"],
        "kernel_error": 1000 * 1.96 * error,
        "precision": found["precision"],
        "recall": found["recall"],
    }
