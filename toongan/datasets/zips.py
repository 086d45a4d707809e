"""Zip archives, read member by member, in flat memory."""

import bz2
import io
import itertools
import lzma
import stat
import struct
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

from ..errors import ToonGANError
from .images import BESIDE_PIXELS, START_BYTES, made_like_an_image, most_bytes, no_image
from .members import (
    MAX_RATIO,
    PEEK_BYTES,
    Growth,
    Member,
    UnusableArchive,
    cannot_read,
    check_members,
    is_disk_error,
    not_read,
    refused,
)
from .names import is_hidden, is_own_folder, printable
from .outcomes import DAMAGED, ENCRYPTED, HIDDEN, MADE_HERE, MAX_FILE_BYTES, METHOD, OVERLAPS, PADDED, LeftOut

METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
METHOD_NAMES = {
    **{1: "Shrink", 2: "Reduce", 3: "Reduce", 4: "Reduce", 5: "Reduce", 6: "Implode", 9: "Deflate64", 10: "Implode"},
    **{18: "TERSE", 19: "LZ77", 93: "Zstandard", 95: "XZ", 96: "JPEG", 97: "WavPack", 98: "PPMd"},
}
AES = 99  # WinZip's way to lock a file
UTF8_FLAG = 0x800


class LenientFile(io.BufferedReader):
    """A zip file in which names that are wrongly marked as UTF-8 are read as plain bytes.

    `zipfile` would reject the whole archive for one such name.
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
        except Exception as error:  # zipfile may raise anything when it is fed garbage
            if is_disk_error(error):
                raise cannot_read(path, error) from error
            raise UnusableArchive(path, f"damaged or cut short ({error})") from error
        with archive:
            check_members(path, len(archive.filelist))
            yield archive


def zip_name(member: zipfile.ZipInfo, broken: frozenset[int]) -> str:
    """A member's name; `broken` holds the offsets of members whose names are wrongly marked as UTF-8."""
    name = member.filename
    if not member.flag_bits & UTF8_FLAG and not name.isascii():  # `zipfile` assumes a code page of 1981
        with_bytes = name.encode("cp437", "replace")
        if is_utf8(with_bytes):
            name = with_bytes.decode("utf-8")
        elif member.header_offset in broken:
            name = with_bytes.decode("utf-8", "surrogateescape")
    if member.create_system == 0:  # DOS, and programs that write its separators
        name = name.replace("\\", "/")
    return name.removeprefix("./")


def zip_members(path: Path, skip: int) -> Iterator[Member]:
    """Name and content (or why there is none) of every member after the first `skip`."""
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
    """Folders in an archive that this program wrote, each with a final slash; never the archive as a whole."""
    marks = {".toongan", "images.npy", "meta.json", "run.json", "G.pth", "last.pt", "samples-000.png", "losses.png"}
    found = defaultdict(set)
    for name in names:
        folder, slash, file = name.rpartition("/")
        if slash and file in marks:
            found[folder + "/"].add(file)
    return tuple(folder for folder, files in found.items() if is_own_folder(files))


def overlaps(archive: zipfile.ZipFile) -> set[int]:
    """Offsets of members that overlap the next one; with this trick, ten megabytes become petabytes."""
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
                    if not (most := most_bytes(data)) and made_like_an_image(data):  # its size comes later in the file
                        data += file.read(max(0, size - len(data)))
                        most = most_bytes(data)
                    if size > most:
                        reason = LeftOut(printable(name), PADDED if most else no_image(name, data))
                        size -= most
                if reason is not None:
                    growth.add(size)
            return reason or data + file.read(max(0, member.file_size - len(data)))  # zipfile unpacks only what is read
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
    """A member packed by bzip2 or LZMA, read piece by piece.

    `zipfile` unpacks all of it at once, however little is requested, and a kilobyte of bzip2 can become gigabytes.
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
        else:  # as a plain LZMA file, whose header states no size
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
