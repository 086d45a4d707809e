"""A look at images before training: which ones nearly repeat another, and which faces are not where the others are.

Everything is measured on the packed images. The results go to `look.csv` by file, to `look.json` by row, and into
`preview.png`. No image is left out unless the user asks for it.
"""

import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import imagehash
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from ..data import in_colour, tile
from ..paths import atomic_write
from ..system.signature import save_image
from .holdout import evenly
from .packed import PackedDataset

FOUND = "look.json"
SIDE = 32  # pixels at which images are compared
# Two images are nearly the same if their perceptual hashes differ in at most this many of 64 bits, and their grey
# levels by at most this much (root mean square). The hash alone confuses drawn faces with different hair; a JPEG of
# quality 60 differs by 5 to 7 levels.
ALIKE_BITS, ALIKE_LEVELS = 8, 8.0
MOST = 65_536  # images that are looked at; the limit keeps memory flat
REACH = 10  # how far from the usual place a face is searched for, in pixels at `SIDE`
ELSEWHERE = 3  # a face this far away is elsewhere
UNLIKE = 4.0  # robust standard deviations below the usual likeness to the mean
BLOCK = 2048
SHOWN, COLUMNS, WIDTH, LINE = 64, 8, 526, 20


@dataclass(frozen=True)
class Look:
    """What a look found, by row of the packed folder.

    Attributes:
        alike: images that nearly repeat an earlier one, and that one.
        elsewhere: images whose face is not in the usual place, and its shift right and down, as shares of the side.
        unlike: images that resemble the others at no shift.
    """

    alike: list[tuple[int, int]]
    elsewhere: list[tuple[int, float, float]]
    unlike: list[int]


def look_at(data: PackedDataset, progress: bool = False) -> Look:
    """Look at all images of a packed folder; the result is kept beside them and read from there the next time."""
    path = data.folder / FOUND
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["fingerprint"] == data.fingerprint:
            return Look(
                [tuple(pair) for pair in kept["alike"]], [tuple(each) for each in kept["elsewhere"]], kept["unlike"]
            )
    except (OSError, ValueError, KeyError, TypeError):
        pass
    images = data.images[:MOST]
    small = np.concatenate([shrunk(part, SIDE) for part in blocks(images)])
    found = Look(alike(images, small, progress), *places(small))
    write_table(data, found)
    with atomic_write(data.folder / "preview.png") as part:
        save_image(sheet(data, found), part)
    with atomic_write(path) as part:  # last, since it says that the other files are there
        part.write_text(json.dumps({"fingerprint": data.fingerprint, **asdict(found)}), encoding="utf-8")
    return found


def others_than_alike(data: PackedDataset) -> np.ndarray:
    """Rows of a packed folder, without images that nearly repeat an earlier one; int64, ascending."""
    return np.setdiff1d(np.arange(len(data)), [row for row, _ in look_at(data).alike]).astype(np.int64)


def blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    """Images in blocks, so that memory stays flat."""
    for start in range(0, len(images), BLOCK):
        yield np.asarray(images[start : start + BLOCK])


