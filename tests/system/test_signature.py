"""Pictures that say who drew them."""

import pytest
from PIL import Image

from toongan.system.signature import save_picture


def mark(path) -> str | None:
    with Image.open(path) as picture:
        return picture.info.get("Software") if picture.format == "PNG" else picture.getexif().get(0x0131)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG", "a.webp"])
def test_a_picture_says_who_drew_it(tmp_path, name):
    picture = Image.new("RGB", (40, 30), (200, 30, 90))
    save_picture(picture, tmp_path / name)
    picture.save(tmp_path / f"plain-{name}")
    assert mark(tmp_path / name) == "ToonGAN" and mark(tmp_path / f"plain-{name}") is None
    with Image.open(tmp_path / name) as marked, Image.open(tmp_path / f"plain-{name}") as plain:
        assert marked.tobytes() == plain.tobytes(), "the mark changes no pixel"
