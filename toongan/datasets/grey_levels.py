"""Reduce levels of more than 8 bits to 8, by the range that the file states, or else by its content."""

import numpy as np
from PIL import Image, ImageOps

# Tags of TIFF 6.0, with their sections.
BITS_PER_SAMPLE, WHITE_IS_ZERO, SAMPLE_FORMAT = 258, 262, 339  # 8, 8, 19
MIN_SAMPLE, MAX_SAMPLE, SMIN_SAMPLE, SMAX_SAMPLE = 280, 281, 340, 341  # 8, 8, 19, 19
UNSIGNED, SIGNED = 1, 2
# The bits that cameras, scanners and programs use for a level, however many the file has room for.
USUAL_BITS = (1, 8, 10, 12, 14, 16, 24)
USUAL_REAL = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0)


class UnknownLevels(Exception):
    """The range of the levels is neither stated nor evident; the text says what was found."""


def to_8_bits(image: Image.Image, data: bytes) -> Image.Image:
    """`image` itself if it has 8 bits a channel, else an upright grey image of 8 bits; `data` is its file.

    Raises:
        UnknownLevels: a guess would give only black or white.
    """
    bits, signed = depth(image, data), is_signed(image)
    if image.mode[0] not in "IF" and not signed:
        if bits > 8:
            check_colour(image, said_range(image, data, bits))
        return image
    said = said_range(image, data, bits)
    invert = image.mode[0] in "IF" and tag(image, WHITE_IS_ZERO, 1) == 0  # with 8 bits, Pillow has done it already
    unsigned = tag(image, SAMPLE_FORMAT, UNSIGNED) == UNSIGNED and image.format == "TIFF"
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    levels = np.asarray(image)
    if signed:
        levels = levels.view(np.int8)
    elif image.mode == "I" and unsigned:
        levels = levels.view(np.uint32)
    low, high = least_and_most(levels)
    black, white = agreed(said, low, high) or held_range(levels, low, high, bits)
    scaled = np.subtract(levels, black, dtype=np.float32)
    scaled *= 255 / (white - black)
    np.clip(scaled, 0, 255, out=scaled)
    if invert:
        np.subtract(255, scaled, out=scaled)
    scaled += 0.5
    grey = Image.fromarray(scaled.astype(np.uint8))
    if isinstance(clear := image.info.get("transparency"), int):  # in PNG: one level that means transparent
        grey.putalpha(Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8)))
    grey.info = {name: value for name, value in image.info.items() if name == "icc_profile"}
    return grey


def depth(image: Image.Image, data: bytes) -> int:
    """Bits per level in the file."""
    if image.format == "TIFF":
        return tag(image, BITS_PER_SAMPLE, 1)
    if image.format == "PNG":
        return data[24]
    if image.format == "JPEG2000":
        return precision(data)
    if image.format == "PPM" and image.mode != "F":
        return max(8, maximum(image).bit_length())
    return 32 if image.mode == "F" else 8


def precision(data: bytes) -> int:
    """Bits per level in JPEG 2000, from its SIZ marker (ITU-T T.800 A.5.1)."""
    place = data.find(b"\xff\x4f\xff\x51")
    return (data[place + 42] & 0x7F) + 1 if 0 <= place < len(data) - 42 else 8


def maximum(image: Image.Image) -> int:
    """The level of white that a PGM or PPM file states; Pillow has scaled by it, unless it is 65535."""
    args = image.tile[0][3] if image.tile else ()
    if isinstance(args, tuple) and isinstance(args[-1], int) and args[-1] > 0:
        return args[-1]
    return 65535 if image.mode[0] == "I" else 255


def tag(image: Image.Image, number: int, default: float) -> float:
    """The first value of a TIFF tag."""
    value = getattr(image, "tag_v2", {}).get(number, default)
    if isinstance(value, tuple):
        value = value[0] if value else default
    return value if isinstance(value, (int, float)) else default


def is_signed(image: Image.Image) -> bool:
    """Whether levels are signed 8-bit numbers, which Pillow takes for unsigned."""
    return image.mode == "L" and tag(image, SAMPLE_FORMAT, UNSIGNED) == SIGNED


def said_range(image: Image.Image, data: bytes, bits: int) -> tuple[float | None, float] | None:
    """The levels of black and white that the file states; None if it states none.

    Black is None if the file states only white.
    """
    if image.format == "TIFF":
        for least, most in ((SMIN_SAMPLE, SMAX_SAMPLE), (MIN_SAMPLE, MAX_SAMPLE)):
            white = tag(image, most, 0)
            black = tag(image, least, np.nan)
            if np.isfinite(white) and white:
                return (black if np.isfinite(black) and black < white else None), white
        return (0, 2**bits - 1) if bits == 12 else None
    if image.format == "JPEG2000" and bits < 16:  # Pillow shifts the bits of a level to the top of 16
        return 0, (2**bits - 1) << (16 - bits)
    if image.format == "PPM" and image.mode != "F" and maximum(image) != 65535:
        return 0, 65535
    return None


def agreed(said: tuple[float | None, float] | None, low: float, high: float) -> tuple[float, float] | None:
    """The stated range, unless the levels prove it wrong."""
    if said is None or said[1] < high:
        return None
    black = said[0] if said[0] is not None and said[0] <= low else min(0, low)
    return (black, said[1]) if black < said[1] else None


def least_and_most(levels: np.ndarray) -> tuple[float, float]:
    low, high = levels.min().item(), levels.max().item()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnknownLevels("not all are numbers")
    return low, high


def held_range(levels: np.ndarray, low: float, high: float, bits: int) -> tuple[float, float]:
    """The levels of black and white from the content: the smallest usual range that holds it."""
    if low == high == 0:
        return 0, 1
    if levels.dtype.kind == "f":
        black, white = real_range(low, high)
    elif low < 0:
        half = next(2 ** (b - 1) for b in (8, 16, 32) if -(2 ** (b - 1)) <= low and high < 2 ** (b - 1))
        black, white = -half, half - 1
    elif high <= 65535 and bits >= 16 and not (levels % 257).any():  # 8 bits stretched to 16, however dark the image
        return 0, 65535
    else:
        whole = bits - (levels.dtype.kind == "i")
        usual = (b for b in (*USUAL_BITS, whole) if b <= whole)
        black, white = 0, next((2**b - 1 for b in usual if high < 2**b), high)
    if max(high, -low) < white / 16:
        raise UnknownLevels(f"from {low:g} to {high:g}")
    return black, white


def real_range(low: float, high: float) -> tuple[float, float]:
    """The range of real numbers, which may overshoot a little after resizing or sharpening."""
    if -1.25 <= low < -0.25 and high <= 1.25:
        return -1, 1
    for white in USUAL_REAL:
        over = 0.25 if white == 1 else 0.02
        if -over * white <= low and high <= white * (1 + over):
            return 0, white
    raise UnknownLevels(f"from {low:g} to {high:g}")


def check_colour(image: Image.Image, said: tuple[float | None, float] | None) -> None:
    """Refuse 16-bit colour whose content is in the lower 8 bits, since Pillow keeps only the upper 8."""
    image.load()
    extrema = image.getextrema()
    most = max(band[1] for band in (extrema if isinstance(extrema[0], tuple) else [extrema])[:3])
    if most <= 16 or (said is not None and most < 64 and said[1] < 1 << 14):
        raise UnknownLevels(f"at most {most * 257:,} of 65,535")
