"""Archives as people make them, and as those make them who mean harm: used, or refused by the true reason."""

import bz2
import gzip
import io
import lzma
import os
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from makers import drawing, encoded, fill_folder, images, make_tar, make_zip, tiff
from PIL import Image
from test_images import LFS_POINTER, left_out

import toongan
from toongan.datasets.archives import ArchiveSource
from toongan.datasets.outcomes import Form, LeftOut, Usable, run_task

PASSWORD = "locked with a password: pack it again without one"


def used(path: Path) -> list[str]:
    """Names of the images that an archive gives."""
    outcomes = [outcome for task in ArchiveSource(path).tasks(0) for outcome in run_task(task, Form(32))]
    return [outcome.source for outcome in outcomes if isinstance(outcome, Usable)]


def refusal(dataset: str) -> str:
    with pytest.raises(toongan.ToonGANError) as caught:
        toongan.prepare(toongan.DataConfig(dataset, image_size=32), progress=False)
    return str(caught.value)


# --- how much an archive may grow -------------------------------------------------------------


def flat(number: int, side: int = 700) -> np.ndarray:
    """A cartoon of two colours, 1.5 MB, of which an archive needs less than a hundredth."""
    pixels = np.full((side, side, 3), (number * 3 % 256, number * 7 % 256, number * 11 % 256), np.uint8)
    pixels[side // 4 : side // 2] = 255
    return pixels


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "TIFF, directory last"])
@pytest.mark.parametrize("pack", [make_zip, make_tar])
def test_flat_cartoons_are_no_bomb(tmp_path, monkeypatch, kind, pack):
    """They shrink to a hundredth and less; what counts is that their pixels fill them."""
    monkeypatch.setattr("toongan.datasets.members.HARMLESS_BYTES", 1 << 20)
    files = {
        f"{number}.bmp": tiff(flat(number)) if kind[-4:] == "last" else encoded(Image.fromarray(flat(number)), kind)
        for number in range(4)
    }
    path = pack(tmp_path / ("flat.zip" if pack is make_zip else "flat.tgz"), files)
    assert sum(map(len, files.values())) > 100 * path.stat().st_size
    assert used(path) == list(files)


def bmp_of_one_pixel(size: int) -> bytes:
    data = encoded(drawing(1, 1, 1), "BMP")
    return data + bytes(size - len(data))


@pytest.mark.parametrize("pack, name", [(make_zip, "bomb.zip"), (make_tar, "bomb.tgz")])
def test_an_image_far_larger_than_its_pixels_is_left_out(tmp_path, monkeypatch, pack, name):
    monkeypatch.setattr("toongan.datasets.members.HARMLESS_BYTES", 50 << 20)
    path = pack(tmp_path / name, {"one.bmp": bmp_of_one_pixel(40 << 20)} | images(2))
    assert left_out(ArchiveSource(path)) == {"one.bmp": "far larger than its pixels can be"}
    path = pack(tmp_path / name, {f"{number}.bmp": bmp_of_one_pixel(40 << 20) for number in range(2)})
    assert "would unpack to more than 100 times its size, and not to images" in refusal(f"zip:{path}")


SHORT = (
    "import re, sys, toongan\n"
    "from pathlib import Path\n"
    "from toongan.datasets.archives import ArchiveSource\n"
    "from toongan.datasets.outcomes import Form, LeftOut, run_task\n"
    "try:\n"
    "    for task in ArchiveSource(Path(sys.argv[1])).tasks(0):\n"
    "        print([getattr(o, 'reason', 'used') for o in run_task(task, Form(32))])\n"
    "except toongan.ToonGANError as error:\n"
    "    print(error)\n"
    "print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1000)\n"
)


