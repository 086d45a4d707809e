"""One file of a source: an image as pixels, or the true reason why it is not one."""

import functools
import io
import os
import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, features
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ..data import to_array, to_channels, to_square
from ..paths import SOFTWARE
from ..system.signature import EXIF_SOFTWARE
from .grey_levels import UnknownLevels, to_8_bits
from .outcomes import (
    ARCHIVE,
    DAMAGED,
    FOREIGN,
    HEIC,
    LFS,
    MADE_HERE,
    NOT_AN_IMAGE,
    TOO_MANY_PIXELS,
    UNKNOWN_LEVELS,
    VARIANT,
    WEB_PAGE,
    Form,
    Unusable,
)

# No other format is opened: Pillow would hand PostScript, whatever the file is called, to Ghostscript. TGA comes last,
# since it has no signature.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PSD", "PPM", "ICO", "TGA")
FILMS = ("GIF", "WEBP", "PNG", "AVIF", "TIFF")  # whose frames or pages can be used one by one
MOST_FRAMES = 1000
IMAGE_ENDINGS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .apng .webp .bmp .gif .tif .tiff .avif .jp2 .j2k .jpx .jpf .jpc .j2c .psd "
    ".ppm .pgm .pbm .pnm .pfm .tga .ico".split()
)
HEIC_ENDINGS = frozenset(".heic .heif .hif".split())
FOREIGN_ENDINGS = frozenset(".svg .pdf .eps .ai .kra .xcf .clip .jxl .raw .dng .cr2 .nef .arw".split())
ARCHIVE_ENDINGS = frozenset(".zip .cbz .tar .tgz .gz .bz2 .tbz2 .xz .txz .zst .7z .rar .cbr".split())
SIGNATURES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM"),
    *(b"II*\0", b"MM\0*", b"MM*\0", b"II\0*", b"II+\0", b"MM\0+"),
    *(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51", b"8BPS", b"\0\0\1\0"),
)
UNMISTAKABLE = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  \r\n\x87\n", b"8BPS")
NETPBM = re.compile(rb"P(?:[1-6f]|y|0C)[\s#RGBCMYKALP]")
AVIF_BRANDS = (b"avif", b"avis")
HEIC_BRANDS = (*(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), b"mif1", b"msf1")
ARCHIVES = (
    b"PK\3\4",
    b"PK\5\6",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\0",
    b"\x28\xb5\x2f\xfd",
    b"7z\xbc\xaf'\x1c",
    b"Rar!\x1a\7",
)
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
START_BYTES = 512  # enough to tell what a file is: a tar archive has its signature at 257
# The most bytes that an image needs beside its pixels, and for each pixel: four 32-bit floats, or 16 digits of a PPM.
BESIDE_PIXELS = 64 << 10
PIXEL_BYTES = 16


@dataclass(frozen=True)
class Seen:
    """An image as it is packed: uint8 pixels `(image_size, image_size, channels)`.

    Attributes:
        enlarged, beyond: as in `Usable`.
        frame: its number in its film, from 0; None if it is not from a film, or other frames are not wanted.
    """

    pixels: np.ndarray
    enlarged: bool
    beyond: float
    frame: int | None = None


def images_in(data: bytes, form: Form) -> Iterator[Seen]:
    """The image in the bytes of a file or, if frames are wanted, all frames of a film, 1,000 at most.

    Raises:
        Unusable: the bytes are no image, or one that is damaged, too large or made by this program.
    """
    image = open_image(data)
    if image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise Unusable(TOO_MANY_PIXELS, f"{image.width}×{image.height}")
    try:
        if is_made_here(image):
            raise Unusable(MADE_HERE)
        count = getattr(image, "n_frames", 1) if form.frames and image.format in FILMS else 1
        if count == 1:
            side = 2 * form.image_size
            image.draft(None, (side, side))  # a large JPEG is decoded at a fraction of its size
            yield seen(image, data, form)
            return
        for number in dict.fromkeys(np.linspace(0, count - 1, min(count, MOST_FRAMES)).astype(int).tolist()):
            if image.format == "TIFF":  # each page has its own size and levels
                image = open_image(data)
            image.seek(number)
            yield seen(image if image.format == "TIFF" else image.copy(), data, form, number)
    except Unusable:
        raise
    except UnknownLevels as error:
        raise Unusable(UNKNOWN_LEVELS, str(error)) from error
    except Image.DecompressionBombError as error:  # for an image within an icon
        raise Unusable(TOO_MANY_PIXELS) from error
    except Exception as error:  # a decoder that is fed garbage may raise anything
        raise Unusable(DAMAGED, str(error)) from error


def seen(image: Image.Image, data: bytes, form: Form, frame: int | None = None) -> Seen:
    """An opened image, made square and 8-bit; `data` is its file."""
    short, long = sorted(image.size)
    pixels = to_array(to_square(to_channels(to_8_bits(image, data), form.channels), form.image_size, form.fit))
    return Seen(pixels, (long if form.fit == "pad" else short) < form.image_size, 1 - short / long, frame)


