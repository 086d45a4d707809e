"""What a card says."""

import numpy as np
import pytest

from toongan.datasets import avatars
from toongan.evaluation import card
from toongan.features import features_of

FEW = 240


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, list[dict]]:
    """720 avatars at 64 px, and their labels."""
    pairs = [avatars.draw("avataaars", number, 64) for number in range(3 * FEW)]
    names = sorted(set().union(*(seen for _, seen in pairs)))
    labels = [{name: seen.get(name, "") or "" for name in names} for _, seen in pairs]
    return np.stack([pixels for pixels, _ in pairs]), labels


@pytest.fixture(scope="module")
def real(drawn) -> tuple[np.ndarray, np.ndarray]:
    """Features of two halves of real pictures."""
    found = features_of(drawn[0][: 2 * FEW], side=96)
    return found[::2], found[1::2]


GOOD = {
    "compared_with": {"never_trained_on": True, "as_in_training": True},
    "memorisation": {"copies": 0.01},
    "count": 2500,
    "variety": 1.0,
    "figures": {"precision": {"generated": 0.7}, "recall": {"generated": 0.6}},
    "attributes": {"top": {"legible": True, "values": 34, "forgotten": []}},
}


def test_a_good_card_has_nothing_to_add_and_a_bad_one_says_what():
    assert card.findings(GOOD) == []
    bad = {
        "memorisation": {"copies": 0.4},
        "count": 100,
        "variety": 0.03,
        "figures": {"precision": {"generated": 0.0}, "recall": {"generated": 0.0}},
        "attributes": {
            "top": {"legible": True, "values": 34, "forgotten": ["bob", ""]},
            "eyes": {"legible": False},
        },
    }
    expected = {
        "memorisation": "G copies: 40 %",
        "count": "100 pictures are few",
        "variety": "G repeats itself: its pictures are only 3 % as varied",
        "figures": "precision and recall are 0",
        "attributes": "top: 2 of 34 values forgotten: bob, none.",
    }
    for key, text in expected.items():
        said = card.findings({**GOOD, key: bad[key]})
        assert text in said[0], key
    assert "cannot read them on real pictures: eyes." in said[1]
