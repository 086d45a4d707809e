"""Zip and tar archives, read member by member, in flat memory.

No archive is ever unpacked to disk, so no name in one can lead anywhere. What an archive unpacks to is held against
what its pictures can fill by their size in pixels: one that grows beyond that means harm, and is not read further.
"""

import bz2
import errno
import io
import itertools
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import ToonGANError
from .names import is_hidden, is_own_folder, leads_out, printable
from .pictures import (
    ARCHIVE,
    BESIDE_PIXELS,
    DAMAGED,
    HIDDEN,
    LFS_POINTER,
    MADE_HERE,
    MAX_FILE_BYTES,
    NOT_A_PICTURE,
    START_BYTES,
    TOO_LARGE,
    ending,
    is_web_page,
    made_like_a_picture,
    may_be_a_picture,
    most_bytes,
    no_picture,
)

CSV_BYTES = 1 << 16
MAX_MEMBERS = 2_500_000
MAX_NAMED = 1000
MAX_RATIO = 100
# Below this size no archive is a bomb, whatever its ratio.
HARMLESS_BYTES = 256 << 20
MAX_HEADER_BYTES = 256 << 10
PEEK_BYTES = 64 << 10
METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
METHOD_NAMES = {
    **{1: "Shrink", 2: "Reduce", 3: "Reduce", 4: "Reduce", 5: "Reduce", 6: "Implode", 9: "Deflate64", 10: "Implode"},
    **{18: "TERSE", 19: "LZ77", 93: "Zstandard", 95: "XZ", 96: "JPEG", 97: "WavPack", 98: "PPMd"},
}
AES = 99  # WinZip's way to lock a file
UTF8_FLAG = 0x800

NOT_REGULAR = "link or device, not a regular file"
UNSAFE_NAME = "name leads out of the archive: pack it anew with names that do not"
ENCRYPTED = "locked with a password: pack it anew without one"
METHOD = "compressed in a way Python cannot read ({}): pack it anew as a plain zip"
NESTED = "in an archive inside the archive: unpack it"
OVERLAPS = "shares its bytes with another file of the archive"
PADDED = "far larger than its pixels can be"


@dataclass(frozen=True)
class LeftOut:
    """A file that gives no picture, and why; without a reason, it is not worth a word."""

    source: str
    reason: str
    detail: str = ""


Member = tuple[str, bytes | LeftOut]


class UnusableArchive(ToonGANError):
    """An archive that another copy of might cure; `what` says why in a few words."""

    def __init__(self, path: Path, what: str, remedy: str = "get another copy, or unpack it and use folder:PATH"):
        super().__init__(f"{printable(str(path))} is {what}; {remedy}.")
        self.what = what


class Growth:
    """How much an archive unpacks to that no picture accounts for."""

    def __init__(self, path: Path):
        self.path, self.limit, self.waste = path, max(HARMLESS_BYTES, MAX_RATIO * path.stat().st_size), 0

    def add(self, size: int) -> None:
        """Refuse the archive once it is too much."""
        self.waste += max(0, size)
        if self.waste > self.limit:
            raise ToonGANError(
                f"{printable(str(self.path))} would unpack to more than {MAX_RATIO} times its size, and not to "
                "pictures; it was not read further. If you trust it, unpack it and use folder:PATH."
            )


def is_label_file(name: str) -> bool:
    return ending(name) == ".csv"


def check_members(path: Path, count: int) -> None:
    if count > MAX_MEMBERS:
        raise ToonGANError(f"{printable(str(path))} holds more than {MAX_MEMBERS:,} files, too many; split it.")


def is_disk_error(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)  # to seek before the start is EINVAL


def cannot_read(path: Path, error: OSError) -> ToonGANError:
    return ToonGANError(
        f"Cannot read {printable(str(path))} ({error.strerror or error}); check the disk it is on, then try again."
    )


def refused(name: str, regular: bool, size: int) -> LeftOut | None:
    """Why a member of an archive is not read, judged by its header alone."""
    source = printable(name)
    if leads_out(name):
        return LeftOut(source, UNSAFE_NAME)
    if is_hidden(name):
        return LeftOut(source, "")
    if not regular:
        return LeftOut(source, NOT_REGULAR)
    if size > (CSV_BYTES if is_label_file(name) else MAX_FILE_BYTES):
        return LeftOut(source, NOT_A_PICTURE if is_label_file(name) else TOO_LARGE)
    return None


