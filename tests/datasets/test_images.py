"""One file at a time: which formats are opened, which levels come out, and the true reason where nothing does."""

import csv
import os
import re
import stat
import sys
import types

import numpy as np
import pytest
from conftest import REPOSITORY
from makers import drawing, encoded, fill_folder, images, make_zip, tiff
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngInfo

import toongan
from toongan.datasets import archives, names, outcomes
from toongan.datasets import images as reading
from toongan.datasets.folders import FolderSource
from toongan.datasets.outcomes import Form, LeftOut, run_task
from toongan.datasets.reading import outcomes_of

RAMP = np.linspace(0, 1, 16).reshape(4, 4).repeat(8, 0).repeat(8, 1)
"""Sixteen shades from black to white, each 8×8 pixels."""
SHADES = np.arange(16) * 17


def reason(data: bytes, name: str = "face.png") -> str:
    """Why a file is left out; nothing if it is used."""
    outcome = outcomes_of(name, data, Form(32), {})[0]
    return outcome.reason if isinstance(outcome, LeftOut) else ""


def shades(data: bytes) -> np.ndarray:
    """The levels that the sixteen shades have come out as."""
    (seen,) = reading.images_in(data, Form(32))
    pixels = seen.pixels
    return pixels[4::8, 4::8, 0].ravel().astype(int)


def grey(top: float, kind: type) -> np.ndarray:
    return (np.round(RAMP * top) if np.issubdtype(kind, np.integer) else RAMP * top).astype(kind)


def everything(source) -> dict[str, outcomes.Outcome]:
    """What becomes of every file of a source, by name."""
    outcomes = [outcome for task in source.tasks(0) for outcome in run_task(task, Form(32))]
    return {getattr(outcome, "source", getattr(outcome, "key", None)): outcome for outcome in outcomes}


def left_out(source) -> dict[str, str]:
    """Reason by file, of all that are named as left out."""
    return {n: o.reason for n, o in everything(source).items() if isinstance(o, LeftOut) and o.reason}


# --- formats --------------------------------------------------------------------------------


