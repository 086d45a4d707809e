"""A generator that does as it is told, one that does not listen, and one that changes more than it was asked to."""

import numpy as np
import pytest
import torch
from torch import nn

from toongan import metrics
from toongan.conditional import Attributes
from toongan.evaluation.obedience import obedience

CHANCE = np.random.default_rng(0)
VALUES = {"side": ["left", "right"], "tone": ["dark", "light"]}
PAIRS = torch.cartesian_prod(torch.arange(2), torch.arange(2))


def painted(numbers: np.ndarray) -> np.ndarray:
    """Images, uint8 `(N, 32, 32, 3)`: a bar on one side, on dark or light ground."""
    images = CHANCE.integers(0, 40, (len(numbers), 32, 32, 3)).astype(int)
    images += np.where(numbers[:, 1] == 1, 90, 20)[:, None, None, None]
    for image, side in zip(images, numbers[:, 0]):
        image[:, 4 + 16 * side : 12 + 16 * side] += 100
    return images.clip(0, 255).astype(np.uint8)


class Painter(nn.Module):
    """A generator of two random numbers and four wishes that paints what `see` makes of the wishes."""

    image_size, latent_dim = 32, 6

    def __init__(self, see):
        super().__init__()
        self.see, self.attributes = see, Attributes(VALUES, PAIRS)
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        wishes = torch.stack([latent[:, 2:4].argmax(1), latent[:, 4:6].argmax(1)], 1)
        images = torch.from_numpy(painted(self.see(wishes, latent).numpy()))
        return images.permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.fixture(scope="module")
def judges():
    numbers = PAIRS.repeat(60, 1)
    labels = [{name: VALUES[name][row[place]] for place, name in enumerate(VALUES)} for row in numbers.tolist()]
    images = painted(numbers.numpy())
    return metrics.AttributeReader(images[:160], labels[:160], seen=4000), images[160:], labels[160:]


def ignoring(wishes: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    return (latent[:, :2] > 0).long()


def swapping(wishes: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    """The side decides about the ground as well."""
    return wishes[:, :1].expand(-1, 2)


def test_one_that_obeys(judges):
    found = obedience(Painter(lambda wishes, _: wishes), *judges)
    for name in VALUES:
        one = found[name]
        assert one["obeyed"] > 0.95 and one["ceiling"] > 0.95 and one["unasked"] < 0.05 and one["stays"] > 0.95, one
        assert one["values"] == len(one["by_value"]) == 2


def test_one_that_does_not_listen(judges):
    for one in obedience(Painter(ignoring), *judges).values():
        assert 0.2 < one["obeyed"] < 0.8 and 0.2 < one["unasked"] < 0.8 and one["ceiling"] > 0.95
        assert one["stays"] > 0.95, "what it draws depends on the random numbers alone"


def test_one_that_changes_more_than_it_was_asked_to(judges):
    found = obedience(Painter(swapping), *judges)
    assert found["side"]["obeyed"] > 0.95 and found["side"]["stays"] < 0.05 and found["side"]["moves"]["tone"] > 0.95
    assert 0.2 < found["tone"]["obeyed"] < 0.8 and found["tone"]["stays"] > 0.95


def test_what_the_reader_cannot_read_is_left_out(judges):
    reader, images, labels = judges
    painter = Painter(lambda wishes, _: wishes)
    painter.attributes = Attributes({"mood": ["", "glad"], "tone": ["dark", "light"]}, PAIRS)
    assert list(obedience(painter, reader, images, labels)) == ["tone"]
