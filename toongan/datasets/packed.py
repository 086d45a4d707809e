"""One data set as one array on disk.

A packed folder holds

- `images.npy`: uint8 `(N, H, W, channels)`;
- `index.csv`: a row per image: `source` (file), `sha256` (of that file), its labels;
- `left-out.csv`: a row per file that was not used, and why;
- `meta.json`: counts, fingerprint, licence, and how many files were left out, by reason;
- `preview.png`: 64 of the images, and what a look at the set found;
- `look.csv`, `look.json`: all that the look found; not for images drawn here.

`packing.py` writes the folder.
"""

import csv
import dataclasses
import hashlib
import itertools
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import ToonGANError
from .holdout import evenly

FORMAT = 2
NOT_LABELS = ("source", "sha256")
# Four built-in styles have a `flatness` of 0.62 to 0.73 at 32 px, 0.78 to 0.85 at 64 px, and more at larger sizes.
FLAT, LOOKED_AT = 0.6, 256


@dataclass(frozen=True)
class PackedDataset:
    """An opened packed folder.

    Attributes:
        images: uint8 `(N, H, W, channels)`, memory-mapped if all of the folder or its beginning is used.
        meta: the content of `meta.json`.
        fingerprint: SHA-256 over the pixels of all N images.
        rows: the rows of the folder that are used; None for the first N.
    """

    folder: Path
    images: np.ndarray
    meta: dict
    fingerprint: str
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def is_grey(self) -> bool:
        """Whether the images have three channels and all of them are grey."""
        return self.meta.get("grey", False)

    @cached_property
    def is_flat(self) -> bool:
        """Whether these are drawings with flat areas, not photographs, scans or paintings."""
        return flatness(self.images) > FLAT

    def in_grey(self) -> "PackedDataset":
        """The same images, which are all grey, with one channel."""
        return dataclasses.replace(self, images=self.images[..., :1])

    @cached_property
    def index(self) -> list[dict[str, str]]:
        """One dictionary per image: its row of `index.csv`."""
        with open(self.folder / "index.csv", newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if self.rows is None:
                return list(itertools.islice(rows, len(self)))
            wanted = set(self.rows.tolist())
            return [row for number, row in enumerate(rows) if number in wanted]

    @property
    def identity(self) -> str:
        """What the `hashes` are computed from. Two sets of the same identity give an image the same hash."""
        made_from = self.meta["made_from"]
        if "style" not in made_from:
            return "files"
        return "drawings by " + ", ".join(
            f"{name} {made_from.get(name)}" for name in ("dicebear-core", "dicebear-styles")
        )

    @cached_property
    def hashes(self) -> np.ndarray:
        """The first 64 bits of each image file's SHA-256, uint64 `(N,)`; they identify an image, wherever it is stored.

        Raises:
            ToonGANError: `index.csv` does not fit the images.
        """
        try:
            with open(self.folder / "index.csv", newline="", encoding="utf-8-sig") as file:
                rows = csv.reader(file)
                column = next(rows).index("sha256")
                numbers = np.fromiter((int(row[column][:16], 16) for row in rows), np.uint64)
            found = numbers[: len(self)] if self.rows is None else numbers[self.rows]
        except (OSError, ValueError, IndexError, StopIteration, csv.Error) as error:
            raise damaged(self.folder) from error
        if len(found) != len(self):
            raise damaged(self.folder)
        return found

    @cached_property
    def labels(self) -> list[dict[str, str]]:
        """One dictionary per image, attribute name to value; the value is empty if the part is absent."""
        return [{name: value for name, value in row.items() if name not in NOT_LABELS} for row in self.index]

    @property
    def left_out(self) -> dict[str, int]:
        """How many files were left out, by reason."""
        return self.meta["left_out"]


def read_meta(folder: Path) -> dict | None:
    """`meta.json` of a complete packed folder in the current format; None if there is none."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8-sig"))
        pixels = meta["count"] * meta["image_size"] ** 2 * meta.get("channels", 3)
        whole = (folder / "images.npy").stat().st_size > pixels and (folder / "index.csv").stat().st_size
        return meta if meta["format"] == FORMAT and whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def open_packed(
    folder: Path, count: int | None = None, spread: bool = False, among: np.ndarray | None = None
) -> PackedDataset:
    """Open `count` images of a packed folder, or all of them.

    Args:
        spread: take them evenly from the whole folder, since neighbours may be of one kind; else from its beginning.
        among: take them from these rows only; ascending.

    Raises:
        ToonGANError: the folder is damaged, or holds fewer than `count` images.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8-sig"))
        # Copy-on-write: nothing can change the file, and PyTorch accepts the array as it is.
        images = np.load(folder / "images.npy", mmap_mode="c")
        whole = len(images) == meta["count"] and (folder / "index.csv").exists()
        fingerprint = meta["fingerprint"]
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise damaged(folder) from error
    if not whole:
        raise damaged(folder)
    there = len(images) if among is None else len(among)
    count = there if count is None else count
    if count == len(images):
        return PackedDataset(folder, images, meta, fingerprint)
    if count > there:
        raise ToonGANError(
            f"is {count:,}, but {folder} holds only {there:,} images; ask for at most that many.", "count"
        )
    rows = among
    if spread and count < there:
        rows = evenly(np.arange(len(images)) if among is None else among, count)
    elif among is not None:
        rows = among[:count]
    images = images[:count] if rows is None else images[rows]
    return PackedDataset(folder, images, meta, fingerprint_of(images), rows)


def damaged(folder: Path) -> ToonGANError:
    return ToonGANError(f"{folder} is damaged; delete it, and it is made again.")


def fingerprint_of(images: np.ndarray) -> str:
    """SHA-256 over the pixels, read in parts so that memory stays flat."""
    digest = hashlib.sha256()
    for start in range(0, len(images), 1024):
        digest.update(np.ascontiguousarray(images[start : start + 1024]))
    return digest.hexdigest()


def flatness(images: np.ndarray) -> float:
    """The share of pixels that equal their right neighbour, among up to `LOOKED_AT` of the images `(N, H, W, channels)`."""
    some = images[:: max(1, len(images) // LOOKED_AT)][:LOOKED_AT]
    return float((some[:, :, 1:] == some[:, :, :-1]).all(3).mean())
