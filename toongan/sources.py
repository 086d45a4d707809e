"""Where pictures come from: a folder, an archive, or this machine's own drawing.

A source hands out tasks. A task is small, travels to a worker process, and comes back
as outcomes: a picture, labels for one, or a reason why there is none. No archive is
ever unpacked to disk, so no name in one can lead anywhere.
"""

import csv
import errno
import hashlib
import io
import itertools
import lzma
import os
import stat
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from . import avatars
from .data import to_rgb, to_square
from .errors import ToonGANError

CHUNK = 64
CHUNK_BYTES = 32 << 20
MAX_FILE_BYTES = 256 << 20
MAX_MEMBERS = 2_500_000
MAX_RATIO = 100
# Below this size no archive is a bomb, whatever its ratio.
HARMLESS_BYTES = 256 << 20
PICTURE_ENDINGS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .ppm .pgm .pbm .tga .jp2 .avif .ico .psd".split()
)
FOREIGN_ENDINGS = frozenset(".heic .heif .svg .pdf .eps .ai .kra .xcf .clip .raw .dng .cr2 .nef .arw".split())
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")
CSV_BYTES = 1 << 16

NOT_A_PICTURE = "not a picture"
EMPTY = "empty file"
DAMAGED = "damaged or cut short"
TOO_MANY_PIXELS = f"more than {Image.MAX_IMAGE_PIXELS / 1e6:.0f} megapixels"
TOO_LARGE = f"more than {MAX_FILE_BYTES >> 20} MB"
UNREADABLE = "cannot be read"
FOREIGN = "in a format that is not read: export as PNG or JPEG"
BROKEN_LINK = "broken link"
NOT_REGULAR = "link or device, not a regular file"
UNSAFE_NAME = "name leads out of the archive"
ENCRYPTED = "encrypted"
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


@dataclass(frozen=True)
class LeftOut:
    """A file that gives no picture, and why."""

    source: str
    reason: str
    detail: str = ""


Outcome = Picture | Labels | LeftOut


class UnusableArchive(ToonGANError):
    """An archive that another copy of might cure; `what` says why in a few words."""

    def __init__(self, path: Path, what: str):
        super().__init__(f"{path} is {what}; get another copy, or unpack it and use folder:PATH.")
        self.what = what


class Unusable(Exception):
    """A file that cannot be used; `args` are the reason and a detail."""


# --- one file -------------------------------------------------------------------------------


def read_picture(data: bytes, image_size: int) -> tuple[np.ndarray, bool]:
    """The bytes of a picture file as uint8 `(image_size, image_size, 3)`, and whether it was smaller than that.

    Of a film, the first frame.

    Raises:
        Unusable: the bytes are not a picture, a damaged one, or one too large.
    """
    try:
        picture = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise Unusable(TOO_MANY_PIXELS) from error
    except Image.UnidentifiedImageError as error:
        raise Unusable(NOT_A_PICTURE) from error
    except Exception as error:  # a decoder fed with garbage raises whatever it trips over
        raise Unusable(DAMAGED, str(error)) from error
    if picture.width * picture.height > Image.MAX_IMAGE_PIXELS:
        raise Unusable(TOO_MANY_PIXELS, f"{picture.width}×{picture.height}")
    enlarged = min(picture.size) < image_size
    try:
        picture.draft(None, (2 * image_size, 2 * image_size))  # a large JPEG is decoded at a fraction of its size
        return np.asarray(to_square(to_rgb(picture), image_size)), enlarged
    except Exception as error:  # as above
        raise Unusable(DAMAGED, str(error)) from error


def read_attributes(data: bytes) -> dict[str, str] | None:
    """Cartoon Set's label file, lines of `name, index, count`, as name to index; None if it is another kind of file."""
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8")), skipinitialspace=True))
        labels = {name.strip(): str(int(index)) for name, index, count in rows if int(count) > int(index) >= 0}
    except (UnicodeDecodeError, ValueError, csv.Error):
        return None
    return labels if labels and len(labels) == len(rows) else None


