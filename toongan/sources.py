"""Where pictures come from: a folder, an archive, or this machine's own drawing.

A source hands out tasks. A task is small, travels to a worker process, and comes back
as outcomes: a picture, labels for one, or a reason why there is none. No archive is
ever unpacked to disk, so no name in one can lead anywhere.
"""

import csv
import errno
import hashlib
import importlib.util
import io
import itertools
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import avatars
from .archives import (  # noqa: F401  reasons are asked for here
    CSV_BYTES,
    ENCRYPTED,
    MAX_NAMED,
    NESTED,
    NOT_REGULAR,
    OVERLAPS,
    PADDED,
    UNSAFE_NAME,
    LeftOut,
    UnusableArchive,
    is_archive,
    is_label_file,
    is_zip,
    open_zip,
    tar_members,
    what_instead,
    why_no_archive,
    zip_members,
)
from .errors import ToonGANError
from .names import folder_label, is_hidden, is_own_folder, order, printable, stem
from .packed import NOT_LABELS
from .pictures import (  # noqa: F401
    ARCHIVE,
    DAMAGED,
    EMPTY,
    FOREIGN,
    HEIC,
    HIDDEN,
    LFS,
    MADE_HERE,
    MAX_FILE_BYTES,
    NOT_A_PICTURE,
    PICTURE_ENDINGS,
    START_BYTES,
    TOO_LARGE,
    TOO_MANY_PIXELS,
    UNKNOWN_LEVELS,
    VARIANT,
    WEB_PAGE,
    Unusable,
    ending,
    may_be_a_picture,
    no_picture,
    read_picture,
    what_it_is,
)

CHUNK = 64
CHUNK_BYTES = 32 << 20
# Raised when the same files would give other pixels, so that what was packed before is packed anew.
READING = 2

UNREADABLE = "cannot be read"
BROKEN_LINK = "broken link"
DUPLICATE = "duplicate of another"


@dataclass(frozen=True)
class Picture:
    """A usable picture: uint8 pixels `(H, W, 3)` and the SHA-256 of the file they came from."""

    source: str
    sha256: bytes
    pixels: np.ndarray
    labels: dict[str, str] = field(default_factory=dict)
    enlarged: bool = False


@dataclass(frozen=True)
class Labels:
    """Attributes from a CSV file beside a picture of the same name."""

    key: str
    labels: dict[str, str]


Outcome = Picture | Labels | LeftOut


# --- one file -------------------------------------------------------------------------------


def read_attributes(data: bytes) -> dict[str, str] | None:
    """Cartoon Set's label file, lines of `name, index, count`, as name to index; None if it is another kind of file.

    Editors and spreadsheets may have saved it anew: in UTF-16, with a byte order mark, with semicolons or tabs.
    """
    try:
        text = data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
        delimiter = next((mark for mark in ",;\t" if mark in text), ",")
        rows = [row for row in csv.reader(io.StringIO(text), skipinitialspace=True, delimiter=delimiter) if row]
        labels = {name.strip(): str(int(index)) for name, index, count in rows if int(count) > int(index) >= 0}
    except (ValueError, csv.Error):  # UnicodeDecodeError is one
        return None
    return labels if labels and len(labels) == len(rows) and labels.keys().isdisjoint(NOT_LABELS) else None


def outcome_of(source: str, data: bytes, image_size: int, labels: dict[str, str]) -> Outcome:
    """What becomes of a file, given its content."""
    if not data:
        return LeftOut(source, EMPTY)
    if is_label_file(source):
        attributes = read_attributes(data[:CSV_BYTES])
        if attributes is not None:
            return Labels(stem(source), attributes)
        reason = what_it_is(data)
        return LeftOut(source, reason if reason in (LFS, WEB_PAGE) else NOT_A_PICTURE)
    try:
        pixels, enlarged = read_picture(data, image_size)
    except Unusable as error:
        return LeftOut(source, *error.args)
    return Picture(source, hashlib.sha256(data).digest(), pixels, labels, enlarged)


