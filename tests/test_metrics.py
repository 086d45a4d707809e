"""Measuring: values tell good from bad, name what is missing, repeat to the byte, and need no network."""

import numpy as np
import pytest
import torch
from conftest import FEW

from toongan import ToonGANError, metrics
from toongan.datasets import avatars
from toongan.evaluation.coverage import attribute_coverage
from toongan.features import features_of


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (FEW, 64, 64, 3), np.uint8)


def test_a_set_is_no_distance_from_itself(real):
    found = metrics.distances(real[0], real[0])
    assert abs(found["frechet_distance"]) < 0.01
    assert found["kernel_distance"] < 0
    assert found["precision"] == found["recall"] == found["coverage"] == 1


def test_noise_is_much_farther_than_other_real_images(real, noise):
    floor, found = metrics.distances(*real), metrics.distances(features_of(noise, side=96), real[1])
    assert found["frechet_distance"] > 5 * floor["frechet_distance"]
    assert found["kernel_distance"] - found["kernel_error"] > 5 * (
        abs(floor["kernel_distance"]) + floor["kernel_error"]
    )
    assert abs(floor["kernel_distance"]) < 2 * floor["kernel_error"], "no bias at a small count"
    assert found["recall"] == 0 and found["coverage"] < 0.05 and found["density"] < 0.5
    assert min(floor["precision"], floor["recall"], floor["coverage"]) > 0.6
    assert 0.8 < floor["density"] < 1.2


def test_a_repeated_image_is_precise_but_recalls_nothing(real):
    found = metrics.distances(np.repeat(real[1][:1], FEW, axis=0), real[1])
    assert found["precision"] == 1
    assert found["recall"] < 0.02 and found["coverage"] < 0.1


def test_too_few_images(real):
    with pytest.raises(ToonGANError, match="count is 5, too few"):
        metrics.distances(real[0][:5], real[1])


def test_two_sample_test_is_at_half_for_real_and_at_one_for_noise(real, noise):
    floor = metrics.two_sample_test(*real)
    assert floor["low"] < 0.5 < floor["high"]
    found = metrics.two_sample_test(real[0], features_of(noise, side=96))
    assert found["accuracy"] > 0.98 and found["low"] < found["accuracy"] <= found["high"] <= 1
    assert metrics.two_sample_test(*real) == floor, "the same every time"


def test_quick_distance_is_the_librarys(drawn):
    images = drawn[0]
    quick = metrics.QuickDistance(images[::2])
    exact = metrics.distances(features_of(images[1::2], side=96), features_of(images[::2], side=96))
    assert quick.distance(images[1::2]) == pytest.approx(exact["frechet_distance"], rel=1e-3)
    assert quick.distance(images[::2]) == pytest.approx(0, abs=1e-3)
    assert quick.distance(images[1::2] // 2) > 1.5 * quick.distance(images[1::2])


def test_quick_distance_leaves_training_alone(drawn):
    quick = metrics.QuickDistance(drawn[0][:32])
    state, weight = torch.get_rng_state(), torch.ones(1, requires_grad=True)
    first = metrics.QuickDistance(drawn[0][:32]).distance(drawn[0][32:64])
    with torch.autocast("cpu", torch.bfloat16):
        assert quick.distance(drawn[0][32:64]) == first, "in full precision, whatever the training uses"
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled() and (2 * weight).requires_grad


@pytest.fixture(scope="module")
def hair() -> tuple:
    """A reader of five hair styles, with images and labels to test it on."""
    styles = ("bob", "fro", "hijab", "shortFlat", "winterHat1")
    wanted = {style: [] for style in styles}
    number = 0
    while any(len(found) < 60 for found in wanted.values()):
        _, seen = avatars.compose("avataaars", number)
        if len(wanted.get(seen.get("top"), range(60))) < 60:
            wanted[seen["top"]].append(number)
        number += 1
    numbers = np.array(list(wanted.values()))
    images = {n: avatars.draw("avataaars", n, 64)[0] for n in numbers.ravel().tolist()}

    def some(start: int, stop: int) -> tuple[np.ndarray, list[dict]]:
        rows = numbers[:, start:stop].ravel().tolist()
        labels = [{"top": style, "nose": "default"} for style in styles for _ in range(start, stop)]
        return np.stack([images[row] for row in rows]), labels

    return metrics.AttributeReader(*some(0, 30)), some(30, 45), some(45, 60)


def test_a_forgotten_hair_style_is_named(hair):
    reader, (held_out, labels), (others, names) = hair
    assert list(reader.values) == ["top"], "an attribute with one value has nothing to tell"
    poor = others[[label["top"] != "hijab" for label in names]]
    found = attribute_coverage(reader, poor, held_out, labels, others)["top"]
    assert found["legible"] and found["accuracy"] > 0.85
    assert found["forgotten"] == ["hijab"] and found["values"] == 5
    assert found["distance"] > 0.15 and found["distance"] > found["floor"]
    complete = attribute_coverage(reader, others, held_out, labels, others)["top"]
    assert complete["forgotten"] == [] and complete["distance"] == complete["floor"] < 0.15


def test_what_cannot_be_read_is_left_out(hair):
    reader, (held_out, labels), (others, _) = hair
    wrong = [{"top": label["top"]} for label in reversed(labels)]
    found = attribute_coverage(reader, others, held_out, wrong, others)["top"]
    assert not found["legible"] and set(found) == {"accuracy", "legible"}


def test_learnable_attributes():
    labels = [
        {"file": str(i), "hair": "ab"[i % 2], "nose": "one", "rare": "x" if i < 25 else str(i)} for i in range(60)
    ]
    assert metrics.learnable(labels) == {"hair": ["a", "b"]}
    assert metrics.learnable([]) == metrics.learnable([{}] * 60) == {}


def test_copies_are_noticed(drawn):
    images = drawn[0]
    training, held_out, new = images[::3], images[1::3], images[2::3]
    honest = metrics.memorisation(new, held_out, training)
    assert honest["copies"] < 0.1 and 0.9 < honest["ratio"] < 1.1 and 0.4 < honest["prefers_training"] < 0.6
    copied = np.concatenate([training[: FEW // 2], new[FEW // 2 :]])
    caught = metrics.memorisation(copied, held_out, training)
    assert caught["copies"] > 0.45 and caught["ratio"] < 0.9 and caught["prefers_training"] > 0.7
    row, apart = metrics.nearest(training[:20], training)
    assert row.tolist() == list(range(20)) and apart.max() == 0
