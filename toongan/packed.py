"""One data set as one array on disk.

A packed folder holds `images.npy` (uint8, `(N, H, W, 3)`), `index.csv` (a row a
picture: its source and its labels) and `meta.json` (counts, licence, fingerprint).
It appears by one rename, whole or not at all.
"""

import csv
import errno
import hashlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .errors import ToonGANError
from .paths import writable_folder

FORMAT = 1


@dataclass(frozen=True)
class PackedDataset:
    """A packed folder, opened.

    Attributes:
        images: memory-mapped uint8 `(N, H, W, 3)`.
        meta: what `meta.json` says.
        fingerprint: SHA-256 over the pixels of all N pictures.
    """

    folder: Path
    images: np.ndarray
    meta: dict
    fingerprint: str

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def labels(self) -> list[dict[str, str]]:
        """One dictionary a picture, attribute name to value; empty where a part is absent."""
        with open(self.folder / "index.csv", newline="", encoding="utf-8") as file:
            rows = list(itertools.islice(csv.DictReader(file), len(self)))
        for row in rows:
            del row["source"]
        return rows


def write_packed(
    folder: Path, count: int, image_size: int, pictures: Iterable, meta: dict
) -> None:
    """Write `count` pictures to `folder`; whatever stood there is replaced at the very end.

    Args:
        pictures: yields `(pixels, source, labels)`: uint8 `(H, W, 3)`, the picture's
            name at its source, and a dictionary of attributes.

    Raises:
        ToonGANError: the folder cannot be written, or the disk is full.
    """
    parent = writable_folder(folder.parent)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.part-", dir=parent))
    try:
        need = count * image_size * image_size * 3
        free = shutil.disk_usage(parent).free
        if need * 1.02 > free:
            raise OSError(errno.ENOSPC, "No space left on device")
        images = np.lib.format.open_memmap(
            part / "images.npy", mode="w+", dtype=np.uint8, shape=(count, image_size, image_size, 3)
        )
        digest = hashlib.sha256()
        sources, labels = [], []
        for i, (pixels, source, attributes) in enumerate(pictures):
            images[i] = pixels
            digest.update(pixels.tobytes())
            sources.append(source)
            labels.append(attributes)
        images.flush()
        write_index(part / "index.csv", sources, labels)
        meta = {
            "format": FORMAT,
            "count": count,
            "image_size": image_size,
            "fingerprint": digest.hexdigest(),
            **meta,
        }
        (part / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
        part.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old-", dir=parent))
            folder.rename(old / "packed")
            part.rename(folder)
            shutil.rmtree(old)
        else:
            part.rename(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ToonGANError(
            f"Cannot write {folder} ({reason}); {count:,} pictures of {image_size} px need "
            f"{count * image_size**2 * 3 / 1e6:,.0f} MB. Free some space, or set TOONGAN_HOME."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_index(path: Path, sources: list[str], labels: list[dict]) -> None:
    columns = sorted({name for row in labels for name in row})
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["source", *columns], restval="")
        writer.writeheader()
        for source, row in zip(sources, labels, strict=True):
            writer.writerow({"source": source, **row})


def open_packed(folder: Path, count: int | None = None) -> PackedDataset:
    """Open the first `count` pictures of a packed folder, or all of them.

    Raises:
        ToonGANError: the folder is damaged, or holds fewer than `count` pictures.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        images = np.load(folder / "images.npy", mmap_mode="r")
        whole = len(images) == meta["count"] and (folder / "index.csv").exists()
        fingerprint = meta["fingerprint"]
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise ToonGANError(f"{folder} is damaged; delete it to make it anew.") from error
    if not whole:
        raise ToonGANError(f"{folder} is damaged; delete it to make it anew.")
    if count is not None and count < len(images):
        images = images[:count]
        fingerprint = hashlib.sha256(np.ascontiguousarray(images)).hexdigest()
    elif count is not None and count > len(images):
        raise ToonGANError(
            f"is {count:,}, but {folder} holds {len(images):,} pictures; ask for at most that many.",
            "count",
        )
    return PackedDataset(folder, images, meta, fingerprint)
