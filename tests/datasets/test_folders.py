"""Folders and archives as users bring them, good and bad, packed through the front door."""

import hashlib
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, command
from makers import (
    CARTOON_SET_ATTRIBUTES,
    cartoon_set,
    drawing,
    encoded,
    fill_folder,
    huge_png,
    images,
    make_tar,
    make_zip,
    pack,
    reasons,
)
from PIL import Image

import toongan
from toongan.datasets import outcomes


def own_folder(home: Path, extra: dict[str, bytes] | None = None, count: int = 70) -> Path:
    return fill_folder(home / "mine", images(count) | (extra or {}))


def test_folder_keeps_names_hashes_and_pixels(home):
    folder = own_folder(home)
    data = pack(f"folder:{folder}")
    assert data.images.shape == (70, 32, 32, 3) and data.images.dtype == np.uint8
    assert [row["source"] for row in data.index] == [f"face-{number:04d}.png" for number in range(70)]
    assert Image.open(data.folder / "preview.png").width >= 2 * (8 * 34 - 2), "small images are enlarged"
    for row in data.index:
        assert row["sha256"] == hashlib.sha256((folder / row["source"]).read_bytes()).hexdigest()
    wanted = drawing(5).resize((32, 32), Image.Resampling.LANCZOS)
    assert (data.images[5] == np.asarray(wanted)).all()
    assert data.meta["fingerprint"] == hashlib.sha256(np.ascontiguousarray(data.images)).hexdigest()
    assert data.left_out == {} and not (data.folder / "left-out.csv").exists()


def test_folder_zip_and_tar_give_the_same_array(home):
    files = {f"{number % 3}/{name}": data for number, (name, data) in enumerate(images(90).items())}
    sorted_files = dict(sorted(files.items()))
    places = [
        f"folder:{fill_folder(home / 'tree', files)}",
        f"zip:{make_zip(home / 'faces.zip', sorted_files)}",
        f"tar:{make_tar(home / 'faces.tgz', sorted_files)}",
        f"tar:{make_tar(home / 'faces.tar', sorted_files)}",
        f"tar:{home / 'faces.zip'}",  # what an archive is shows in its content
    ]
    packed = [pack(place) for place in places]
    assert {data.fingerprint for data in packed} == {packed[0].fingerprint}
    assert [row["source"] for row in packed[1].index] == list(sorted_files)
    assert [row["folder"] for row in packed[2].labels] == [name.split("/")[0] for name in sorted_files]


def test_many_cores_give_the_order_of_one(home, monkeypatch):
    """Over 256 files are decoded by several processes."""
    folder = own_folder(home, count=400)
    several = pack(f"folder:{folder}").fingerprint
    monkeypatch.setattr("toongan.datasets.packing.cores", lambda: 1)
    shutil.rmtree(home / "data")
    assert pack(f"folder:{folder}").fingerprint == several


def test_second_time_nothing_is_done_until_the_folder_changes(home):
    folder = own_folder(home)
    data = pack(f"folder:{folder}")
    stamp = (data.folder / "images.npy").stat().st_mtime_ns
    assert (pack(f"folder:{folder}").folder / "images.npy").stat().st_mtime_ns == stamp
    (folder / "new.png").write_bytes(encoded(drawing(999)))
    assert len(pack(f"folder:{folder}")) == 71
    shutil.rmtree(folder)
    assert len(pack(f"folder:{folder}")) == 71  # the packed copy outlives its source


def test_two_folders_of_one_name_stay_apart(home):
    one = fill_folder(home / "a" / "faces", images(64))
    two = fill_folder(home / "b" / "faces", images(65, first=100))
    assert len(pack(f"folder:{one}")) == 64 and len(pack(f"folder:{two}")) == 65
    assert len(pack(f"folder:{one}")) == 64


def test_path_relative_to_the_home_works_from_any_working_folder(home, monkeypatch, tmp_path_factory):
    own_folder(home)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert len(pack("folder:mine")) == 70