# --- tasks ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class FilesTask:
    """Files of a folder, read by the worker."""

    root: Path
    names: list[str]
    label_folders: bool = True

    @property
    def size(self) -> int:
        return len(self.names)

    @property
    def work(self) -> int:
        return len(self.names)

    def run(self, image_size: int) -> list[Outcome]:
        return [self.read(name, image_size) for name in self.names]

    def read(self, name: str, image_size: int) -> Outcome:
        path, source = self.root / name, printable(name)
        try:
            mode = path.stat()
            if stat.S_ISDIR(mode.st_mode):
                raise Unusable(UNREADABLE, "folder")
            if not stat.S_ISREG(mode.st_mode):
                raise Unusable(NOT_REGULAR)
            with open(path, "rb") as file:
                data = file.read(START_BYTES)
                if data and not may_be_a_picture(name, data) and not is_label_file(name):
                    raise Unusable(no_picture(name, data))
                if mode.st_size > MAX_FILE_BYTES:
                    raise Unusable(TOO_LARGE)
                data += file.read(CSV_BYTES if is_label_file(name) else MAX_FILE_BYTES)
        except Unusable as error:
            return LeftOut(source, *error.args)
        except OSError as error:
            broken = path.is_symlink() and error.errno in (errno.ENOENT, errno.ELOOP)
            return LeftOut(source, BROKEN_LINK if broken else UNREADABLE, error.strerror or "")
        return outcome_of(source, data, image_size, folder_label(source) if self.label_folders else {})


@dataclass(frozen=True)
class BytesTask:
    """Members of an archive, read by the parent: `(name, content)`, or a reason in place of content."""

    members: list[tuple[str, bytes | LeftOut]]
    work: int
    label_folders: bool = True

    @property
    def size(self) -> int:
        return len(self.members)

    def run(self, image_size: int) -> list[Outcome]:
        return [self.read(name, content, image_size) for name, content in self.members]

    def read(self, name: str, content: bytes | LeftOut, image_size: int) -> Outcome:
        if isinstance(content, LeftOut):
            return content
        outcome = outcome_of(name, content, image_size, folder_label(name) if self.label_folders else {})
        if isinstance(outcome, LeftOut) and outcome.reason == ARCHIVE:
            return LeftOut(name, NESTED)
        return outcome


@dataclass(frozen=True)
class AvatarsTask:
    """Avatars of a style, by number."""

    style: str
    numbers: range

    @property
    def size(self) -> int:
        return len(self.numbers)

    @property
    def work(self) -> int:
        return len(self.numbers)

    def run(self, image_size: int) -> list[Outcome]:
        outcomes = []
        for number in self.numbers:
            svg, seen = avatars.compose(self.style, number)
            digest = hashlib.sha256(svg.encode()).digest()
            outcomes.append(Picture(f"{self.style}-{number}", digest, avatars.rasterise(svg, image_size), seen))
        return outcomes


Task = FilesTask | BytesTask | AvatarsTask