def outcome_of(source: str, data: bytes, image_size: int, labels: dict[str, str]) -> Outcome:
    """What becomes of a file, given its content."""
    if is_label_file(source):
        attributes = read_attributes(data[:CSV_BYTES])
        return LeftOut(source, NOT_A_PICTURE) if attributes is None else Labels(stem(source), attributes)
    if not data:
        return LeftOut(source, EMPTY)
    try:
        pixels, enlarged = read_picture(data, image_size)
    except Unusable as error:
        return LeftOut(source, *error.args)
    return Picture(source, hashlib.sha256(data).digest(), pixels, labels, enlarged)


def ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def stem(source: str) -> str:
    """What a picture and its label file share."""
    return os.path.splitext(source)[0]


def no_picture(name: str) -> str:
    return FOREIGN if ending(name) in FOREIGN_ENDINGS else NOT_A_PICTURE


def is_label_file(name: str) -> bool:
    return ending(name) == ".csv"


def is_hidden(name: str) -> bool:
    """What systems leave behind: `.DS_Store`, `._face.png`, `__MACOSX/`."""
    return any(part.startswith(".") and part not in (".", "..") or part == "__MACOSX" for part in name.split("/"))


def folder_label(name: str) -> dict[str, str]:
    """The folder that a picture lies in, which is often its class."""
    parent = str(PurePosixPath(name).parent)
    return {} if parent == "." else {"folder": parent}