def test_count_takes_images_from_all_over(home, capsys):
    """Neighbours in a folder may be of one class; fewer images must still be a fair sample."""
    files = {f"{number // 35}/{name}": data for number, (name, data) in enumerate(images(140).items())}
    folder = fill_folder(home / "classes", files)
    data = pack(f"folder:{folder}", count=80)
    assert len(data) == 80 == len(data.labels)
    assert {row["folder"] for row in data.labels} == {"0", "1", "2", "3"}
    whole = pack(f"folder:{folder}")
    for pixels, row in zip(data.images, data.index, strict=True):
        number = next(i for i, other in enumerate(whole.index) if other["sha256"] == row["sha256"])
        assert (pixels == whole.images[number]).all()
    more = toongan.prepare(toongan.DataConfig(f"folder:{folder}", count=5000, image_size=32))
    assert len(more) == 140 and "holds 140 images; all of them are used" in capsys.readouterr().out


def test_names_in_any_script(home):
    names = ["たぬき.png", "лицо.png", "وجه.png", "😀 face.png", "a,b\"c'.png", "line\nbreak.png", "-rf.png"]
    folder = own_folder(home, {name: encoded(drawing(1000 + i)) for i, name in enumerate(names)})
    raw = os.fsencode(folder) + b"/bytes-\xff\xfe.png"  # a name that is no text at all
    with open(raw, "wb") as file:
        file.write(encoded(drawing(2000)))
    data = pack(f"folder:{folder}")
    assert len(data) == 78
    found = {row["source"] for row in data.index}
    assert set(names) - {"line\nbreak.png"} <= found and {"bytes-\\xff\\xfe.png", "line\\nbreak.png"} <= found
    files = {f"{i}-{name}": encoded(drawing(1000 + i)) for i, name in enumerate(names * 10)}
    assert len(pack(f"zip:{make_zip(home / '日本語.zip', files)}")) == 70


def test_every_kind_of_image_is_taken(home):
    big = drawing(901, 64, 64)
    film = io.BytesIO()
    frames = [Image.new("P", (16, 16), colour) for colour in (0, 1)]
    for frame in frames:
        frame.putpalette([255, 0, 0, 0, 0, 255] + [0] * 762)
    frames[0].save(film, "GIF", save_all=True, append_images=frames[1:], duration=100, loop=0)
    kinds = {
        "a.jpg": encoded(big, "JPEG"),
        "b.JPEG": encoded(big.convert("CMYK"), "JPEG"),
        "c.webp": encoded(big, "WEBP"),
        "d.bmp": encoded(big, "BMP"),
        "e.tif": encoded(Image.fromarray(np.full((9, 9), 40000, np.uint16)), "TIFF"),
        "film.gif": film.getvalue(),
        "wide.png": encoded(drawing(907, 90, 30)),
        "1.png": encoded(big.convert("L")),
        "really-a-jpeg.png": encoded(drawing(908), "JPEG"),
        "no-ending": encoded(drawing(909)),
        "image.txt": encoded(drawing(910)),
    }
    data = pack(f"folder:{own_folder(home, kinds)}")
    assert len(data) == 70 + len(kinds) and data.left_out == {}
    row = next(number for number, row in enumerate(data.index) if row["source"] == "film.gif")
    assert (data.images[row] == (255, 0, 0)).all(), "the first frame"


def test_cartoon_set_labels_from_the_files_beside(home):
    """Labels come after and before their images; the files with them are not counted as left out."""
    files = cartoon_set(64)
    data = pack(f"tar:{make_tar(home / 'set.tgz', dict(reversed(files.items())))}")
    assert len(data) == 64 and data.left_out == {}
    assert set(CARTOON_SET_ATTRIBUTES) <= set(data.labels[0])
    for row, labels in zip(data.index, data.labels, strict=True):
        text = files[row["source"].replace(".png", ".csv")].decode()
        wanted = {line.split(",")[0].strip('"'): line.split(",")[1].strip() for line in text.splitlines()}
        assert {name: labels[name] for name in wanted} == wanted
    assert (data.images[0][0, 0] == 255).all(), "the transparent background is white"


