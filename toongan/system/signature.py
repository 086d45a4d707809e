"""A mark on the images we write, so that our own output is never taken for data."""

from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..paths import SOFTWARE

EXIF_SOFTWARE = 0x0131


def save_image(image: Image.Image, path: Path | str) -> None:
    """Write an image in the format of `path`'s suffix, marked as drawn by this package.

    PNG holds the mark as the text `Software`, JPEG and WebP as the EXIF tag of that name. Other formats hold none.

    Raises:
        OSError: the file cannot be written.
        ValueError: no format has this suffix.
    """
    suffix = Path(path).suffix.lower()
    options = {}
    if suffix == ".png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_text("Software", SOFTWARE)
    elif suffix in (".jpg", ".jpeg", ".webp"):
        options["exif"] = Image.Exif()
        options["exif"][EXIF_SOFTWARE] = SOFTWARE
    image.save(path, **options)
