"""Changed images for D, which it cannot memorise."""

import torch
from torch import nn

from ..variants import augment

LOOKS = 3  # how often D looks at a batch in a step: at real images, at generated ones, and at these again for G
EACH = 7  # random numbers that decide how an image is changed


def chances_of(kind: str) -> int:
    """How many random numbers a step needs for each image of its batch."""
    return (kind in ("flips", "both")) + LOOKS * EACH * (kind in ("diffaugment", "both"))


def flipped(images: torch.Tensor, chances: torch.Tensor) -> torch.Tensor:
    """Images `(N, channels, H, W)`, about half of them mirrored; `chances` are `(N,)` in [0, 1)."""
    return torch.where(chances.view(-1, 1, 1, 1) < 0.5, images.flip(3), images)


class Augmented(nn.Module):
    """A discriminator that sees every image changed (Zhao et al. 2020, section 4), for one step.

    Args:
        chances: random numbers `(N, LOOKS * EACH)` in [0, 1); each look at N images uses the next `EACH` columns.
    """

    def __init__(self, D: nn.Module, chances: torch.Tensor):
        super().__init__()
        self.D, self.chances = D, list(chances.split(EACH, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        looks = len(images) // len(self.chances[0])
        now = torch.cat([self.chances.pop(0) for _ in range(looks)])
        return self.D(augment(images, now))