def open_image(data: bytes) -> Image.Image:
    """An image in one of our formats, its pixels not decoded yet."""
    formats = readable_formats()
    if is_heic(data):
        formats += heic_formats()
    try:
        return Image.open(io.BytesIO(data), formats=formats)
    except Image.DecompressionBombError as error:
        raise Unusable(TOO_MANY_PIXELS) from error
    except Image.UnidentifiedImageError as error:
        raise Unusable(what_it_is(data)) from error
    except Exception as error:  # as above
        raise Unusable(VARIANT if is_variant(data) else DAMAGED, str(error)) from error


def readable_formats() -> list[str]:
    """The formats of `FORMATS` that this Pillow knows."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


@functools.cache
def heic_formats() -> list[str]:
    """The formats that the package pillow-heif adds, if it is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return []
    register_heif_opener()
    return ["HEIF"]


def is_made_here(image: Image.Image) -> bool:
    """Whether an image bears the mark of this program."""
    info = image.info
    software = info.get("Software") or (image.getexif().get(EXIF_SOFTWARE) if "exif" in info else None)
    return software == SOFTWARE or info.get("comment") == SOFTWARE.encode()


# --- what a file is, by its first bytes -------------------------------------------------------


def ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def brand(start: bytes) -> bytes:
    """The kind of an ISO media file: `heic`, `avif`, `mp42` …"""
    return start[8:12] if start[4:8] == b"ftyp" else b""


def is_heic(start: bytes) -> bool:
    return brand(start) in HEIC_BRANDS


def made_like_an_image(start: bytes) -> bool:
    """Whether a file begins like one of our formats."""
    return bool(
        start.startswith(SIGNATURES)
        or (start.startswith(b"RIFF") and start[8:12] == b"WEBP")
        or brand(start) in AVIF_BRANDS
        or is_heic(start)
        or NETPBM.match(start)
    )


def may_be_an_image(name: str, start: bytes) -> bool:
    return made_like_an_image(start) or ending(name) == ".tga"


def what_it_is(data: bytes) -> str:
    """Why a file is not read as an image, given its content or its beginning."""
    start = data[:START_BYTES]
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(LFS_POINTER):
        return LFS
    if is_web_page(start):
        return WEB_PAGE
    if text.startswith((b"%!ps", b"\xc5\xd0\xd3\xc6", b"%pdf", b"\xff\x0a", b"\0\0\0\x0cjxl ")) or b"<svg" in text:
        return FOREIGN
    if is_archive_start(start):
        return ARCHIVE
    if is_heic(start):
        return DAMAGED if heic_formats() else HEIC
    if lacking := lacking_format(start):
        return f"{lacking}, which this Pillow cannot read: pip install --upgrade pillow, or export as PNG"
    if is_variant(data):
        return VARIANT
    return DAMAGED if start.startswith(UNMISTAKABLE) else NOT_AN_IMAGE


def is_web_page(start: bytes) -> bool:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<?xml"):
        return b"<html" in text or b"<error" in text
    return text.startswith(
        (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<meta", b"<title", b"<error")
    )


def is_archive_start(start: bytes) -> bool:
    return start.startswith(ARCHIVES) or start[257:262] == b"ustar"


def lacking_format(start: bytes) -> str:
    """The name of the format, if Pillow was built without it; else an empty string."""
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "" if features.check("webp") else "WebP"
    if brand(start) in AVIF_BRANDS:
        return "" if "AVIF" in readable_formats() and features.check("avif") else "AVIF"
    return ""


def is_variant(data: bytes) -> bool:
    """Whether Pillow declined a whole file of a format that it reads: 64-bit TIFF, 16-bit PSD, 12-bit JPEG."""
    try:
        if data.startswith(b"8BPS"):
            return struct.unpack_from(">H", data, 22)[0] in (16, 32)
        if data.startswith(b"\xff\xd8\xff"):
            place = 2
            while data[place + 1] not in (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), 0xCD, 0xCE, 0xCF):
                place += 2 + struct.unpack_from(">H", data, place + 2)[0]
            return data[place] == 0xFF and data[place + 4] in (12, 16)
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            tags = ImageFileDirectory_v2(data[: 16 if b"+" in data[:4] else 8])
            file = io.BytesIO(data)
            file.seek(tags.next)
            tags.load(file)
            return 256 in tags and 257 in tags
    except Exception:  # not a whole file
        pass
    return False


def no_image(name: str, start: bytes) -> str:
    """Why a file is not read at all, given its name and its beginning."""
    kind = ending(name)
    if kind in FOREIGN_ENDINGS:
        return next((reason for reason in (what_it_is(start),) if reason in (LFS, WEB_PAGE)), FOREIGN)
    if kind in IMAGE_ENDINGS | HEIC_ENDINGS | ARCHIVE_ENDINGS or not kind:
        reason = what_it_is(start)
        return ARCHIVE if reason == NOT_AN_IMAGE and kind in ARCHIVE_ENDINGS else reason
    return NOT_AN_IMAGE


def most_bytes(data: bytes) -> int:
    """The most bytes that an image can fill, by its stated size in pixels; 0 if the bytes state none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=readable_formats())
    except Exception:  # as above
        return 0
    return BESIDE_PIXELS + PIXEL_BYTES * image.width * image.height
