"""A small net that learns to read attributes, such as the hair style, from labelled images."""

import sys
from collections import Counter
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from .mobilenet import in_three_channels

SIDE = 64


def small_net(outputs: int, width: int = 16) -> nn.Sequential:
    """An untrained small classifier: images `(N, 3, 64, 64)` in [-1, 1] to logits `(N, outputs)`."""
    layers, channels = [], 3
    for grown in (width, 2 * width, 4 * width, 4 * width):
        layers += [nn.Conv2d(channels, grown, 3, 2, 1, bias=False), nn.BatchNorm2d(grown), nn.ReLU()]
        channels = grown
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * (SIDE // 16) ** 2, outputs))


def to_small(images: np.ndarray, device: torch.device | str) -> torch.Tensor:
    """uint8 `(N, H, W, channels)` to `(N, 3, 64, 64)` in [-1, 1] on `device`."""
    small = in_three_channels(images, device).float().div_(127.5).sub_(1)
    if small.shape[-1] != SIDE:
        small = F.interpolate(small, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    return small.contiguous(memory_format=torch.channels_last)


def fit(
    outputs: int,
    images: np.ndarray,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    passes: int,
    seed: int,
    device: torch.device | str = "cpu",
    progress: str | None = None,
) -> nn.Sequential:
    """Train a `small_net` on images, uint8 `(N, H, W, channels)`, each seen `passes` times.

    Args:
        loss: takes logits `(B, outputs)` and the rows of the images that they belong to.
        progress: the text of a progress bar; None for no bar.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = small_net(outputs).to(device, memory_format=torch.channels_last)
    batch = min(64, len(images))
    steps = passes * (len(images) // batch)
    optimizer = torch.optim.Adam(net.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=max(steps, 2))
    order = torch.Generator().manual_seed(seed)
    shown = {"desc": progress, "disable": progress is None, "file": sys.stdout, "mininterval": 0.5}
    with tqdm(total=steps, unit=" steps", **shown) as bar:
        for _ in range(passes):
            for rows in torch.randperm(len(images), generator=order).split(batch):
                if len(rows) == batch:
                    optimizer.zero_grad()
                    loss(net(to_small(images[rows.numpy()], device)), rows).backward()
                    optimizer.step()
                    schedule.step()
                    bar.update()
    return net.eval()


def logits_of(net: nn.Module, images: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """The logits of a trained `small_net` for images, uint8 `(N, H, W, channels)`: `(N, outputs)` on the CPU."""
    with torch.inference_mode():
        parts = [images[start : start + 256] for start in range(0, len(images), 256)]
        return torch.cat([net(to_small(part, device)).float().cpu() for part in parts])


class AttributeReader:
    """One small classifier for all attributes: its last layer has a few outputs for each of them.

    Args:
        images: uint8 `(N, H, W, channels)`.
        labels: for each image, a dictionary from attribute to value; an empty value is a value like any other.
        seen: how many images it is trained on, repeats counted.

    Attributes:
        values: attribute to the values it can take.
        sizes: how many outputs each attribute has.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: list[dict[str, str]],
        seed: int = 0,
        device: torch.device | str = "cpu",
        seen: int = 70_000,
        progress: str | None = None,
    ):
        self.device, self.values = device, learnable(labels)
        self.sizes = [len(values) for values in self.values.values()]
        targets = self.targets(labels)

        def loss(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            wanted = targets[rows].to(logits.device)
            parts = zip(logits.split(self.sizes, 1), wanted.T, strict=True)
            losses = (F.cross_entropy(part, each, reduction="sum", ignore_index=-1) for part, each in parts)
            return sum(losses) / len(rows)

        passes = max(1, min(seen // len(images), 20))
        self.net = fit(sum(self.sizes), images, loss, passes, seed, device, progress)

    def targets(self, labels: list[dict[str, str]]) -> torch.Tensor:
        """Labels as numbers `(N, attributes)`; -1 where a value is too rare to be learned."""
        numbers = [{value: i for i, value in enumerate(values)} for values in self.values.values()]
        columns = list(zip(self.values, numbers, strict=True))
        rows = [[find.get(row[name], -1) for name, find in columns] for row in labels]
        return torch.tensor(rows)

    def read(self, images: np.ndarray) -> torch.Tensor:
        """The values that it reads from images, uint8 `(N, H, W, channels)`, as numbers `(N, attributes)`."""
        parts = logits_of(self.net, images, self.device).split(self.sizes, 1)
        return torch.stack([part.argmax(1) for part in parts], 1)


def learnable(labels: list[dict[str, str]], least: int = 20, most: int = 128) -> dict[str, list[str]]:
    """The attributes that can be learned, each with its values, the most frequent first.

    A value needs `least` images. An attribute needs from 2 to `most` such values, and nine images in ten must have
    one of them.
    """
    found = {}
    for name in labels[0] if labels else ():
        counts = Counter(row[name] for row in labels)
        frequent = (value for value in counts if counts[value] >= least)
        values = sorted(frequent, key=lambda value: (-counts[value], value))
        if 2 <= len(values) <= most and sum(counts[value] for value in values) >= 0.9 * len(labels):
            found[name] = values
    return found
