"""Faces drawn on this machine."""

import pytest
from conftest import REPOSITORY

from toongan.datasets import avatars
from toongan.datasets import catalogue as datasets


def test_avatar_shows_what_its_labels_say():
    """The colours that the labels name are the colours in the image."""
    checked = 0
    for number in range(20):
        pixels, seen = avatars.draw("avataaars", number, 128)
        colours = {tuple(c) for c in pixels.reshape(-1, 3).tolist()}
        for name in ("skin_color", "background_color", "clothes_color"):
            if name == "clothes_color" and "blazer" in seen["clothes"]:
                continue  # a blazer covers the shirt, and brings a colour of its own
            value = seen[name].lstrip("#")
            assert tuple(int(value[i : i + 2], 16) for i in (0, 2, 4)) in colours, (number, name, seen)
            checked += 1
    assert checked > 40


def test_avatars_differ_and_repeat():
    first = [avatars.draw("avataaars", number, 32)[0] for number in range(30)]
    again = [avatars.draw("avataaars", number, 32)[0] for number in range(30)]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert len({image.tobytes() for image in first}) == 30


@pytest.mark.parametrize("style", ["adventurer", "toon-head", "lorelei", "big-smile", "micah", "open-peeps"])
def test_styles_by_name(style):
    pixels, seen = avatars.draw(datasets.find(f"avatars:{style}").style, 1, 64)
    assert pixels.shape == (64, 64, 3) and pixels.std() > 10
    assert seen


def test_attribution_names_every_style():
    text = (REPOSITORY / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for style in avatars.styles():
        credit = avatars.credit(style)
        row = next(line for line in text.splitlines() if f"`avatars:{style}`" in line)
        assert credit["creator"] in row and credit["license"].rstrip(".") in row