def not_read(name: str, start: bytes) -> LeftOut | None:
    """Why a member is not read beyond its beginning, judged by that."""
    if not start or is_label_file(name) or may_be_a_picture(name, start):
        return None
    reason = no_picture(name, start)
    return LeftOut(printable(name), NESTED if reason == ARCHIVE else reason)


# --- what a file is that is said to be an archive ---------------------------------------------


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
        return True  # a compressed one, damaged: said when it is read


def why_no_archive(path: Path) -> str:
    """What a file is that is no archive, and what to do about it, as the rest of a sentence."""
    return "is {}; {}.".format(*what_instead(path))


def what_instead(path: Path) -> tuple[str, str]:
    """What a file is that is no archive, and the remedy."""
    start = start_of(path)
    elsewhere = "unpack it and use folder:PATH"
    if not start:
        return "empty", "get another copy"
    if start.startswith(LFS_POINTER):
        return "a Git LFS pointer, not the archive", "run git lfs pull"
    if is_web_page(start):
        return "a web page, not an archive", "download it again"
    if start.startswith(b"PK\7\x08"):
        return "one part of a zip archive in several parts", "unpack them together and use folder:PATH"
    for signature, kind in ((b"7z\xbc\xaf", "7-Zip"), (b"Rar!", "RAR"), (b"\x28\xb5\x2f\xfd", "Zstandard")):
        if start.startswith(signature):
            return f"a {kind} archive, which is not read", elsewhere
    if made_like_a_picture(start):
        return "a picture, not an archive", "put it into a folder with others and use folder:PATH"
    return "no zip or tar archive", elsewhere


# --- zip --------------------------------------------------------------------------------------


class LenientFile(io.BufferedReader):
    """A zip file, of which names that are said to be UTF-8, and are not, come as plain bytes.

    `zipfile` gives up the whole archive for one of them.
    """

    ENTRY = struct.Struct("<4s4xH18x3H8xL")  # signature, flags, lengths of name, extra, comment; place of the file
    offsets: frozenset[int] | None = None

    def __init__(self, path: Path):
        super().__init__(io.FileIO(path))

    def read(self, size: int = -1) -> bytes:
        place = self.tell()
        data = super().read(size)
        if self.offsets is None and data.startswith(b"PK\1\2"):
            return self.mended(data)
        if self.offsets and place in self.offsets and data.startswith(b"PK\3\4"):
            return data[:7] + bytes([data[7] & ~(UTF8_FLAG >> 8)]) + data[8:]
        return data

    def mended(self, directory: bytes) -> bytes:
        data, place, offsets = bytearray(directory), 0, set()
        while place + self.ENTRY.size <= len(data):
            signature, flags, name, extra, comment, offset = self.ENTRY.unpack_from(data, place)
            end = place + self.ENTRY.size + name
            if signature != b"PK\1\2":
                break
            if flags & UTF8_FLAG and not is_utf8(data[end - name : end]):
                data[place + 9] &= ~(UTF8_FLAG >> 8)
                offsets.add(offset)
            place = end + extra + comment
        self.offsets = frozenset(offsets)
        return bytes(data)


def is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    with LenientFile(path) as file:
        try:
            archive = zipfile.ZipFile(file)
        except Exception as error:  # zipfile, fed with garbage, raises whatever it trips over
            if is_disk_error(error):
                raise cannot_read(path, error) from error
            raise UnusableArchive(path, f"damaged or cut short ({error})") from error
        with archive:
            check_members(path, len(archive.filelist))
            yield archive


def zip_name(member: zipfile.ZipInfo, broken: frozenset[int]) -> str:
    """A member's name; `broken` are the places of those whose names are said to be UTF-8 and are not."""
    name = member.filename
    if not member.flag_bits & UTF8_FLAG and not name.isascii():  # `zipfile` takes them for a code page of 1981
        with_bytes = name.encode("cp437", "replace")
        if is_utf8(with_bytes):
            name = with_bytes.decode("utf-8")
        elif member.header_offset in broken:
            name = with_bytes.decode("utf-8", "surrogateescape")
    if member.create_system == 0:  # DOS, and programs that wrote its separators
        name = name.replace("\\", "/")
    return name.removeprefix("./")