def shrunk(images: np.ndarray, side: int) -> np.ndarray:
    """uint8 `(N, H, W, channels)` as float32 `(N, side, side, 3)`, by averaging."""
    n, height, width, _ = images.shape
    parts = in_colour(images).reshape(n, side, height // side, side, width // side, 3)
    return parts.mean((2, 4), dtype=np.float32)


# --- which images nearly repeat another one ------------------------------------------------


def alike(images: np.ndarray, small: np.ndarray, progress: bool = False) -> list[tuple[int, int]]:
    """Rows that nearly repeat an earlier row, and that row, which is not itself a repeat.

    Args:
        small: the same images, float32 `(N, SIDE, SIDE, 3)`.
    """
    # With bits as ±1, the product of two hashes tells in how many bits they differ.
    shown = {"desc": "Looking", "unit": " images", "file": sys.stdout, "mininterval": 0.5}
    bar = tqdm(images, **shown, disable=not progress or len(images) < BLOCK)
    hashes = np.stack([hash_of(in_colour(image)) for image in bar])
    coarse = shrunk_again(small).reshape(len(small), -1)
    squares = (coarse**2).sum(1)
    found, repeats = [], np.zeros(len(images), bool)
    for start in range(0, len(images), BLOCK):
        rows = slice(start, start + BLOCK)
        before = slice(0, start + BLOCK)
        bits = (64 - hashes[rows] @ hashes[before].T) / 2
        apart = squares[rows, None] + squares[None, before] - 2 * coarse[rows] @ coarse[before].T
        near = (bits <= ALIKE_BITS) & (apart <= ALIKE_LEVELS**2 * coarse.shape[1] + 1)
        for row, other in zip(*(each.tolist() for each in np.nonzero(np.tril(near, start - 1)))):
            row += start
            if repeats[row] or repeats[other]:
                continue
            if np.sqrt(((small[row] - small[other]) ** 2).mean()) <= ALIKE_LEVELS:
                repeats[row] = True
                found.append((row, other))
    return found


def hash_of(image: np.ndarray) -> np.ndarray:
    """The perceptual hash of an image `(H, W, 3)` as 64 numbers, 1 or -1."""
    return np.where(imagehash.phash(Image.fromarray(image)).hash.ravel(), 1, -1).astype(np.float32)


def shrunk_again(small: np.ndarray) -> np.ndarray:
    """`(N, SIDE, SIDE, 3)` at a quarter of the side; images differ at the full side at least as much as here."""
    n = len(small)
    return small.reshape(n, SIDE // 4, 4, SIDE // 4, 4, 3).mean((2, 4))


# --- whether faces are where the others are ---------------------------------------------------


def places(small: np.ndarray) -> tuple[list[tuple[int, float, float]], list[int]]:
    """Images `(N, SIDE, SIDE, 3)` whose lines are not in the usual place, and those that match the usual ones nowhere."""
    lines = np.abs(np.diff(small, axis=1, append=small[:, -1:])) + np.abs(
        np.diff(small, axis=2, append=small[:, :, -1:])
    )
    lines = lines.mean(3)
    lines /= np.maximum(np.sqrt((lines**2).sum((1, 2), keepdims=True)), 1e-6)
    usual = lines.mean(0)
    usual /= max(np.sqrt((usual**2).sum()), 1e-6)
    steps = range(-REACH, REACH + 1)
    moved = np.stack([shifted(usual, right, down).ravel() for down in steps for right in steps], 1)
    likeness = lines.reshape(len(lines), -1) @ moved  # of each image to the usual one, at every shift
    best = likeness.argmax(1)
    down, right = best // len(steps) - REACH, best % len(steps) - REACH
    far = np.maximum(np.abs(right), np.abs(down)) >= ELSEWHERE
    elsewhere = [(row, float(right[row] / SIDE), float(down[row] / SIDE)) for row in np.flatnonzero(far).tolist()]
    most = likeness.max(1)
    usually = np.median(most)
    spread = 1.4826 * np.median(np.abs(most - usually))
    unlike = ~far & (most < usually - UNLIKE * max(spread, 0.01))
    return elsewhere, np.flatnonzero(unlike).tolist()


def shifted(image: np.ndarray, right: int, down: int) -> np.ndarray:
    """`(H, W)` moved by whole pixels; the uncovered part is empty."""
    height, width = image.shape
    moved = np.zeros_like(image)
    moved[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = image[
        max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)
    ]
    return moved


# --- what is said about it ----------------------------------------------------------------------


def sentences(data: PackedDataset, found: Look) -> list[str]:
    """What to check in the preview, and what the look found."""
    meta = data.meta
    said = [
        f"{len(data):,} images, as they will be trained on. Is each one a whole, upright face of about the same size?"
    ]
    if len(data) > MOST:
        said.append(f"Only the first {MOST:,} were checked:")
    beyond = meta.get("beyond")
    if beyond and beyond["not_square"]:
        loss = {"crop": "cut off", "pad": "filled with the colour of the edges", "stretch": "squeezed away"}[
            meta["fit"]
        ]
        hint = " --fit pad keeps all of it." if meta["fit"] == "crop" and beyond["median"] >= 0.1 else ""
        said.append(
            f"{beyond['not_square']:,} were not square: {beyond['median']:.0%} of their longer side is {loss} "
            f"(median; at most {beyond['most']:.0%}).{hint}"
        )
    for rows, one, many in (
        (found.alike, "nearly repeats another one; --skip-alike leaves it", "nearly repeat another one; --skip-alike leaves them"),
        (found.elsewhere, "has its face in another place than most", "have their face in another place than most"),
        (found.unlike, "is unlike the others", "are unlike the others"),
    ):  # fmt: skip
        if rows:
            out = " out" if rows is found.alike else ""
            said.append(f"{len(rows):,} {one if len(rows) == 1 else many}{out}.")
    return said


def write_table(data: PackedDataset, found: Look) -> None:
    """Write `look.csv`: a row for each image that was found."""
    names = [row["source"] for row in data.index]
    with atomic_write(data.folder / "look.csv") as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "finding", "detail"])
        writer.writerows([names[row], "nearly repeats", names[other]] for row, other in found.alike)
        for row, right, down in found.elsewhere:
            way = f"{abs(right):.0%} to the {'right' if right > 0 else 'left'}, {abs(down):.0%} {'down' if down > 0 else 'up'}"
            writer.writerow([names[row], "face elsewhere", way])
        writer.writerows([names[row], "unlike the others", ""] for row in found.unlike)


def sheet(data: PackedDataset, found: Look) -> Image.Image:
    """A sheet of images from the whole set, with what to check above them and what was found below them."""
    font = ImageFont.load_default(13)
    parts: list[str | Image.Image] = list(wrapped(sentences(data, found), font))
    parts.append(tiled(data.images[evenly(np.arange(len(data)), SHOWN)]))
    if found.alike:
        pairs = np.array(found.alike[:COLUMNS])
        parts += ["Nearly the same, above and below:", tiled(data.images[pairs.T.ravel()], len(pairs))]
    if odd := [row for row, *_ in found.elsewhere][:COLUMNS] + found.unlike[:COLUMNS]:
        parts += ["Elsewhere, or unlike the others:", tiled(data.images[odd])]
    heights = [LINE if isinstance(part, str) else part.height + 6 for part in parts]
    whole = Image.new(
        "RGB", (max(WIDTH, *(part.width for part in parts if not isinstance(part, str))), sum(heights)), "white"
    )
    drawing, top = ImageDraw.Draw(whole), 0
    for part, height in zip(parts, heights):
        if isinstance(part, str):
            drawing.text((2, top + 2), part, "black", font)
        else:
            whole.paste(part, (0, top))
        top += height
    return whole


def tiled(images: np.ndarray, columns: int = COLUMNS) -> Image.Image:
    """Images in a sheet, small ones enlarged by a whole factor."""
    pixels = tile(in_colour(np.asarray(images)), columns)
    by = max(1, SHOWN // images.shape[1])
    return Image.fromarray(pixels.repeat(by, 0).repeat(by, 1))


def wrapped(texts: list[str], font: ImageFont.ImageFont) -> Iterator[str]:
    """Sentences broken into lines as wide as the sheet."""
    for text in texts:
        line = ""
        for word in text.split():
            if line and font.getlength(f"{line} {word}") > WIDTH - 4:
                yield line
                line = "   "
            line = f"{line} {word}" if line else word
        yield line