def read_apart(path: Path) -> tuple[str, int, float]:
    """What a process of its own says of an archive, its memory in MB and its seconds."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SHORT, str(path)], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    *said, memory = done.stdout.strip().splitlines() or [done.stderr]
    return "\n".join(said), int(memory), time.monotonic() - started


def squeezed(kind: str, size: int) -> bytes:
    """`size` bytes of nothing, in little memory."""
    packer = {"bz2": bz2.BZ2Compressor, "xz": lzma.LZMACompressor, "gz": lambda: zlib.compressobj(9, 8, 31)}[kind]()
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(size >> 20)) + packer.flush()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED])
def test_a_member_that_unpacks_to_far_more_than_it_says(tmp_path, method):
    """A kilobyte of bzip2 holds a gigabyte: it is taken in small steps, whatever the header says of its size."""
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", method) as archive, archive.open("face.bmp", "w") as member:
        head = encoded(drawing(1, 200, 200), "BMP")
        member.write(head)
        for _ in range(250):
            member.write(bytes(1 << 20))
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        start = data.rfind(mark)
        data[start + place : start + place + 4] = struct.pack("<L", 250_000)
    path.write_bytes(data)
    said, memory, seconds = read_apart(path)
    assert said == "['damaged or cut short']" and memory < 250 and seconds < 30


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_huge_member_that_is_no_image(tmp_path, kind):
    """A terabyte of nothing by its header: refused at the header."""
    head = tarfile.TarInfo("zeros.png")
    head.size = 1 << 40
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[kind]
    path = tmp_path / "bomb.tar"
    path.write_bytes(pack(head.tobuf(tarfile.GNU_FORMAT)) + squeezed(kind, 64 << 20))
    said, memory, seconds = read_apart(path)
    assert "would unpack to more than 100 times its size" in said and memory < 300 and seconds < 20


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_name_of_a_gigabyte(tmp_path, kind):
    head = tarfile.TarInfo("a")
    head.type, head.size = kind, 1 << 30
    path = tmp_path / "bomb.tgz"
    good = make_tar(tmp_path / "a.tar", images(1)).read_bytes()
    good = good[: 512 + -(-len(images(1)["face-0000.png"]) // 512) * 512]
    path.write_bytes(gzip.compress(good + head.tobuf(tarfile.GNU_FORMAT)) + squeezed("gz", 300 << 20))
    said, memory, seconds = read_apart(path)
    assert "is damaged or cut short after" in said and memory < 300 and seconds < 20


def test_nothing_but_zeros_behind_the_end(tmp_path):
    path = tmp_path / "bomb.tgz"
    path.write_bytes(gzip.compress(make_tar(tmp_path / "a.tar", images(1)).read_bytes()) + squeezed("gz", 300 << 20))
    said, memory, seconds = read_apart(path)
    assert "would unpack to more than 100 times its size" in said and memory < 300 and seconds < 20


def test_a_header_that_leads_back_to_itself(tmp_path):
    """A size below zero, by which tarfile would loop forever."""
    before = b""
    for name, data in images(2).items():
        member = tarfile.TarInfo(name)
        member.size = len(data)
        second = len(before)
        before += member.tobuf() + data + bytes(-len(data) % 512)
    size = f"-{len(before) + 3 * 512 - second}"  # from the end of the third header back to the second image
    record = f" size={size}\n"
    record = f"{len(record) + 2}{record}".encode()
    extended = tarfile.TarInfo("extended")
    extended.type, extended.size = tarfile.XHDTYPE, len(record)
    member = tarfile.TarInfo("face.png")
    path = tmp_path / "loop.tar"
    path.write_bytes(before + extended.tobuf() + record.ljust(512, b"\0") + member.tobuf() + bytes(4096))
    said, memory, seconds = read_apart(path)
    assert "is damaged or cut short after" in said and memory < 250 and seconds < 30


def test_members_that_share_their_bytes_are_left_out(tmp_path):
    """Fifield's bomb, the plain way: a thousand names for one member."""
    path = make_zip(tmp_path / "bomb.zip", {"zeros.png": encoded(drawing(1)) + bytes(1 << 20)})
    data = path.read_bytes()
    start, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    entry = data[start:end]
    path.write_bytes(
        data[:start] + entry * 1000 + data[end : end + 8] + struct.pack("<HHLL", 1000, 1000, len(entry) * 1000, start)
        + b"\0\0"
    )  # fmt: skip
    outcomes = [outcome for task in ArchiveSource(path).tasks(0) for outcome in run_task(task, Form(32))]
    assert len(outcomes) == 1000
    assert {outcome.reason for outcome in outcomes if not isinstance(outcome, Usable)} <= {
        "shares its bytes with another file of the archive",
        "far larger than its pixels can be",
    }


def test_an_archive_within_itself_is_not_entered(home):
    inner = make_zip(home / "inner.zip", images(70)).read_bytes()
    path = make_zip(home / "outer.zip", {"faces/r.zip": inner, "r.png": inner})
    assert refusal(f"zip:{path}") == (
        f"zip:{path} holds 0 usable images among 2 files; left out: 2 in an archive inside the archive: unpack it. "
        "At least 64 are needed."
    )


# --- ways to pack -----------------------------------------------------------------------------