def zip_members(path: Path, skip: int) -> Iterator[Member]:
    """Names and contents of all members, or why there is none; the first `skip` are passed over."""
    with open_zip(path) as archive:
        broken = archive.fp.offsets or frozenset()
        names = [zip_name(member, broken) for member in archive.filelist]
        own = own_folders(names)
        made_here = [any(name.startswith(folder) for folder in own) for name in names] if own else [False] * len(names)
        overlapping = overlaps(archive)
        growth = Growth(path)
        silent = all(is_hidden(name) or made or name.endswith("/") for name, made in zip(names, made_here, strict=True))
        members = zip(archive.filelist, names, made_here, strict=True)
        for member, name, made in itertools.islice(members, skip, None):
            if name.endswith("/"):
                content = LeftOut("", "")
            elif made or (silent and is_hidden(name)):
                content = LeftOut(printable(name), (MADE_HERE if made else HIDDEN) if silent else "")
            elif member.header_offset in overlapping:
                content = LeftOut(printable(name), OVERLAPS)
            else:
                try:
                    content = zip_content(archive, member, name, growth)
                except OSError as error:
                    raise cannot_read(path, error) from error
            yield printable(name), content


def own_folders(names: list[str]) -> tuple[str, ...]:
    """Folders in an archive that this program wrote, each with a slash at its end; never the whole of it."""
    marks = {".toongan", "images.npy", "meta.json", "run.json", "G.pth", "last.pt", "samples-000.png", "losses.png"}
    found = defaultdict(set)
    for name in names:
        folder, slash, file = name.rpartition("/")
        if slash and file in marks:
            found[folder + "/"].add(file)
    return tuple(folder for folder, files in found.items() if is_own_folder(files))


def overlaps(archive: zipfile.ZipFile) -> set[int]:
    """Places of members that reach into the next: by that, ten megabytes become petabytes."""
    members = sorted(archive.filelist, key=lambda member: member.header_offset)
    nexts = [*(member.header_offset for member in members), archive.start_dir][1:]
    return {
        member.header_offset
        for member, following in zip(members, nexts, strict=True)
        if member.header_offset + zipfile.sizeFileHeader + member.compress_size > following
    }


def zip_content(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, growth: Growth) -> bytes | LeftOut:
    mode = member.external_attr >> 16
    size, spare = member.file_size, max(BESIDE_PIXELS, MAX_RATIO * member.compress_size)
    reason = refused(name, stat.S_IFMT(mode) in (0, stat.S_IFREG), size)
    if reason is None and (member.flag_bits & 0x41 or member.compress_type == AES):
        reason = LeftOut(printable(name), ENCRYPTED)
    if reason is None and member.compress_type not in METHODS:
        method = METHOD_NAMES.get(member.compress_type, f"method {member.compress_type}")
        reason = LeftOut(printable(name), METHOD.format(method))
    if reason is not None:
        growth.add(size if size > spare else 0)
        return reason
    try:
        with open_member(archive, member) as file:
            data = file.read(START_BYTES)
            reason = not_read(name, data)
            if size > spare:
                if reason is None:
                    data += file.read(PEEK_BYTES)
                    if not (most := most_bytes(data)) and made_like_a_picture(data):  # its size is further on
                        data += file.read(max(0, size - len(data)))
                        most = most_bytes(data)
                    if size > most:
                        reason = LeftOut(printable(name), PADDED if most else no_picture(name, data))
                        size -= most
                if reason is not None:
                    growth.add(size)
            return reason or data + file.read(max(0, member.file_size - len(data)))  # zipfile unpacks what is asked for
    except ToonGANError:
        raise
    except Exception as error:  # garbage between two members
        if is_disk_error(error):
            raise
        return LeftOut(printable(name), DAMAGED, str(error))


def open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> AbstractContextManager[BinaryIO]:
    if member.compress_type in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        return nullcontext(Squeezed(archive.fp, member))
    return archive.open(member)


