"""Zip and tar archives of images, and what a file is that claims to be one."""

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .images import IMAGE_ENDINGS, LFS_POINTER, START_BYTES, ending, is_web_page, made_like_an_image
from .members import UnusableArchive
from .names import folder_label, printable
from .outcomes import ARCHIVE, NESTED, Form, LeftOut, Outcome, Task
from .reading import outcomes_of, reading
from .tars import tar_members
from .zips import open_zip, zip_members

CHUNK = 64
CHUNK_BYTES = 32 << 20


@dataclass(frozen=True)
class BytesTask:
    """Members of an archive, read by the parent: `(name, content)`, or a reason instead of content."""

    members: list[tuple[str, bytes | LeftOut]]
    work: int
    label_folders: bool = True

    @property
    def size(self) -> int:
        return len(self.members)

    def run(self, form: Form) -> list[Outcome]:
        return [outcome for name, content in self.members for outcome in self.read(name, content, form)]

    def read(self, name: str, content: bytes | LeftOut, form: Form) -> list[Outcome]:
        if isinstance(content, LeftOut):
            return [content]
        outcomes = outcomes_of(name, content, form, folder_label(name) if self.label_folders else {})
        if isinstance(outcomes[0], LeftOut) and outcomes[0].reason == ARCHIVE:
            return [LeftOut(name, NESTED)]
        return outcomes


@dataclass(frozen=True)
class ArchiveSource:
    """A zip or tar archive of images, compressed or not; its first bytes say which.

    `made_from` identifies the archive if a new copy of the file is no reason to pack again.
    `images` is the number of images that the archive is known to hold.
    """

    path: Path
    label_folders: bool = True
    made_from: dict | None = None
    images: int | None = None

    @property
    def unit(self) -> str:
        return "images" if self.images or is_zip(self.path) else "B"

    def signature(self) -> dict:
        if self.made_from is not None:
            return self.made_from
        info = self.path.stat()
        archive = printable(str(self.path))
        return {"archive": archive, "bytes": info.st_size, "modified": info.st_mtime_ns, **reading()}

    def amount(self, signature: dict) -> int | None:
        if self.images or not is_zip(self.path):
            return self.images or self.path.stat().st_size
        with open_zip(self.path) as archive:
            return len(archive.filelist)

    def tasks(self, skip: int) -> Iterator[Task]:
        unit, chunk, size, work = self.unit, [], 0, 0
        for name, content, progress in self.members(skip):
            chunk.append((name, content))
            size += len(content) if isinstance(content, bytes) else 0
            work += progress if unit == "B" else ending(name) in IMAGE_ENDINGS if self.images else 1
            if len(chunk) == CHUNK or size > CHUNK_BYTES:
                yield BytesTask(chunk, work, self.label_folders)
                chunk, size, work = [], 0, 0
        if chunk:
            yield BytesTask(chunk, work, self.label_folders)

    def members(self, skip: int) -> Iterator[tuple[str, bytes | LeftOut, int]]:
        """Name, content (or why there is none), and progress: the bytes of a tar member, or 1 for a zip member."""
        if is_zip(self.path):
            return ((name, content, 1) for name, content in zip_members(self.path, skip))
        if not is_archive(self.path):
            raise UnusableArchive(self.path, *what_instead(self.path))
        return tar_members(self.path, skip)


def start_of(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(START_BYTES)


def is_zip(path: Path) -> bool:
    return start_of(path).startswith((b"PK\3\4", b"PK\5\6"))


def is_archive(path: Path) -> bool:
    if is_zip(path):
        return True
    try:
        return tarfile.is_tarfile(path)
    except (zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, MemoryError):
        return True  # a damaged, compressed archive: reading it raises the error


def why_no_archive(path: Path) -> str:
    """What a file is if it is no archive, and what to do about it, as the rest of a sentence."""
    return "is {}; {}.".format(*what_instead(path))


def what_instead(path: Path) -> tuple[str, str]:
    """What a file is if it is no archive, and the remedy."""
    start = start_of(path)
    elsewhere = "unpack it and use folder:PATH"
    if not start:
        return "empty", "get another copy"
    if start.startswith(LFS_POINTER):
        return "a Git LFS pointer, not the archive", "run git lfs pull"
    if is_web_page(start):
        return "a web page, not an archive", "download it again"
    if start.startswith(b"PK\7\x08"):
        return "one part of a split zip archive", "unpack all parts together and use folder:PATH"
    for signature, kind in ((b"7z\xbc\xaf", "7-Zip"), (b"Rar!", "RAR"), (b"\x28\xb5\x2f\xfd", "Zstandard")):
        if start.startswith(signature):
            return f"a {kind} archive, which cannot be read here", elsewhere
    if made_like_an_image(start):
        return "an image, not an archive", "put it in a folder with others and use folder:PATH"
    return "not a zip or tar archive", elsewhere