def test_bad_files_are_left_out_counted_and_listed(home):
    good = encoded(drawing(500), "JPEG")
    bad = {
        "cut.jpg": good[: len(good) // 2],
        "cut.png": encoded(drawing(501))[:-40],
        "empty.png": b"",
        "text.jpg": b"I am no image\n" * 20,
        "page.png": b"<!doctype html><html></html>",
        "notes.txt": b"a list of names",
        "phone.heic": b"\0\0\0\x18ftypheic",
        "labels.csv": b"name,age\nAnna,3\n",
        "garbage.gif": b"GIF89a" + bytes(range(256)),
        "copy.png": encoded(drawing(3)),
        "sub/copy.png": encoded(drawing(4)),
        "face-0005 copy.png": encoded(drawing(5)),
    }
    data = pack(f"folder:{own_folder(home, bad)}")
    assert len(data) == 70
    assert reasons(data) == {
        "cut.jpg": outcomes.DAMAGED,
        "cut.png": outcomes.DAMAGED,
        "empty.png": outcomes.EMPTY,
        "text.jpg": outcomes.NOT_AN_IMAGE,
        "page.png": outcomes.WEB_PAGE,
        "notes.txt": outcomes.NOT_AN_IMAGE,
        "phone.heic": outcomes.HEIC,
        "labels.csv": outcomes.NOT_AN_IMAGE,
        "garbage.gif": outcomes.NOT_AN_IMAGE,
        "face-0003.png": outcomes.DUPLICATE,  # of copy.png, which comes before it
        "face-0005 copy.png": outcomes.DUPLICATE,
        "sub/copy.png": outcomes.DUPLICATE,
    }
    assert data.meta["left_out"] == {
        outcomes.NOT_AN_IMAGE: 4,
        outcomes.DAMAGED: 2,
        outcomes.DUPLICATE: 3,
        outcomes.EMPTY: 1,
        outcomes.HEIC: 1,
        outcomes.WEB_PAGE: 1,
    }


@pytest.mark.parametrize("damage", range(12))
def test_a_flipped_byte_never_stops_the_packing(home, damage):
    chance = np.random.default_rng(damage)
    bad = {}
    for number in range(60):
        kind = ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP")[number % 6]
        data = bytearray(encoded(drawing(3000 + number), kind))
        for place in chance.integers(0, len(data), 3):
            data[place] = chance.integers(0, 256)
        bad[f"bad-{number}.{kind.lower()}"] = bytes(data)
    data = pack(f"folder:{own_folder(home, bad, count=64)}")
    assert len(data) + sum(data.left_out.values()) == 124 and len(data) >= 64


@pytest.mark.parametrize("side", [20_000, 12_000])
def test_decompression_bomb(home, side):
    """400 megapixels in a few hundred kilobytes are refused by their header; so are 144, of which Pillow only warns."""
    bomb = huge_png(side)
    assert len(bomb) < 1_000_000
    data = pack(f"folder:{own_folder(home, {'bomb.png': bomb})}")
    assert len(data) == 70 and reasons(data) == {"bomb.png": outcomes.TOO_MANY_PIXELS}


def test_links_devices_and_loops(home):
    folder = own_folder(home)
    (folder / "broken.png").symlink_to(folder / "nowhere.png")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe.png")  # opened, it would wait for ever
    outside = fill_folder(home / "outside", {"linked.png": encoded(drawing(800))})
    (folder / "good-link.png").symlink_to(outside / "linked.png")
    data = pack(f"folder:{folder}")
    assert len(data) == 71
    assert reasons(data) == {
        "broken.png": outcomes.BROKEN_LINK,
        "itself.png": outcomes.BROKEN_LINK,
        "pipe.png": outcomes.NOT_REGULAR,
    }


def test_files_that_may_not_be_read(home):
    folder = own_folder(home, {"locked/inside.png": encoded(drawing(801)), "secret.png": encoded(drawing(802))})
    (folder / "secret.png").chmod(0)
    (folder / "locked").chmod(0)
    arguments = [sys.executable, "-m", "toongan", "data", f"folder:{folder}", "--image-size", "32"]
    if os.geteuid() == 0:  # who may read everything is asked to give that up
        arguments = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *arguments]
    try:
        done = subprocess.run(
            arguments, cwd=REPOSITORY, env={**os.environ, "TOONGAN_HOME": str(home)}, capture_output=True, text=True
        )
    finally:
        (folder / "locked").chmod(stat.S_IRWXU)
    assert done.returncode == 0, done.stderr
    assert "70 images of 32 px" in done.stdout and "Left out 2 files: 2 cannot be read" in done.stdout