def printable(name: str) -> str:
    """A file name as text that every file can hold, whatever bytes it is made of."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


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
                if ending(name) not in PICTURE_ENDINGS and not is_label_file(name):
                    start = file.read(16)
                    if not start.startswith(SIGNATURES):
                        raise Unusable(no_picture(name))
                    file.seek(0)
                elif mode.st_size > MAX_FILE_BYTES:
                    raise Unusable(TOO_LARGE)
                data = file.read(MAX_FILE_BYTES)
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
        return [
            content
            if isinstance(content, LeftOut)
            else outcome_of(name, content, image_size, folder_label(name) if self.label_folders else {})
            for name, content in self.members
        ]


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
        return {"folder": str(self.root), "files": count, "listing": digest.hexdigest()}

    def amount(self, signature: dict) -> int:
        return signature["files"]

    def names(self) -> Iterator[str]:
        """Names of all files, relative and with forward slashes; sorted, so that every machine sees one order."""
        waiting, seen = [""], set()
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(self.root / folder) as entries:
                    here = sorted(entries, key=lambda entry: os.path.splitext(os.fsencode(entry.name)))
                    place = os.stat(self.root / folder)
            except OSError as error:
                if not folder:
                    raise ToonGANError(f"Cannot read the folder {self.root} ({error.strerror}).") from error
                yield folder
                continue
            if (place.st_dev, place.st_ino) in seen:  # a link back up the tree
                continue
            seen.add((place.st_dev, place.st_ino))
            folders = []
            for entry in here:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if is_hidden(entry.name):
                    continue
                if is_folder(entry):
                    folders.append(name)
                else:
                    yield name
            waiting.extend(reversed(folders))

    def tasks(self, skip: int) -> Iterator[Task]:
        names = itertools.islice(self.names(), skip, None)
        while chunk := list(itertools.islice(names, CHUNK)):
            yield FilesTask(self.root, chunk, self.label_folders)


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
        return {"archive": str(self.path), "bytes": info.st_size, "modified": info.st_mtime_ns}

    def amount(self, signature: dict) -> int | None:
        if self.pictures or not is_zip(self.path):
            return self.pictures or self.path.stat().st_size
        with open_zip(self.path) as archive:
            return len(archive.filelist)

    def tasks(self, skip: int) -> Iterator[Task]:
        members = self.zip_members(skip) if is_zip(self.path) else self.tar_members(skip)
        unit, chunk, size, work = self.unit, [], 0, 0
        for name, content, progress in members:
            chunk.append((name, content))
            size += len(content) if isinstance(content, bytes) else 0
            work += progress if unit == "B" else ending(name) in PICTURE_ENDINGS if self.pictures else 1
            if len(chunk) == CHUNK or size > CHUNK_BYTES:
                yield BytesTask(chunk, work, self.label_folders)
                chunk, size, work = [], 0, 0
        if chunk:
            yield BytesTask(chunk, work, self.label_folders)

    def zip_members(self, skip: int) -> Iterator[tuple[str, bytes | LeftOut, int]]:
        with open_zip(self.path) as archive:
            unpacked = sum(member.file_size for member in archive.filelist)
            check_ratio(self.path, unpacked)
            for member in itertools.islice(archive.filelist, skip, None):
                try:
                    yield printable(member.filename), zip_content(archive, member), 1
                except OSError as error:
                    raise cannot_read(self.path, error) from error

    def tar_members(self, skip: int) -> Iterator[tuple[str, bytes | LeftOut, int]]:
        number = reached = 0
        try:
            with open(self.path, "rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as archive:
                for number, member in enumerate(archive):
                    archive.members = []  # else it remembers every member it has passed
                    check_members(self.path, number)
                    check_ratio(self.path, member.offset_data + member.size)
                    if number < skip:
                        continue
                    before, reached = reached, raw.tell()
                    yield printable(member.name), tar_content(archive, member), reached - before
                # tarfile takes a damaged header for the end. The true end is a block of zeros; behind it, a
                # compressed archive has its checksum, which is compared once all is read.
                archive.fileobj.seek(archive.offset)
                if archive.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                    raise EOFError
                while archive.fileobj.read(1 << 20):
                    pass
        except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise cannot_read(self.path, error) from error
            raise UnusableArchive(self.path, f"damaged or cut short after {number:,} files") from error


def is_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in (b"PK\3\4", b"PK\5\6")


def is_archive(path: Path) -> bool:
    return is_zip(path) or tarfile.is_tarfile(path)


def open_zip(path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise UnusableArchive(path, f"damaged or cut short ({error})") from error
    check_members(path, len(archive.filelist))
    return archive


def cannot_read(path: Path, error: OSError) -> ToonGANError:
    return ToonGANError(f"Cannot read {path} ({error.strerror or error}); check the disk it is on, then try again.")


def check_members(path: Path, count: int) -> None:
    if count > MAX_MEMBERS:
        raise ToonGANError(f"{path} holds more than {MAX_MEMBERS:,} files, too many; split it.")


def check_ratio(path: Path, unpacked: int) -> None:
    """Refuse an archive that grows as no set of pictures does."""
    if unpacked > max(HARMLESS_BYTES, MAX_RATIO * path.stat().st_size):
        raise ToonGANError(
            f"{path} would unpack to more than {MAX_RATIO} times its size, as pictures never do, and was not read "
            "further; if you trust it, unpack it and use folder:PATH."
        )


def refused(name: str, regular: bool, size: int) -> LeftOut | None:
    """Why a member of an archive is not read, judged by its header alone."""
    source = printable(name)
    if name.startswith(("/", "\\")) or name[1:2] == ":" or ".." in name.replace("\\", "/").split("/"):
        return LeftOut(source, UNSAFE_NAME)
    if is_hidden(name):
        return LeftOut(source, "")
    if not regular:
        return LeftOut(source, NOT_REGULAR)
    if size > (CSV_BYTES if is_label_file(name) else MAX_FILE_BYTES):
        return LeftOut(source, NOT_A_PICTURE if is_label_file(name) else TOO_LARGE)
    return None


def content_or_reason(name: str, file, size: int) -> bytes | LeftOut:
    """A member's bytes; only the first few of one that is neither named nor made like a picture."""
    start = file.read(16)
    if start and ending(name) not in PICTURE_ENDINGS and not is_label_file(name) and not start.startswith(SIGNATURES):
        return LeftOut(printable(name), no_picture(name))
    return start + file.read(MAX_FILE_BYTES)


def zip_content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes | LeftOut:
    if member.is_dir():
        return LeftOut(member.filename, "")
    mode = member.external_attr >> 16
    regular = stat.S_IFMT(mode) in (0, stat.S_IFREG)
    reason = refused(member.filename, regular, member.file_size)
    if reason is None and member.flag_bits & 1:
        reason = LeftOut(printable(member.filename), ENCRYPTED)
    if reason is not None:
        return reason
    try:
        with archive.open(member) as file:
            return content_or_reason(member.filename, file, member.file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        return LeftOut(printable(member.filename), DAMAGED, str(error))


def tar_content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | LeftOut:
    if member.isdir():
        return LeftOut(member.name, "")
    reason = refused(member.name, member.isreg(), member.size)
    return reason or content_or_reason(member.name, archive.extractfile(member), member.size)


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