def patched(path: Path, local: dict[int, bytes], central: dict[int, bytes], name: bytes = b"face-0000.png") -> Path:
    """Change bytes of one member's two headers."""
    data = bytearray(path.read_bytes())
    for mark, size, changes in ((b"PK\3\4", 30, local), (b"PK\1\2", 46, central)):
        start = next(i for i in range(len(data)) if data[i : i + 4] == mark and data[i + size :].startswith(name))
        for place, new in changes.items():
            data[start + place : start + place + len(new)] = new
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "method, flags, says",
    [
        (9, 0, "compressed in a way that Python cannot read (Deflate64): pack it again as a plain zip"),
        (98, 0, "compressed in a way that Python cannot read (PPMd): pack it again as a plain zip"),
        (77, 0, "compressed in a way that Python cannot read (method 77): pack it again as a plain zip"),
        (8, 1, PASSWORD),
        (99, 1, PASSWORD),
        (8, 0x41, PASSWORD),
    ],
)
def test_members_that_python_cannot_unpack(tmp_path, method, flags, says):
    path = make_zip(tmp_path / "faces.zip", images(3))
    both = struct.pack("<HH", flags, method)
    patched(path, {6: both}, {8: both})
    assert left_out(ArchiveSource(path)) == {"face-0000.png": says}
    assert used(path) == ["face-0001.png", "face-0002.png"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_python_can_unpack(tmp_path, method):
    large = {"large.png": encoded(drawing(5, 300, 300)), "noise.bmp": encoded(noise(300), "BMP")}
    path = make_zip(tmp_path / "faces.zip", images(3) | large, method)
    assert used(path) == [*images(3), *large]


def noise(side: int):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))


def test_links_and_sparse_members(tmp_path):
    path = tmp_path / "faces.tar"
    data = encoded(Image.fromarray(flat(3, 100)), "BMP")
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("face.bmp")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
        for kind, name in ((tarfile.SYMTYPE, "soft.bmp"), (tarfile.LNKTYPE, "hard.bmp")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "face.bmp"
            archive.addfile(member)
    outcomes = [outcome for task in ArchiveSource(path).tasks(0) for outcome in run_task(task, Form(32))]
    detail = "leads to face.bmp; tar --dereference packs the file itself"
    assert outcomes[1:] == [
        LeftOut(name, "link or device, not a regular file", detail) for name in ("soft.bmp", "hard.bmp")
    ]
    whole = tmp_path / "big.bmp"
    pixels = flat(3, 1000)
    pixels[:900] = 0
    whole.write_bytes(encoded(Image.fromarray(pixels), "BMP"))
    subprocess.run(["cp", "--sparse=always", whole, tmp_path / "sparse.bmp"], check=True)
    for form in ("gnu", "pax"):
        packed = tmp_path / f"{form}.tar"
        subprocess.run(["tar", "--sparse", f"--format={form}", "-cf", packed, "-C", tmp_path, "sparse.bmp"], check=True)
        assert used(packed) == ["sparse.bmp"]


@pytest.mark.parametrize("form", ["GNU", "PAX"])
def test_a_sparse_member_of_a_terabyte(tmp_path, form):
    path = tmp_path / "sparse.tar"
    with open(tmp_path / "hole.png", "wb") as file:
        file.truncate(1 << 40)
    subprocess.run(["tar", "--sparse", f"--format={form.lower()}", "-cf", path, "-C", tmp_path, "hole.png"], check=True)
    said, memory, seconds = read_apart(path)
    assert "would unpack to more than 100 times its size" in said and memory < 300 and seconds < 20


# --- names in archives ------------------------------------------------------------------------


def test_names_that_are_not_utf_8(tmp_path):
    """UTF-8 that does not say so, as macOS writes it; bytes that say they are UTF-8 and are not; a code page."""
    names = ["q-1.png", "q-2.png", "q-3.png", "face-0000.png"]
    path = make_zip(tmp_path / "faces.zip", {name: encoded(drawing(i)) for i, name in enumerate(names)})
    data = path.read_bytes().replace(b"q-1.png", b"\xc3\xa9-.png").replace(b"q-2.png", b"\xff\xfe\x81.png")
    path.write_bytes(data)
    flag = struct.pack("<H", 0x800)
    patched(path, {6: flag}, {8: flag}, b"\xff\xfe\x81.png")
    assert used(path) == ["é-.png", "\\xff\\xfe\\x81.png", "q-3.png", "face-0000.png"]
    path.write_bytes(data)
    assert used(path) == ["é-.png", "\xa0■ü.png", "q-3.png", "face-0000.png"], "as DOS would show it"


def test_names_that_begin_at_this_folder_and_those_of_dos(tmp_path):
    path = make_zip(tmp_path / "faces.zip", {"./a/1.png": encoded(drawing(1)), "a:b.png": encoded(drawing(2))})
    assert used(path) == ["a/1.png", "a:b.png"]
    member = zipfile.ZipInfo("a-1.png")
    member.create_system = 0
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, encoded(drawing(1)))
    path.write_bytes(path.read_bytes().replace(b"a-1.png", b"a\\1.png"))
    assert used(path) == ["a/1.png"]
    tar = make_tar(tmp_path / "faces.tar", {"./a/1.png": encoded(drawing(1))})
    assert used(tar) == ["a/1.png"]