def test_hidden_files_are_not_mentioned(home):
    files = {".DS_Store": b"x", "._face.png": b"x", "__MACOSX/._face.png": b"x", ".cache/a.png": encoded(drawing(9000))}
    data = pack(f"folder:{own_folder(home, files)}")
    assert len(data) == 70 and data.left_out == {}
    data = pack(f"zip:{make_zip(home / 'mac.zip', images(70) | files)}")
    assert len(data) == 70 and data.left_out == {}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_too_few_images(home, kind):
    files = images(10) | {"a.txt": b"text", "b.jpg": b"text", "c.png": b""}
    place = {
        "folder": lambda: fill_folder(home / "few", files),
        "zip": lambda: make_zip(home / "few.zip", files),
        "tar": lambda: make_tar(home / "few.tar", files),
    }[kind]()
    with pytest.raises(toongan.ToonGANError) as caught:
        pack(f"{kind}:{place}")
    assert str(caught.value) == (
        f"{kind}:{place} holds 10 usable images among 13 files; left out: 2 not an image, 1 empty file. "
        "At least 64 are needed."
    )
    assert [path.name for path in (home / "data").iterdir()] == [".locks"], "no litter"


@pytest.mark.parametrize("files", [{}, {f"{i}.txt": b"text" for i in range(100)}])
def test_folder_of_non_images(home, files):
    folder = fill_folder(home / "texts", {"keep": b"x"} | files)
    with pytest.raises(toongan.ToonGANError, match=r"holds 0 usable images among \d+ files.*At least 64"):
        pack(f"folder:{folder}")


def test_failed_update_leaves_the_earlier_copy(home):
    folder = own_folder(home)
    before = pack(f"folder:{folder}")
    for path in list(folder.iterdir())[:20]:
        path.write_bytes(b"")
    with pytest.raises(toongan.ToonGANError, match="holds 50 usable images among 70 files"):
        pack(f"folder:{folder}")
    assert (toongan.datasets.open_packed(before.folder).images == before.images).all()


@pytest.mark.parametrize(
    "dataset, says",
    [
        ("folder:/no/such/place", "dataset folder:/no/such/place is not there; check the path"),
        ("zip:{home}", "is a folder; use folder:PATH"),
        ("folder:{home}/file.zip", "is a file; for an archive, use zip:PATH or tar:PATH"),
        ("zip:{home}/file.zip", "is not a zip or tar archive; unpack it and use folder:PATH"),
        ("folder:", "'folder:' is not known; use avatars"),
        ("cartoonset20k", "'cartoonset20k' is not known; perhaps cartoonset10k\\? Else use avatars"),
        ("toonhead", "perhaps avatars:toon-head"),
        ("avatars:toonhead", "has no style 'toonhead'; perhaps toon-head"),
        ("{home}", "perhaps folder:"),
        ("drive", "is drive, but there is no folder /content/drive"),
    ],
)
def test_wrong_names(home, dataset, says):
    (home / "file.zip").write_text("no archive")
    with pytest.raises(toongan.ToonGANError, match=says):
        pack(dataset.format(home=home))


def test_command_line_tells_what_was_left_out(tmp_path):
    folder = fill_folder(tmp_path / "mine", images(70) | {"a.txt": b"x", "b.jpg": b"x" * 50})
    done = command("data", f"folder:{folder}", "--image-size", 32, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Packing folder:" in done.stdout and "100%" in done.stdout and "images/s" in done.stdout
    assert re.search(r"Packed 70 in \d+ s, [\d,]+ a second: .*preview.png", done.stdout)
    assert "enlarged" not in done.stdout
    assert "Left out 2 files: 2 not an image. They are listed in" in done.stdout
    meta = json.loads(next((tmp_path / "data").rglob("meta.json")).read_text(encoding="utf-8"))
    assert meta["count"] == 70 and meta["left_out"] == {"not an image": 2} and meta["license"]


def test_enlarged_images_are_mentioned(tmp_path):
    folder = fill_folder(tmp_path / "mine", images(70))
    done = command("data", f"folder:{folder}", "--image-size", 128, "--count", 66, home=tmp_path)
    assert "70 images were smaller than 128 px and had to be enlarged" in done.stdout
    assert "66 of 70 images of 128 px in" in done.stdout


def test_train_on_a_folder(tmp_path):
    folder = fill_folder(tmp_path / "mine", images(70))
    done = command(
        *("train", "--dataset", f"folder:{folder}", "--image-size", 32, "--base-channels", 4, "--batch-size", 16),
        *("--kimg", 0.4, "--device", "cpu", "--run", "own"),
        home=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    info = json.loads((tmp_path / "checkpoints" / "own" / "run.json").read_text())
    assert info["data"]["count"] == 70 and info["data"]["trained_on"] == 62 and info["data"]["held_out"]