class Squeezed:
    """A member packed by bzip2 or LZMA, to be read piece by piece.

    `zipfile` unpacks it at once, however little of it is asked for: a kilobyte of bzip2 can become gigabytes.
    """

    def __init__(self, file: BinaryIO, member: zipfile.ZipInfo):
        file.seek(member.header_offset)
        header = file.read(zipfile.sizeFileHeader)
        name, extra = struct.unpack_from("<HH", header, 26)
        if not header.startswith(b"PK\3\4") or member.compress_size > member.file_size + BESIDE_PIXELS:
            raise zipfile.BadZipFile("bad header")
        file.seek(name + extra, io.SEEK_CUR)
        self.packed = file.read(member.compress_size)
        if member.compress_type == zipfile.ZIP_BZIP2:
            self.unpacker = bz2.BZ2Decompressor()
        else:  # as a file of LZMA alone, whose header names no size
            self.unpacker = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=MAX_FILE_BYTES)
            self.packed = self.packed[4:9] + b"\xff" * 8 + self.packed[9:]
        self.member, self.left, self.check = member, member.file_size, 0

    def read(self, size: int) -> bytes:
        pieces, size = [], min(size, self.left)
        while size > 0:
            piece = self.unpacker.decompress(self.packed, size)
            self.packed = b""
            if not piece:
                raise zipfile.BadZipFile("cut short")
            pieces.append(piece)
            self.check = zlib.crc32(piece, self.check)
            self.left -= len(piece)
            size -= len(piece)
        if not self.left and self.check != self.member.CRC:
            raise zipfile.BadZipFile("bad checksum")
        return b"".join(pieces)


# --- tar --------------------------------------------------------------------------------------


class CarefulTarInfo(tarfile.TarInfo):
    """A header that promises nothing it cannot: no size below zero, no name of a gigabyte."""

    HEADERS = (
        *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
        *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    )

    def _proc_member(self, archive):
        if self.size < 0 or (self.type in self.HEADERS and self.size > MAX_HEADER_BYTES):
            raise tarfile.ReadError("bad size")
        return super()._proc_member(archive)


def tar_members(path: Path, skip: int) -> Iterator[tuple[str, bytes | LeftOut, int]]:
    """Names and contents of all members, or why there is none, and how many bytes of the archive they took."""
    number = reached = after = 0
    hidden, visible, growth = [], False, Growth(path)
    try:
        with (
            open(path, "rb") as raw,
            tarfile.open(fileobj=raw, mode="r:*", tarinfo=CarefulTarInfo) as archive,
        ):
            for number, member in enumerate(archive):
                archive.members = []  # else it remembers every member it has passed
                check_members(path, number)
                if archive.offset <= after or member.size < 0:  # it would go round for ever
                    raise EOFError
                after = archive.offset
                name = member.name.removeprefix("./")
                if not is_hidden(name):
                    visible = visible or not member.isdir()
                elif not member.isdir() and len(hidden) < MAX_NAMED:
                    hidden.append(name)
                if number < skip:
                    continue
                content = tar_content(archive, member, name, raw, growth)
                before, reached = reached, raw.tell()
                yield printable(name), content, reached - before
            # tarfile takes a damaged header for the end. The true end is a block of zeros; behind it, a
            # compressed archive has its checksum, which is compared once all is read.
            archive.fileobj.seek(archive.offset)
            if archive.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise EOFError
            while block := archive.fileobj.read(1 << 20):
                growth.add(len(block))
            for name in [] if visible else hidden:
                yield printable(name), LeftOut(printable(name), HIDDEN), 0
    except ToonGANError:
        raise
    except Exception as error:  # tarfile, fed with garbage, raises whatever it trips over
        if is_disk_error(error):
            raise cannot_read(path, error) from error
        raise UnusableArchive(path, f"damaged or cut short after {number:,} files") from error


def tar_content(
    archive: tarfile.TarFile, member: tarfile.TarInfo, name: str, raw: BinaryIO, growth: Growth
) -> bytes | LeftOut:
    if member.isdir():
        return LeftOut(printable(name), "")
    size = member.size
    reason = refused(name, member.isreg(), size)
    if reason is not None:
        if reason.reason == NOT_REGULAR and member.linkname:
            detail = f"leads to {printable(member.linkname)}; tar --dereference packs the file itself"
            reason = LeftOut(reason.source, reason.reason, detail)
        growth.add(size)
        return reason
    before = raw.tell()
    file = archive.extractfile(member)
    data = file.read(START_BYTES)
    reason = not_read(name, data)
    if reason is not None:
        growth.add(size)
        return reason
    data += file.read(PEEK_BYTES)
    if size <= BESIDE_PIXELS:
        return data
    most = most_bytes(data)
    if most or made_like_a_picture(data):
        data += file.read(MAX_FILE_BYTES)
        most = most or most_bytes(data)
    growth.add(size - most)
    if size > max(most, MAX_RATIO * (raw.tell() - before + PEEK_BYTES)):
        return LeftOut(printable(name), PADDED if most else no_picture(name, data))
    return data + file.read(MAX_FILE_BYTES)