@pytest.mark.parametrize("pack, ending", [(make_zip, "zip"), (make_tar, "tar")])
def test_names_that_lead_out_are_refused_with_the_remedy(tmp_path, pack, ending):
    names = ["/abs.png", "../up.png", "a/../../up.png", "C:/x.png"]
    path = pack(tmp_path / f"faces.{ending}", {name: encoded(drawing(i)) for i, name in enumerate(names)})
    says = "name leads out of the archive: pack it again with other names"
    assert left_out(ArchiveSource(path)) == dict.fromkeys(names, says)


def test_labels_of_an_accent_stored_the_other_way(home):
    files = images(63) | {"e\u0301.csv": b"hair, 3, 5\n", "\u00e9.png": encoded(drawing(900))}
    for path in (make_zip(home / "a.zip", files), make_tar(home / "a.tar", files)):
        data = toongan.prepare(toongan.DataConfig(f"zip:{path}", image_size=32), progress=False)
        assert [row["hair"] for row in data.index if row["source"] == "\u00e9.png"] == ["3"]


# --- no archive, or nothing in it -------------------------------------------------------------


@pytest.mark.parametrize(
    "content, says",
    [
        (LFS_POINTER, "is a Git LFS pointer, not the archive; run git lfs pull."),
        (b"\n<!DOCTYPE html><html>", "is a web page, not an archive; download it again."),
        (b"", "is empty; get another copy."),
        (
            b"7z\xbc\xaf'\x1c" + bytes(9),
            "is a 7-Zip archive, which cannot be read here; unpack it and use folder:PATH.",
        ),
        (b"Rar!\x1a\7" + bytes(9), "is a RAR archive, which cannot be read here; unpack it and use folder:PATH."),
        (encoded(drawing(1)), "is an image, not an archive; put it in a folder with others and use folder:PATH."),
        (
            b"PK\7\x08" + bytes(99),
            "is one part of a split zip archive; unpack all parts together and use folder:PATH.",
        ),
        (gzip.compress(b"text" * 400, mtime=0), "is not a zip or tar archive; unpack it and use folder:PATH."),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_what_is_no_archive_is_named(home, kind, content, says):
    path = home / f"faces.{kind}"
    path.write_bytes(content)
    assert refusal(f"{kind}:{path}") == f"dataset {kind}:{path} {says}"


def test_a_download_in_drive_that_is_a_web_page(home, monkeypatch):
    monkeypatch.setenv("TOONGAN_DRIVE", str(home / "drive"))
    fill_folder(home / "drive", {"cartoonset10k.tgz": b"<html>Sign in</html>"})
    assert refusal("cartoonset10k").endswith("cartoonset10k.tgz is a web page, not an archive; download it again.")


@pytest.mark.parametrize("pack, name", [(make_zip, "a.zip"), (make_tar, "a.tar"), (make_tar, "a.tgz")])
def test_archives_of_nothing_and_of_hidden_files(home, pack, name):
    path = pack(home / name, {})
    assert "holds 0 usable images among 0 files. At least 64 are needed." in refusal(f"zip:{path}")
    path = pack(home / name, {"._a.png": b"x", ".b/c.png": b"x"})
    assert "among 2 files; left out: 2 hidden: rename it without the leading dot." in refusal(f"zip:{path}")


def test_a_compressed_archive_damaged_at_its_start(home):
    path = make_tar(home / "faces.tgz", images(70))
    data = bytearray(path.read_bytes())
    data[12:60] = os.urandom(48)
    path.write_bytes(data)
    assert "is damaged or cut short" in refusal(f"tar:{path}") or "is not a zip or tar archive" in refusal(
        f"tar:{path}"
    )