def run_task(task: Task, image_size: int) -> list[Outcome]:
    """What a worker process does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd files, of which nobody could tell the file
        return task.run(image_size)


# --- sources --------------------------------------------------------------------------------


@dataclass(frozen=True)
class FolderSource:
    """Any tree of pictures."""

    root: Path
    label_folders: bool = True
    unit = "pictures"

    def signature(self) -> dict:
        """Changes when a file is added, removed or changed."""
        digest, count = hashlib.sha256(), 0
        for name in self.names():
            try:
                info = (self.root / name).stat()
                text = f"{printable(name)}\0{info.st_size}\0{info.st_mtime_ns}\n"
            except OSError:
                text = f"{printable(name)}\0\n"
            digest.update(text.encode())
            count += 1
        return {"folder": printable(str(self.root)), "files": count, "listing": digest.hexdigest(), **reading()}

    def amount(self, signature: dict) -> int:
        return signature["files"]

    def names(self, passed_over: list[LeftOut] | None = None) -> Iterator[str]:
        """Names of all files, relative and with forward slashes; sorted, so that every machine sees one order.

        Hidden files and folders that this program wrote are passed over, and named in `passed_over`.
        """
        waiting, seen = [""], set()
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(self.root / folder) as entries:
                    here = sorted(entries, key=lambda entry: order(entry.name))
                    place = os.stat(self.root / folder)
            except OSError as error:
                if not folder:
                    root = printable(str(self.root))
                    raise ToonGANError(f"Cannot read the folder {root} ({error.strerror}).") from error
                yield folder
                continue
            if (place.st_dev, place.st_ino) in seen:  # a link back up the tree
                continue
            seen.add((place.st_dev, place.st_ino))
            if folder and is_own_folder(entry.name for entry in here):
                if passed_over is not None:
                    passed_over.append(LeftOut(printable(folder), MADE_HERE))
                continue
            folders = []
            for entry in here:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if is_hidden(entry.name):
                    if passed_over is not None and len(passed_over) < MAX_NAMED:
                        passed_over.append(LeftOut(printable(name), HIDDEN))
                elif is_folder(entry):
                    folders.append(name)
                else:
                    yield name
            waiting.extend(reversed(folders))

    def tasks(self, skip: int) -> Iterator[Task]:
        passed_over, found = [], skip > 0
        names = itertools.islice(self.names(passed_over), skip, None)
        while chunk := list(itertools.islice(names, CHUNK)):
            found = True
            yield FilesTask(self.root, chunk, self.label_folders)
        if not found and passed_over:  # else nobody would know why the folder gives nothing
            yield BytesTask([(one.source, one) for one in passed_over], len(passed_over))


def reading() -> dict:
    """What decides, beside the files, which pixels they give."""
    return {"reading": READING, "heic": importlib.util.find_spec("pillow_heif") is not None}


def is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


@dataclass(frozen=True)
class ArchiveSource:
    """A zip or tar archive of pictures, compressed or not; what it is shows in its first bytes.

    `made_from` stands for the archive where a new copy of the file is no reason to pack again.
    `pictures` is how many the archive is known to hold.
    """

    path: Path
    label_folders: bool = True
    made_from: dict | None = None
    pictures: int | None = None

    @property
    def unit(self) -> str:
        return "pictures" if self.pictures or is_zip(self.path) else "B"

    def signature(self) -> dict:
        if self.made_from is not None:
            return self.made_from
        info = self.path.stat()
        archive = printable(str(self.path))
        return {"archive": archive, "bytes": info.st_size, "modified": info.st_mtime_ns, **reading()}

    def amount(self, signature: dict) -> int | None:
        if self.pictures or not is_zip(self.path):
            return self.pictures or self.path.stat().st_size
        with open_zip(self.path) as archive:
            return len(archive.filelist)

    def tasks(self, skip: int) -> Iterator[Task]:
        unit, chunk, size, work = self.unit, [], 0, 0
        for name, content, progress in self.members(skip):
            chunk.append((name, content))
            size += len(content) if isinstance(content, bytes) else 0
            work += progress if unit == "B" else ending(name) in PICTURE_ENDINGS if self.pictures else 1
            if len(chunk) == CHUNK or size > CHUNK_BYTES:
                yield BytesTask(chunk, work, self.label_folders)
                chunk, size, work = [], 0, 0
        if chunk:
            yield BytesTask(chunk, work, self.label_folders)

    def members(self, skip: int) -> Iterator[tuple[str, bytes | LeftOut, int]]:
        """Name, content or why there is none, and the bytes of the archive that a member of a tar archive took."""
        if is_zip(self.path):
            return ((name, content, 1) for name, content in zip_members(self.path, skip))
        if not is_archive(self.path):
            raise UnusableArchive(self.path, *what_instead(self.path))
        return tar_members(self.path, skip)


@dataclass(frozen=True)
class AvatarsSource:
    """Avatars of one style, without end: each number another drawing."""

    style: str
    unit = "faces"

    def signature(self) -> dict:
        return {"style": self.style, **avatars.versions()}

    def amount(self, signature: dict) -> None:
        return None

    def tasks(self, skip: int) -> Iterator[Task]:
        for start in itertools.count(skip, CHUNK):
            yield AvatarsTask(self.style, range(start, start + CHUNK))


Source = FolderSource | ArchiveSource | AvatarsSource
