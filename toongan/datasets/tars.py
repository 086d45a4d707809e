"""Tar archives, compressed or not, read member by member, in flat memory."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import ToonGANError
from .images import BESIDE_PIXELS, START_BYTES, made_like_an_image, most_bytes, no_image
from .members import (
    MAX_RATIO,
    PEEK_BYTES,
    Growth,
    UnusableArchive,
    cannot_read,
    check_members,
    is_disk_error,
    not_read,
    refused,
)
from .names import is_hidden, printable
from .outcomes import HIDDEN, MAX_FILE_BYTES, NOT_REGULAR, PADDED, LeftOut

MAX_NAMED = 1000
MAX_HEADER_BYTES = 256 << 10


class CarefulTarInfo(tarfile.TarInfo):
    """A header with checked values: no negative size, no name of a gigabyte."""

    HEADERS = (
        *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
        *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    )

    def _proc_member(self, archive):
        if self.size < 0 or (self.type in self.HEADERS and self.size > MAX_HEADER_BYTES):
            raise tarfile.ReadError("bad size")
        return super()._proc_member(archive)


def tar_members(path: Path, skip: int) -> Iterator[tuple[str, bytes | LeftOut, int]]:
    """Name, content (or why there is none), and bytes of the archive, for every member after the first `skip`."""
    number = reached = after = 0
    hidden, visible, growth = [], False, Growth(path)
    try:
        with (
            open(path, "rb") as raw,
            tarfile.open(fileobj=raw, mode="r:*", tarinfo=CarefulTarInfo) as archive,
        ):
            for number, member in enumerate(archive):
                archive.members = []  # otherwise it remembers every member
                check_members(path, number)
                if archive.offset <= after or member.size < 0:  # it would loop forever
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
            # tarfile takes a damaged header for the end. The true end is a block of zeros. After it, a
            # compressed archive has a checksum, which is compared once everything is read.
            archive.fileobj.seek(archive.offset)
            if archive.fileobj.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                raise EOFError
            while block := archive.fileobj.read(1 << 20):
                growth.add(len(block))
            for name in [] if visible else hidden:
                yield printable(name), LeftOut(printable(name), HIDDEN), 0
    except ToonGANError:
        raise
    except Exception as error:  # tarfile may raise anything when it is fed garbage
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
    if most or made_like_an_image(data):
        data += file.read(MAX_FILE_BYTES)
        most = most or most_bytes(data)
    growth.add(size - most)
    if size > max(most, MAX_RATIO * (raw.tell() - before + PEEK_BYTES)):
        return LeftOut(printable(name), PADDED if most else no_image(name, data))
    return data + file.read(MAX_FILE_BYTES)
