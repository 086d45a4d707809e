"""Pictures that say who drew them, so that our own output is never taken for data."""

import os
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .config import GenerateConfig
from .errors import ToonGANError
from .paths import display, writable_folder

SOFTWARE = "ToonGAN"
EXIF_SOFTWARE = 0x0131
LONGEST_SIDE = {".webp": ("WebP", 16_383), ".jpg": ("JPEG", 65_500), ".jpeg": ("JPEG", 65_500)}  # pixels
GAP = 2  # pixels between two pictures of a sheet


def save_picture(picture: Image.Image, path: Path | str) -> None:
    """Write a picture in the format of `path`'s suffix, marked as drawn by this package.

    PNG holds the mark as the text `Software`, JPEG and WebP as the EXIF tag of that name; another format holds none.

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
    picture.save(path, **options)


def check_place(path: Path) -> None:
    """Make the folder of a picture, and prove that the picture can be written there.

    Raises:
        ToonGANError: it cannot; says what to change.
    """
    if os.path.isdir(path):
        raise ToonGANError(f"is a folder: {display(path)}; try {display(path / 'grid.png')}.", "out")
    try:
        writable_folder(path.absolute().parent)
    except ToonGANError as error:
        reason = getattr(error.__cause__, "strerror", None) or error.message
        raise ToonGANError(
            f"Cannot write to {display(path.parent)} ({reason}); choose another folder for --out, or free some space."
        ) from error


def check_side(config: GenerateConfig, columns: int, image_size: int) -> None:
    """Whether the format of `config.out` can hold that many pictures beside one another.

    Raises:
        ToonGANError: it cannot; says how many it can, and which format can hold all.
    """
    name, longest = LONGEST_SIDE.get(config.out.suffix.lower(), ("", None))
    side = columns * (image_size + GAP) - GAP
    if longest is not None and side > longest:
        most = ((longest + GAP) // (image_size + GAP)) ** 2
        raise ToonGANError(
            f"{config.count} makes a picture {side:,} px wide, and {name} ends at {longest:,} px; "
            f"try {most}, or --out {display(config.out.with_suffix('.png'))}.",
            "count",
        )
