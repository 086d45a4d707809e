"""Which images are held out."""

import json

import numpy as np
import pytest

from toongan.datasets.holdout import split


def some_hashes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, np.uint64)


@pytest.mark.parametrize("count, held", [(16, 8), (64, 8), (65, 8), (100, 12), (20_000, 2500), (100_000, 2500)])
def test_held_out_images_are_never_trained_on(count, held):
    for record in (None, True):
        parts = split(some_hashes(count), record)
        assert len(parts.held_out) == held
        assert not set(parts.held_out) & set(parts.training)
        assert sorted([*parts.held_out, *parts.training]) == list(range(count))


def test_what_is_held_out_goes_by_content_alone():
    """Images added, removed, renamed and moved to other places: what a run held out stays so, and what it trained on too."""
    hashes = some_hashes(1000)
    parts = split(hashes)
    held, trained = set(hashes[parts.held_out]), set(hashes[parts.training])
    later = np.concatenate([some_hashes(500, seed=1), np.random.default_rng(2).permutation(hashes)[:800]])
    again = split(later, json.loads(json.dumps(parts.record("files"))))
    assert not trained & set(later[again.held_out]) and not held & set(later[again.training])
    anew = split(np.random.default_rng(3).permutation(hashes))
    assert anew.below == parts.below, "the order is nothing to it"


def test_held_out_rows_of_earlier_versions_stay_the_same_for_ever():
    """Runs of then are still judged."""
    assert split(some_hashes(64), True).held_out.tolist() == [4, 12, 20, 28, 36, 44, 52, 60]
    assert split(some_hashes(20_000), True).held_out[:3].tolist() == [4, 12, 20]
    wanted = [4, 12, 20, 29, 37, 45, 54, 62, 70, 79, 87, 95]
    assert split(some_hashes(100), True).held_out.tolist() == wanted
