"""The look at images before they are trained on, and what may be asked for when they are packed."""

import csv
import io

import numpy as np
import pytest
from makers import drawing, encoded, fill_folder, images, pack
from PIL import Image

import toongan
from toongan import DataConfig, ToonGANError
from toongan.datasets import avatars, look
from toongan.datasets.holdout import FILM_BITS, split


@pytest.fixture(scope="module")
def faces() -> list[Image.Image]:
    return [Image.fromarray(avatars.draw("notionists", number, 96)[0]) for number in range(86)]


def findings(data: toongan.PackedDataset) -> list[list[str]]:
    with open(data.folder / "look.csv", newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


def moved(face: Image.Image) -> Image.Image:
    there = Image.new("RGB", face.size, face.getpixel((0, 0)))
    there.paste(face, (24, 24))
    return there


def test_what_a_look_finds(home, faces, capsys):
    files = {f"{number:02d}.png": encoded(face) for number, face in enumerate(faces)}
    files |= {f"again-{number}.jpg": encoded(faces[number], "JPEG", quality=60) for number in (3, 30, 60)}
    files |= {f"small-{number}.png": encoded(faces[number].resize((70, 70))) for number in (5, 50)}
    files["moved.png"] = encoded(moved(faces[8]))
    folder = f"folder:{fill_folder(home / 'mine', files)}"
    data = toongan.prepare(DataConfig(folder, image_size=64))
    said = capsys.readouterr().out
    assert "5 nearly repeat another one; --skip-alike leaves them out." in said
    assert "1 has its face in another place than most." in said
    found = findings(data)
    assert [row[:1] + row[2:] for row in found if row[1] == "nearly repeats"] == [
        ["again-3.jpg", "03.png"], ["again-30.jpg", "30.png"], ["again-60.jpg", "60.png"],
        ["small-5.png", "05.png"], ["small-50.png", "50.png"],
    ]  # fmt: skip
    assert [row[0] for row in found if row[1] == "face elsewhere"] == ["moved.png"]
    with Image.open(data.folder / "preview.png") as sheet:
        assert sheet.height > sheet.width > 500, "text, images, pairs, and the one that lies elsewhere"
    fewer = toongan.prepare(DataConfig(folder, image_size=64, skip_alike=True), progress=False)
    assert len(fewer) == len(data) - 5 and not any(row["source"][0] in "as" for row in fewer.index)
    assert len(fewer.hashes) == len(fewer) and fewer.fingerprint != data.fingerprint
    some = toongan.prepare(DataConfig(folder, count=70, image_size=64, skip_alike=True), progress=False)
    assert len(some) == 70 and {row["source"] for row in some.index} <= {row["source"] for row in fewer.index}


def test_images_that_differ_are_not_alike(faces):
    images = np.stack([np.asarray(face.resize((64, 64))) for face in faces])
    coloured = images.copy()
    coloured[1] = images[0] // 2  # of one hash, and another colour
    small = look.shrunk(coloured, look.SIDE)
    assert (look.hash_of(coloured[0]) == look.hash_of(coloured[1])).mean() > 0.85
    assert (1, 0) not in look.alike(coloured, small)


def test_a_chain_of_copies_keeps_the_first(faces):
    images = np.stack([np.asarray(faces[0].resize((64, 64)))] * 3 + [np.asarray(faces[1].resize((64, 64)))])
    assert look.alike(images, look.shrunk(images, look.SIDE)) == [(1, 0), (2, 0)]


def test_blocks_do_not_change_what_is_found(faces, monkeypatch):
    images = np.stack([np.asarray(face.resize((64, 64))) for face in faces + faces[::7]])
    whole = look.alike(images, look.shrunk(images, look.SIDE))
    monkeypatch.setattr(look, "BLOCK", 10)
    assert look.alike(images, look.shrunk(images, look.SIDE)) == whole
    assert [pair[1] for pair in whole][-13:] == list(range(0, 86, 7))


def test_too_few_remain(home):
    files = images(40) | {f"again-{n}.jpg": encoded(drawing(n), "JPEG", quality=95, subsampling=0) for n in range(40)}
    folder = f"folder:{fill_folder(home / 'mine', files)}"
    with pytest.raises(ToonGANError, match="skip_alike leaves 40 of .* images, and 64 are needed; leave it out"):
        pack(folder, skip_alike=True)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_wide_images(home, fit, capsys):
    """A red middle between a blue and a yellow end: cut off, kept between bars of the edges' grey, or squeezed."""
    wide = np.full((40, 80, 3), 90, np.uint8)
    wide[4:-4, :20], wide[4:-4, 20:60], wide[4:-4, 60:] = (0, 0, 255), (255, 0, 0), (255, 255, 0)
    files = {f"{n}.png": encoded(Image.fromarray(np.roll(wide, (0, 0), (0, 1)) ^ np.uint8(n % 2))) for n in range(2)}
    files |= images(70)
    data = toongan.prepare(DataConfig(f"folder:{fill_folder(home / 'mine', files)}", image_size=32, fit=fit))
    rows = [row for row, one in enumerate(data.index) if not one["source"].startswith("face")]
    image = data.images[rows[0]].astype(int)
    middle, left, top = image[16, 16], image[16, 1], image[2, 16]
    assert (middle == (255, 0, 0)).all()
    assert (left == ((255, 0, 0) if fit == "crop" else (0, 0, 255))).all()
    assert (abs(top - 90) <= 16).all(), "the bars, or the edge itself"
    assert (abs(image[7, 16] - 90) <= 16).all() == (fit == "pad")
    said = capsys.readouterr().out
    assert "2 were not square: 50% of their longer side is" in said
    assert ("--fit pad keeps all of it" in said) == (fit == "crop")
    assert data.folder.name == {"crop": "32px", "pad": "32px-pad", "stretch": "32px-stretch"}[fit]


def test_padding_of_square_images_changes_nothing(home):
    folder = f"folder:{fill_folder(home / 'mine', images(70))}"
    assert pack(folder, fit="pad").fingerprint == pack(folder).fingerprint


def film(numbers: range, kind: str) -> bytes:
    first, *others = [drawing(number) for number in numbers]
    options = {"lossless": True} if kind == "WEBP" else {}
    return encoded(first, kind, save_all=True, append_images=others, duration=50, **options)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_frames(home, kind):
    files = images(70) | {f"film.{kind.lower()}": film(range(100, 130), kind), "film.csv": b"hair, 3, 9\n"}
    folder = f"folder:{fill_folder(home / 'mine', files)}"
    assert len(pack(folder)) == 71
    data = pack(folder, frames=True)
    assert len(data) == 100
    frames = {row["source"]: number for number, row in enumerate(data.index) if row["source"].startswith("film")}
    assert list(frames) == [f"film.{kind.lower()}#{number}" for number in range(30)]
    near = {number: np.asarray(drawing(100 + number).resize((32, 32), Image.Resampling.LANCZOS)) for number in (0, 29)}
    for number, expected in near.items():
        found = data.images[frames[f"film.{kind.lower()}#{number}"]].astype(int)
        assert np.abs(found - expected).mean() < 12
    assert data.labels[frames[f"film.{kind.lower()}#7"]]["hair"] == "3"


def test_a_film_is_cut_short(home):
    whole = film(range(100, 130), "GIF")
    files = images(70) | {"film.gif": whole[: len(whole) // 2]}
    data = pack(f"folder:{fill_folder(home / 'mine', files)}", frames=True)
    assert 72 <= len(data) < 100, "what can be read is used"


def test_still_frames_come_once(home):
    first, *others = [drawing(number // 5) for number in range(1000, 1050)]
    data = io.BytesIO()
    first.save(data, "WEBP", save_all=True, append_images=others, duration=50, lossless=True, minimize_size=False)
    packed = pack(f"folder:{fill_folder(home / 'mine', images(70) | {'a.webp': data.getvalue()})}", frames=True)
    assert len(packed) == 80


def test_all_frames_of_a_film_are_held_out_or_none(home):
    """Else a run would be judged by images that it has nearly seen."""
    films = {
        f"{letter}.webp": film(range(start, start + 9), "WEBP")
        for start, letter in zip(range(0, 900, 30), "abcdefghijklmnop")
    }
    data = pack(f"folder:{fill_folder(home / 'mine', films)}", frames=True)
    parts = split(data.hashes)
    held, trained = (
        {data.hashes[row] >> np.uint64(64 - FILM_BITS) for row in rows} for rows in (parts.held_out, parts.training)
    )
    assert held and trained and not held & trained
    assert (split(data.hashes, parts.record(data.identity)).held_out == parts.held_out).all()


def test_one_film_alone_can_be_parted(home):
    data = pack(f"folder:{fill_folder(home / 'mine', {'a.webp': film(range(80), 'WEBP')})}", frames=True)
    parts = split(data.hashes)
    assert len(parts.held_out) == 10 and len(parts.training) == 70
