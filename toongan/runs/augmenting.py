"""What D sees of images in place of themselves: changed ones, which it cannot learn by heart."""

import torch
from torch import nn

from ..variants import augment

LOOKS = 3  # D's at images in a step: real ones, generated ones, and these again for G
EACH = 7  # random numbers that decide how an image is changed


def chances_of(kind: str) -> int:
    """How many random numbers a step needs for each image of its batch."""
    return (kind in ("flips", "both")) + LOOKS * EACH * (kind in ("diffaugment", "both"))


def flipped(images: torch.Tensor, chances: torch.Tensor) -> torch.Tensor:
    """About every second of `(N, channels, H, W)` mirrored; `chances` `(N,)` in [0, 1)."""
    return torch.where(chances.view(-1, 1, 1, 1) < 0.5, images.flip(3), images)


class Augmented(nn.Module):
    """A discriminator that sees every image changed (Zhao et al. 2020, section 4), for one step.

    Args:
        chances: what decides, `(N, LOOKS * EACH)` in [0, 1): at each look at N images the next of them.
    """

    def __init__(self, D: nn.Module, chances: torch.Tensor):
        super().__init__()
        self.D, self.chances = D, list(chances.split(EACH, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        looks = len(images) // len(self.chances[0])
        now = torch.cat([self.chances.pop(0) for _ in range(looks)])
        return self.D(augment(images, now))
