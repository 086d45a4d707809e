"""A folder of images, with all its subfolders."""

import errno
import hashlib
import itertools
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ToonGANError
from .images import START_BYTES, may_be_an_image, no_image
from .names import folder_label, is_hidden, is_own_folder, order, printable
from .outcomes import (
    BROKEN_LINK,
    HIDDEN,
    MADE_HERE,
    MAX_FILE_BYTES,
    NOT_REGULAR,
    TOO_LARGE,
    UNREADABLE,
    Form,
    LeftOut,
    Outcome,
    Task,
    Unusable,
)
from .reading import CSV_BYTES, is_label_file, outcomes_of, reading

CHUNK = 64
MAX_NAMED = 1000


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

    def run(self, form: Form) -> list[Outcome]:
        return [outcome for name in self.names for outcome in self.read(name, form)]

    def read(self, name: str, form: Form) -> list[Outcome]:
        path, source = self.root / name, printable(name)
        try:
            mode = path.stat()
            if stat.S_ISDIR(mode.st_mode):
                raise Unusable(UNREADABLE, "folder")
            if not stat.S_ISREG(mode.st_mode):
                raise Unusable(NOT_REGULAR)
            with open(path, "rb") as file:
                data = file.read(START_BYTES)
                if data and not may_be_an_image(name, data) and not is_label_file(name):
                    raise Unusable(no_image(name, data))
                if mode.st_size > MAX_FILE_BYTES:
                    raise Unusable(TOO_LARGE)
                data += file.read(CSV_BYTES if is_label_file(name) else MAX_FILE_BYTES)
        except Unusable as error:
            return [LeftOut(source, *error.args)]
        except OSError as error:
            broken = path.is_symlink() and error.errno in (errno.ENOENT, errno.ELOOP)
            return [LeftOut(source, BROKEN_LINK if broken else UNREADABLE, error.strerror or "")]
        return outcomes_of(source, data, form, folder_label(source) if self.label_folders else {})


@dataclass(frozen=True)
class PassedOver:
    """Files that were never opened, and why."""

    outcomes: list[LeftOut]

    @property
    def size(self) -> int:
        return len(self.outcomes)

    @property
    def work(self) -> int:
        return len(self.outcomes)

    def run(self, form: Form) -> list[Outcome]:
        return list(self.outcomes)


@dataclass(frozen=True)
class FolderSource:
    """Any tree of images."""

    root: Path
    label_folders: bool = True
    unit = "images"

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
        """Names of all files, relative and with forward slashes; sorted, so that every machine sees the same order.

        Hidden files, and folders that this program wrote, are skipped and listed in `passed_over`.
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
        if not found and passed_over:  # else nobody would know why the folder yields nothing
            yield PassedOver(passed_over)


def is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
