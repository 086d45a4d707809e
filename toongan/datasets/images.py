"""One file of a source: an image as pixels, or the true reason why it is none."""

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
from .grey_levels import UnknownLevels, to_8_bits
from .outcomes import (
    ARCHIVE,
    DAMAGED,
    FOREIGN,
    HEIC,
    LFS,
    MADE_HERE,
    NOT_A_IMAGE,
    TOO_MANY_PIXELS,
    UNKNOWN_LEVELS,
    VARIANT,
    WEB_PAGE,
    Form,
    Unusable,
)

# Nothing else is opened: Pillow would hand a page of PostScript, whatever it is called, to Ghostscript. TGA is last,
# since it has no signature.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PSD", "PPM", "ICO", "TGA")
FILMS = ("GIF", "WEBP", "PNG", "AVIF", "TIFF")  # of which frames, or pages, can be taken one by one
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
START_BYTES = 512  # enough to tell what a file is: in a tar archive, the word is at 257
# What an image may need beside its pixels, and for each pixel: four real numbers of 32 bits, or 16 digits of a PPM.
BESIDE_PIXELS = 64 << 10
PIXEL_BYTES = 16
MARK = "ToonGAN"
SOFTWARE = 0x0131


@dataclass(frozen=True)
class Seen:
    """An image as it is packed: uint8 pixels `(image_size, image_size, channels)`, and what `Image` says of it.

    Attributes:
        frame: its number in its film, from 0; None if it is no film, or its other frames are not wanted.
    """

    pixels: np.ndarray
    enlarged: bool
    beyond: float
    frame: int | None = None


def images_in(data: bytes, form: Form) -> Iterator[Seen]:
    """The bytes of an image file as one image or, where frames are wanted, as many as the film has, 1,000 at most.

    Raises:
        Unusable: the bytes are not an image, a damaged one, one too large, or one that this program made.
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
            if image.format == "TIFF":  # each page has sizes and levels of its own
                image = open_image(data)
            image.seek(number)
            yield seen(image if image.format == "TIFF" else image.copy(), data, form, number)
    except Unusable:
        raise
    except UnknownLevels as error:
        raise Unusable(UNKNOWN_LEVELS, str(error)) from error
    except Image.DecompressionBombError as error:  # of an image within an icon
        raise Unusable(TOO_MANY_PIXELS) from error
    except Exception as error:  # a decoder fed with garbage raises whatever it trips over
        raise Unusable(DAMAGED, str(error)) from error


def seen(image: Image.Image, data: bytes, form: Form, frame: int | None = None) -> Seen:
    """`data` is the file that the image came from."""
    short, long = sorted(image.size)
    pixels = to_array(to_square(to_channels(to_8_bits(image, data), form.channels), form.image_size, form.fit))
    return Seen(pixels, (long if form.fit == "pad" else short) < form.image_size, 1 - short / long, frame)


def open_image(data: bytes) -> Image.Image:
    """An image of a format that is read, its pixels not decoded yet."""
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
    """Those of `FORMATS` that this Pillow knows."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


@functools.cache
def heic_formats() -> list[str]:
    """What the package pillow-heif adds, if it is there."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return []
    register_heif_opener()
    return ["HEIF"]


def is_made_here(image: Image.Image) -> bool:
    """Whether an image bears the mark of this program."""
    info = image.info
    software = info.get("Software") or (image.getexif().get(SOFTWARE) if "exif" in info else None)
    return software == MARK or info.get("comment") == MARK.encode()


# --- what a file is, by its first bytes -------------------------------------------------------


def ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def brand(start: bytes) -> bytes:
    """The kind of an ISO media file: `heic`, `avif`, `mp42` …"""
    return start[8:12] if start[4:8] == b"ftyp" else b""


def is_heic(start: bytes) -> bool:
    return brand(start) in HEIC_BRANDS


def made_like_an_image(start: bytes) -> bool:
    """Whether a file begins as one of a format that is read."""
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
    """Why a file is not read as an image, given its content, or the beginning of it."""
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
    return DAMAGED if start.startswith(UNMISTAKABLE) else NOT_A_IMAGE


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
    """The name of a format that Pillow was built without; of others, nothing."""
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
    except Exception:  # no whole file
        pass
    return False


def no_image(name: str, start: bytes) -> str:
    """Why a file is not even read, given its name and its beginning."""
    kind = ending(name)
    if kind in FOREIGN_ENDINGS:
        return next((reason for reason in (what_it_is(start),) if reason in (LFS, WEB_PAGE)), FOREIGN)
    if kind in IMAGE_ENDINGS | HEIC_ENDINGS | ARCHIVE_ENDINGS or not kind:
        reason = what_it_is(start)
        return ARCHIVE if reason == NOT_A_IMAGE and kind in ARCHIVE_ENDINGS else reason
    return NOT_A_IMAGE


def most_bytes(data: bytes) -> int:
    """What an image can fill at most, by the size in pixels that it says it has; 0 if the bytes do not say."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=readable_formats())
    except Exception:  # as above
        return 0
    return BESIDE_PIXELS + PIXEL_BYTES * image.width * image.height
