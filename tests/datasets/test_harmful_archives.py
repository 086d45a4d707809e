"""Archives that mean harm, or are damaged."""

import gzip
import io
import os
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import REPOSITORY
from makers import (
    drawing,
    encoded,
    images,
    make_tar,
    make_zip,
    pack,
    reasons,
)

import toongan
from toongan.datasets import outcomes


def test_nothing_leaves_an_archive(home):
    """Names with `../`, absolute names, links and devices: left out, and nothing appears anywhere."""
    target = home / "victim.png"
    evil = encoded(drawing(700))
    path = home / "faces.tar"
    with tarfile.open(path, "w") as archive:
        for name, data in (images(64) | {"../victim.png": evil, "a/../../victim.png": evil, str(target): evil}).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, kind in [("soft.png", tarfile.SYMTYPE), ("hard.png", tarfile.LNKTYPE), ("null.png", tarfile.CHRTYPE)]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    before = {place for place in home.rglob("*")}
    data = pack(f"tar:{path}")
    assert len(data) == 64
    found = reasons(data)
    assert {found[name] for name in ("../victim.png", "a/../../victim.png", str(target))} == {outcomes.UNSAFE_NAME}
    assert {found[name] for name in ("soft.png", "hard.png", "null.png")} == {outcomes.NOT_REGULAR}
    new = {place for place in home.rglob("*")} - before
    assert all(home / "data" in place.parents or place == home / "data" for place in new)

    path = make_zip(home / "faces.zip", images(64) | {"../victim.png": evil, "C:\\x.png": evil, "..\\y.png": evil})
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    found = reasons(pack(f"zip:{path}"))
    assert found["link.png"] == outcomes.NOT_REGULAR and list(found.values()).count(outcomes.UNSAFE_NAME) == 3
    assert not target.exists() and not (home.parent / "victim.png").exists()


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archive_that_grows_a_hundredfold(home, kind):
    """300 MB of nothing in 300 kB: refused before it is unpacked."""
    nothing = bytes(300 << 20)
    files = {"a.bmp": nothing}
    path = make_zip(home / "bomb.zip", files) if kind == "zip" else make_tar(home / "bomb.tgz", files)
    assert path.stat().st_size < 400_000
    with pytest.raises(toongan.ToonGANError, match="would unpack to more than 100 times its size"):
        pack(f"{kind}:{path}")
    assert not list((home / "data").rglob("*.npy"))


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_archive_of_a_million_tiny_members(home, count):
    """Read member after member, in about a kilobyte of memory each for the list of names; what is no image is counted."""
    path = home / "million.zip"
    write_tiny_members(path, count)
    code = (
        "import re, toongan\n"
        "try:\n"
        f"    toongan.prepare(toongan.DataConfig('zip:{path}', image_size=32), progress=False)\n"
        "except toongan.ToonGANError as error:\n"
        "    print(error)\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, "TOONGAN_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    error, kilobytes = done.stdout.strip().splitlines()
    assert f"holds 0 usable images among {count:,} files; left out: {count:,} not an image" in error, done.stderr
    assert int(kilobytes) / 1000 < 120 + count / 1000


def write_tiny_members(path: Path, count: int) -> None:
    """A zip archive of one-byte texts, assembled from its two kinds of records (APPNOTE 4.3.7 and 4.3.12)."""
    from zlib import crc32

    check = crc32(b"x")
    local = struct.Struct("<4s5H3L2H8ss")
    central = struct.Struct("<4s6H3L5H2L8s")
    entries, offset = [], 0
    with open(path, "wb") as file:
        for number in range(count):
            name = b"%08d" % number
            file.write(local.pack(b"PK\3\4", 20, 0, 0, 0, 33, check, 1, 1, 8, 0, name, b"x"))
            entries.append(central.pack(b"PK\1\2", 20, 20, 0, 0, 0, 33, check, 1, 1, 8, 0, 0, 0, 0, 0, offset, name))
            offset += local.size
        directory = b"".join(entries)
        file.write(directory)
        file.write(struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), offset))
        file.write(struct.pack("<4sLQL", b"PK\6\7", 0, offset + len(directory), 1))
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))


@pytest.mark.parametrize("kind", ["zip", "tgz", "tar"])
def test_archive_cut_short(home, kind):
    path = home / f"faces.{kind}"
    (make_zip if kind == "zip" else make_tar)(path, images(200))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(toongan.ToonGANError, match="is damaged or cut short.*get another copy"):
        pack(f"{kind if kind == 'zip' else 'tar'}:{path}")
    assert not list((home / "data").rglob("*.npy"))


@pytest.mark.parametrize("kind", ["tar", "tgz"])
@pytest.mark.parametrize("damage", ["header", "end"])
def test_damaged_tar_loses_nothing_in_silence(home, kind, damage):
    """A header in the middle, which tarfile takes for the end; the checksum at the end of a compressed one."""
    path = make_tar(home / "faces.tar", images(200))
    data = bytearray(path.read_bytes())
    if damage == "header":
        place = data.index(b"face-0100.png")
        data[place + 100 : place + 160] = bytes(60)
    if kind == "tgz":
        data = bytearray(gzip.compress(bytes(data)))
        if damage == "end":
            data[-8:] = bytes(8)
    elif damage == "end":
        data = data[: data.index(b"face-0100.png")]
    path = home / f"damaged.{kind}"
    path.write_bytes(data)
    with pytest.raises(toongan.ToonGANError, match=r"is damaged or cut short after \d+ files"):
        pack(f"tar:{path}")


def test_encrypted_members_are_left_out(home):
    path = make_zip(home / "locked.zip", images(65))
    data = bytearray(path.read_bytes())
    local, central = data.find(b"PK\3\4"), data.find(b"PK\1\2")
    data[local + 6] |= 1
    data[central + 8] |= 1
    path.write_bytes(data)
    packed = pack(f"zip:{path}")
    assert len(packed) == 64 and list(reasons(packed).values()) == [outcomes.ENCRYPTED]


def test_damaged_member_is_left_out(home):
    path = make_zip(home / "faces.zip", images(66), zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    place = data.find(b"IDAT") + 8
    data[place] ^= 0xFF  # the checksum of the first member is wrong now
    path.write_bytes(data)
    packed = pack(f"zip:{path}")
    assert len(packed) == 65 and list(reasons(packed).values()) == [outcomes.DAMAGED]
