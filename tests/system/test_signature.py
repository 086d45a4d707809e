"""Images that say who drew them."""

import pytest
from PIL import Image

from toongan.system.signature import save_image


def mark(path) -> str | None:
    with Image.open(path) as image:
        return image.info.get("Software") if image.format == "PNG" else image.getexif().get(0x0131)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG", "a.webp"])
def test_an_image_says_who_drew_it(tmp_path, name):
    image = Image.new("RGB", (40, 30), (200, 30, 90))
    save_image(image, tmp_path / name)
    image.save(tmp_path / f"plain-{name}")
    assert mark(tmp_path / name) == "ToonGAN" and mark(tmp_path / f"plain-{name}") is None
    with Image.open(tmp_path / name) as marked, Image.open(tmp_path / f"plain-{name}") as plain:
        assert marked.tobytes() == plain.tobytes(), "the mark changes no pixel"