def test_only_the_formats_of_the_readme_are_opened(tmp_path, monkeypatch):
    """A page of PostScript named as an image would run a program, Ghostscript."""
    ghostscript = tmp_path / "bin" / "gs"
    ghostscript.parent.mkdir()
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\nexit 1\n")
    ghostscript.chmod(ghostscript.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{ghostscript.parent}:{os.environ['PATH']}")
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n0 0 40 40 rectfill\nshowpage\n%%EOF\n"
    folder = fill_folder(tmp_path / "mine", {"face.png": page, "face.jpg": page})
    archive = make_zip(tmp_path / "mine.zip", {"face.png": page})
    assert left_out(FolderSource(folder)) == {"face.png": outcomes.FOREIGN, "face.jpg": outcomes.FOREIGN}
    assert left_out(archives.ArchiveSource(archive)) == {"face.png": outcomes.FOREIGN}
    assert not (tmp_path / "was-run").exists()
    others = {kind: encoded(drawing(1), kind) for kind in ("DDS", "PCX", "SGI", "ICNS", "EPS", "PDF", "QOI")}
    for kind, data in others.items():
        assert reason(data), kind


def test_every_format_of_the_readme_is_read(tmp_path):
    modes = {"GIF": "P", "PSD": None}
    for kind in reading.FORMATS:
        if kind != "PSD":
            image = drawing(2, 32, 32)
            data = encoded(image.convert(modes.get(kind) or "RGB"), kind)
            assert reason(data, f"face.{kind.lower()}") == "", kind
    head = b"8BPS\0\1" + bytes(6) + b"\0\3" + b"\0\0\0\x20" * 2 + b"\0\x08\0\3"  # 3 channels, 32×32, 8 bits, RGB
    assert reason(head + bytes(12) + b"\0\0" + bytes(3 * 32 * 32)) == ""
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    named = re.search(r"JPEG, PNG, WebP.*?SVG", readme, re.S)[0]
    for kind in "JPEG PNG WebP GIF BMP TIFF AVIF PSD PPM PGM PBM TGA ICO HEIC".split() + ["JPEG 2000"]:
        assert kind in named, kind


def test_a_pillow_with_fewer_formats_reads_the_rest(monkeypatch):
    data = encoded(drawing(3), "AVIF")
    monkeypatch.delitem(Image.OPEN, "AVIF")
    monkeypatch.delitem(Image.OPEN, "JPEG2000")
    assert reason(encoded(drawing(3), "JPEG")) == ""
    assert reason(data) == "AVIF, which this Pillow cannot read: pip install --upgrade pillow, or export as PNG"


# --- levels ---------------------------------------------------------------------------------


def pgm(levels: np.ndarray, top: int = 65535) -> bytes:
    return b"P5 %d %d %d\n" % (*levels.shape[::-1], top) + levels.astype(">u2").tobytes()


FULL_32 = 2.0**32 - 1
INT_16 = grey(65535, np.int64) - 32768
GREYS = {
    **{f"{bits} bits in {kind}": data
       for bits in (8, 10, 12, 14, 16)
       for levels in [grey(2**bits - 1, np.uint16)]
       for kind, data in {
           "TIFF": tiff(levels), "big-endian TIFF": tiff(levels, ">"), "PNG": encoded(Image.fromarray(levels)),
           "PGM": pgm(levels), "JPEG 2000": encoded(Image.fromarray(levels), "JPEG2000"),
           "LZW TIFF": encoded(Image.fromarray(levels), "TIFF", compression="tiff_lzw"),
       }.items()},
    **{f"{bits} bits in 32 with a sign": tiff(grey(2**bits - 1, np.int32)) for bits in (8, 12, 16, 24, 31)},
    "32 bits": tiff(grey(FULL_32, np.uint32)),
    "32 bits with a sign": tiff((grey(FULL_32, np.int64) - 2**31).astype(np.int32)),
    "16 bits with a sign": tiff(INT_16.astype(np.int16)),
    "15 bits with a sign": tiff(grey(32767, np.int16)),
    "8 bits with a sign": tiff((grey(255, np.int16) - 128).astype(np.int8)),
    **{f"real numbers to {top}": tiff(grey(top, np.float32)) for top in (1, 255, 4095, 65535)},
    "real numbers from -1 to 1": tiff((RAMP * 2 - 1).astype(np.float32)),
    "PFM": b"Pf\n32 32\n-1.0\n" + RAMP[::-1].astype("<f4").tobytes(),
    "the white that a TIFF names": tiff(grey(3000, np.uint16), MaxSampleValue=3000),
    "the real white that a TIFF names": tiff(grey(1000, np.float32), SMaxSampleValue=1000.0, SMinSampleValue=0.0),
    "the white that a PGM names": pgm(grey(1000, np.uint16), 1000),
    "a tag that the levels prove wrong": tiff(grey(65535, np.uint16), MaxSampleValue=255),
    "white is zero, 16 bits": tiff(65535 - grey(65535, np.uint16), Photometric=0),
    "white is zero, 12 bits": tiff(4095 - grey(4095, np.uint16), Photometric=0, MaxSampleValue=4095),
    "white is zero, 8 bits": tiff(255 - grey(255, np.uint8), Photometric=0),
    "white is zero, real": tiff((1 - RAMP).astype(np.float32), Photometric=0),
    "upside down": tiff(grey(4095, np.uint16)[::-1, ::-1], Orientation=3),
    "16 bits of colour": tiff(np.stack([grey(65535, np.uint16)] * 3, axis=2)),
}  # fmt: skip


@pytest.mark.parametrize("name", GREYS)
def test_levels_come_out_as_they_were_meant(name):
    assert np.abs(shades(GREYS[name]) - SHADES).max() <= 1


def test_dark_images_stay_dark():
    """Where the file says how bright white is, or shows that it was stretched to 16 bits."""
    dark = SHADES // 8
    assert np.abs(shades(encoded(Image.fromarray(grey(31, np.uint16) * 257))) - dark).max() <= 1
    assert np.abs(shades(pgm(grey(4095 / 8, np.uint16), 4095)) - dark).max() <= 1
    assert np.abs(shades(tiff(grey(65535 / 8, np.uint16), MaxSampleValue=65535)) - dark).max() <= 1
    assert shades(tiff(np.zeros((32, 32), np.uint16))).max() == 0


def test_transparent_level_of_16_bits_becomes_white():
    levels = grey(65535, np.uint16)
    assert shades(encoded(Image.fromarray(levels), transparency=0)).tolist() == [255, *SHADES[1:].tolist()]


@pytest.mark.parametrize(
    "data, says",
    [
        (tiff(grey(3, np.float32)), outcomes.UNKNOWN_LEVELS),
        (tiff(np.where(RAMP > 0.5, np.nan, RAMP).astype(np.float32)), outcomes.UNKNOWN_LEVELS),
        (tiff(grey(7, np.uint16)), outcomes.UNKNOWN_LEVELS),
        (tiff(grey(200_000, np.int32)), outcomes.UNKNOWN_LEVELS),
        (tiff(np.stack([grey(4095, np.uint16)] * 3, axis=2)), outcomes.UNKNOWN_LEVELS),
        (tiff(np.stack([grey(16383, np.uint16)] * 3, axis=2), MaxSampleValue=16383), outcomes.UNKNOWN_LEVELS),
        (
            b"P6 32 32 65535\n" + np.stack([grey(4095, np.uint16)] * 3, axis=2).astype(">u2").tobytes(),
            outcomes.UNKNOWN_LEVELS,
        ),
        (tiff(RAMP), outcomes.VARIANT),
        (tiff(RAMP.astype(np.float16)), outcomes.VARIANT),
        (tiff(np.stack([RAMP] * 3, axis=2).astype(np.float32)), outcomes.VARIANT),
        (tiff(grey(65535, np.uint16), ">", Photometric=0), outcomes.VARIANT),
        (tiff(grey(255, np.uint8), Compression=34_926), outcomes.VARIANT),
    ],
)
def test_levels_that_nobody_can_tell_are_left_out_by_name(data, says):
    assert reason(data, "scan.tif") == says


# --- true reasons ---------------------------------------------------------------------------

LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
HEIC_HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
SEVEN_ZIP = b"7z\xbc\xaf'\x1c\0\4" + bytes(60)
STRANGERS = {
    "lfs.png": (LFS_POINTER, "a Git LFS pointer, not the image: run git lfs pull"),
    "lfs.csv": (LFS_POINTER, "a Git LFS pointer, not the image: run git lfs pull"),
    "lfs.psd": (LFS_POINTER, "a Git LFS pointer, not the image: run git lfs pull"),
    "page.jpg": (b"\xef\xbb\xbf\r\n<!DOCTYPE html><html></html>", "a web page, not an image: download it again"),
    "page.heic": (b"<html><body>404</body></html>", "a web page, not an image: download it again"),
    "page.csv": (b"<html><body>404</body></html>", "a web page, not an image: download it again"),
    "denied.webp": (
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
        "a web page, not an image: download it again",
    ),
    "photo.jpg": (HEIC_HEAD, "HEIC: install pillow-heif, or export as JPEG"),
    "photo.heic": (HEIC_HEAD, "HEIC: install pillow-heif, or export as JPEG"),
    "no-ending": (HEIC_HEAD, "HEIC: install pillow-heif, or export as JPEG"),
    "drawing.svg": (
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "in a format that cannot be read here: export as PNG or JPEG",
    ),
    "drawing.png": (
        b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>",
        "in a format that cannot be read here: export as PNG or JPEG",
    ),
    "sheet.png": (b"%PDF-1.7\n", "in a format that cannot be read here: export as PNG or JPEG"),
    "twelve-bits.jpg": (
        b"\xff\xd8\xff\xe0\0\x04ab\xff\xc1\0\x0b\x0c\0\x10\0\x10\1\1\x11\0" + bytes(99),
        "in a variant of its format that cannot be read here: export as PNG or JPEG",
    ),
    "deep.psd": (
        b"8BPS\0\1" + bytes(6) + b"\0\3" + b"\0\0\0\x20" * 2 + b"\0\x10\0\3" + bytes(14 + 6 * 32 * 32),
        "in a variant of its format that cannot be read here: export as PNG or JPEG",
    ),
    "cut.png": (encoded(drawing(1))[:20], "damaged or cut short"),
    "film.mp4": (b"\0\0\0\x18ftypmp42" + bytes(99), "not an image"),
    "sound.wav": (b"RIFF\0\0\0\0WAVE" + bytes(99), "not an image"),
    "page.html": (b"<html></html>", "not an image"),
    "essay.docx": (b"PK\3\4" + bytes(99), "not an image"),
}


def archives_inside() -> dict[str, bytes]:
    import gzip

    return {"faces.zip": b"PK\3\4" + bytes(99), "faces.7z": SEVEN_ZIP, "faces.tgz": gzip.compress(b"x"),
            "faces.png": b"PK\3\4" + bytes(99), "faces.tar": bytes(257) + b"ustar" + bytes(300)}  # fmt: skip


def test_files_are_left_out_by_their_true_reason(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    reading.heic_formats.cache_clear()
    files = {name: data for name, (data, _) in STRANGERS.items()}
    says = {name: text for name, (_, text) in STRANGERS.items()}
    folder = fill_folder(tmp_path / "mine", files | archives_inside())
    in_folder = "an archive: unpack it, or use zip:PATH or tar:PATH"
    assert left_out(FolderSource(folder)) == says | dict.fromkeys(archives_inside(), in_folder)
    archive = make_zip(tmp_path / "mine.zip", files | archives_inside())
    nested = "in an archive inside the archive: unpack it"
    assert left_out(archives.ArchiveSource(archive)) == says | dict.fromkeys(archives_inside(), nested)


def test_heic_is_read_where_its_package_is(monkeypatch):
    """A stand-in for pillow-heif, whose real decoder no test needs."""

    class HeifImageFile(ImageFile.ImageFile):
        format = "HEIF"

        def _open(self):
            self._mode, self._size = "RGB", (40, 40)
            self.fp = None

        def load(self):
            self.im = drawing(4).im
            return self.im.pixel_access(False)

    def register_heif_opener():
        Image.register_open("HEIF", HeifImageFile, lambda prefix: prefix[4:12] == b"ftypheic")

    package = types.ModuleType("pillow_heif")
    package.register_heif_opener = register_heif_opener
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    reading.heic_formats.cache_clear()
    try:
        assert reason(HEIC_HEAD, "IMG_0001.jpg") == "" == reason(HEIC_HEAD, "IMG_0001.HEIC")
        assert (next(reading.images_in(HEIC_HEAD, Form(40))).pixels == np.asarray(drawing(4))).all()
        assert reason(encoded(drawing(4), "JPEG")) == ""
    finally:
        Image.OPEN.pop("HEIF", None)
        reading.heic_formats.cache_clear()


def test_a_folder_is_read_anew_once_heic_can_be(tmp_path, monkeypatch):
    source = FolderSource(fill_folder(tmp_path / "mine", images(1)))
    without = source.signature()
    (tmp_path / "pillow_heif.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    assert source.signature() != without


# --- labels ---------------------------------------------------------------------------------

LABELS = '"hair", 3, 5\n"glasses", 0, 2\n'


@pytest.mark.parametrize(
    "data",
    [
        LABELS.encode("utf-8-sig"),
        LABELS.encode("utf-16"),
        b"\xfe\xff" + LABELS.encode("utf-16-be"),
        LABELS.replace("\n", "\r\n\r\n").encode(),
        b"hair;3;5\nglasses;0;2\n",
        "hair\t3\t5\nglasses\t0\t2\n".encode("utf-16"),
    ],
)
def test_label_files_that_an_editor_saved_anew(data):
    assert outcomes_of("a/face.csv", data, Form(32), {}) == [outcomes.Labels("a/face", {"hair": "3", "glasses": "0"})]


@pytest.mark.parametrize("data", [b"source, 0, 2\n", b"sha256, 0, 2\n", b"\xff\xfe\n", b"a, 1\n", b"a, 9, 2\n"])
def test_other_tables_are_no_labels(data):
    assert outcomes_of("face.csv", data, Form(32), {}) == [LeftOut("face.csv", outcomes.NOT_AN_IMAGE)]


# --- names ----------------------------------------------------------------------------------

NFC, NFD = "\u00e9", "e\u0301"


def names_tree(accent: str) -> dict[str, bytes]:
    names = [f"{accent}.png", f"{accent}-2.png", "e.png", "f.png", f"{accent}cole/a.png", "ecz/b.png"]
    return images(64) | {name: encoded(drawing(100 + number)) for number, name in enumerate(names)}


def test_accents_stored_one_way_or_the_other_are_one_name(home):
    """Order, fingerprint, labels: the same for a folder from a Mac and one from anywhere else."""
    packed = []
    for place, accent, other in (("nfc", NFC, NFD), ("nfd", NFD, NFC)):
        files = names_tree(accent) | {f"{other}.csv": LABELS.encode()}
        folder = fill_folder(home / place, files)
        config = toongan.DataConfig(f"folder:{folder}", image_size=32)
        packed.append(toongan.prepare(config, progress=False))
    assert packed[0].fingerprint == packed[1].fingerprint and packed[0].index == packed[1].index
    row = next(row for row in packed[0].index if row["source"] == f"{NFC}.png")
    assert row["hair"] == "3" and row["glasses"] == "0"
    assert next(row for row in packed[0].index if row["source"].endswith("cole/a.png"))["folder"] == f"{NFC}cole"


def test_strange_names_come_out_legibly(home):
    strange = {
        b"bytes-\xff\xfe.png": "bytes-\\xff\\xfe.png",
        b"line\nbreak.png": "line\\nbreak.png",
        b"colour-\x1b[31m.png": "colour-\\x1b[31m.png",
        "mirror-\u202egnp.png".encode(): "mirror-\\u202egnp.png",
        b"half-\xed\xa0\x80.png": "half-\\xed\\xa0\\x80.png",
        b"dir-\xe9/a.png": "dir-\\xe9/a.png",
        "family-\U0001f469\u200d\U0001f469.png".encode(): "family-\U0001f469\u200d\U0001f469.png",
    }
    folder = fill_folder(home / "mine", images(64))
    for number, name in enumerate(strange):
        fill_folder(folder, {os.fsdecode(name): encoded(drawing(200 + number))})
    with open(os.fsencode(folder) + b"/bad-\xff\x07.png", "wb") as file:
        file.write(b"no image")
    data = toongan.prepare(toongan.DataConfig(f"folder:{folder}", image_size=32), progress=False)
    assert {row["source"] for row in data.index} >= set(strange.values())
    assert "dir-\\xe9" in {row["folder"] for row in data.index}
    with open(data.folder / "left-out.csv", newline="", encoding="utf-8") as file:
        assert [row["source"] for row in csv.DictReader(file)] == ["bad-\\xff\\x07.png"]
    assert names.printable("pair-\ud800.png") == "pair-\\ud800.png"


# --- what this program made is never data -----------------------------------------------------


def marked() -> dict[str, bytes]:
    text, exif = PngInfo(), Image.Exif()
    text.add_text("Software", "ToonGAN")
    exif[0x0131] = "ToonGAN"
    return {
        "grid.png": encoded(drawing(301), pnginfo=text),
        "grid.jpg": encoded(drawing(302), "JPEG", exif=exif),
        "grid.webp": encoded(drawing(303), "WEBP", exif=exif),
        "film.gif": encoded(drawing(304), "GIF", comment=b"ToonGAN"),
    }


def test_images_that_this_program_made_are_left_out(tmp_path):
    other = PngInfo()
    other.add_text("Software", "Krita")
    files = marked() | {"mine.png": encoded(drawing(305), pnginfo=other)}
    found = left_out(FolderSource(fill_folder(tmp_path / "mine", files)))
    assert found == dict.fromkeys(marked(), "made by this program")
    assert left_out(archives.ArchiveSource(make_zip(tmp_path / "mine.zip", files))) == found


OWN = {
    "marked/.toongan": b"",
    "data/64px/images.npy": b"x",
    "data/64px/meta.json": b"{}",
    "runs/a/run.json": b"{}",
    "runs/a/G.pth": b"x",
    "runs/b/run.json": b"{}",
    "runs/b/last.pt": b"x",
    "out/samples-000.png": encoded(drawing(400)),
    "out/losses.png": encoded(drawing(401)),
}
OWN_FOLDERS = ["marked", "data/64px", "runs/a", "runs/b", "out"]
THEIRS = {
    "theirs/run.json": b"{}",
    "theirs2/samples-000.png": encoded(drawing(402)),
    "theirs3/meta.json": b"{}",
}


def own_tree() -> dict[str, bytes]:
    inside = {f"{folder}/more/face.png": encoded(drawing(500 + i)) for i, folder in enumerate(OWN_FOLDERS)}
    others = {f"{name.split('/')[0]}/face.png": encoded(drawing(600 + i)) for i, name in enumerate(THEIRS)}
    return images(3) | OWN | THEIRS | inside | others


def test_folders_that_this_program_wrote_are_passed_over(tmp_path):
    files = own_tree()
    wanted = {name for name in files if not name.startswith(tuple(f"{folder}/" for folder in OWN_FOLDERS))}
    source = FolderSource(fill_folder(tmp_path / "mine", files))
    assert set(source.names()) == wanted and source.signature()["files"] == len(wanted)
    archive = archives.ArchiveSource(make_zip(tmp_path / "mine.zip", files))
    used = {name for name, outcome in everything(archive).items() if isinstance(outcome, outcomes.Usable)}
    assert used == {name for name in wanted if name.endswith(".png")}
    assert left_out(archive).keys() == {name for name in wanted if not name.endswith(".png")}
    # The folder that was asked for is read, whatever lies in it.
    assert set(FolderSource(tmp_path / "mine" / "out").names()) == {"losses.png", "samples-000.png", "more/face.png"}


def test_a_folder_of_nothing_but_hidden_or_own_files_says_so(home):
    folder = fill_folder(home / "mine", {".a.png": b"x", ".b.png": b"x"} | OWN)
    with pytest.raises(toongan.ToonGANError) as caught:
        toongan.prepare(toongan.DataConfig(f"folder:{folder}", image_size=32), progress=False)
    assert str(caught.value) == (
        f"folder:{folder} holds 0 usable images among 7 files; left out: 5 made by this program, "
        "2 hidden: rename it without the leading dot. At least 64 are needed."
    )
