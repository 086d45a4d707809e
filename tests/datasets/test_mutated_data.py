"""Files as chance makes them: whole ones come through unchanged, broken ones are named, and nothing else happens.

Anything but an image, labels, a reason, or a sentence for the user (`ToonGANError`) is a failure.
"""

import csv
import hashlib
import io
import os
import tarfile
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from makers import CARTOON_SET_ATTRIBUTES, drawing, encoded, fill_folder, images, make_tar, make_zip, tiff
from PIL import Image

import toongan
from toongan.datasets.archives import ArchiveSource
from toongan.datasets.catalogue import OwnSet
from toongan.datasets.folders import FolderSource
from toongan.datasets.names import printable
from toongan.datasets.outcomes import Form, Labels, LeftOut, Usable, run_task
from toongan.datasets.reading import outcomes_of

SOAK = 3000  # mutated archives; as many tables, and twice as many images

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's remarks on odd files


def settings(examples: int):
    return hypothesis.settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module", autouse=True)
def nothing_in_the_repository(tmp_path_factory):
    hypothesis.configuration.set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mutated")


# --- what is mutated --------------------------------------------------------------------------


def whole_images() -> dict[str, bytes]:
    small, grey = drawing(7, 24, 18), Image.fromarray((np.arange(432).reshape(18, 24) * 151).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112], exif[0x0131] = 6, "Krita"
    film = io.BytesIO()
    small.save(film, "GIF", save_all=True, append_images=[drawing(8, 24, 18)], comment=b"a film")
    files = {
        f"a.{kind.lower()}": encoded(small, kind) for kind in "JPEG PNG WEBP GIF BMP TIFF AVIF PPM ICO TGA".split()
    }
    return files | {
        "exif.jpg": encoded(small, "JPEG", exif=exif, progressive=True),
        "cmyk.jpg": encoded(small.convert("CMYK"), "JPEG"),
        "palette.png": encoded(small.convert("P"), transparency=3),
        "sixteen.png": encoded(grey),
        "clear.png": encoded(small.convert("RGBA")),
        "film.gif": film.getvalue(),
        "a.jp2": encoded(small, "JPEG2000"),
        "sixteen.jp2": encoded(grey, "JPEG2000"),
        "lzw.tif": encoded(small, "TIFF", compression="tiff_lzw"),
        "jpeg.tif": encoded(small, "TIFF", compression="jpeg"),
        "sixteen.tif": tiff(np.asarray(grey), MaxSampleValue=65535),
        "real.tif": tiff((np.arange(432).reshape(18, 24) / 431).astype(np.float32)),
        "signed.tif": tiff(np.arange(432).reshape(18, 24).astype(np.int32), ">"),
        "plain.pgm": b"P2 2 2 1000\n0 1 500 1000\n",
        "real.pfm": b"Pf\n2 2\n-1.0\n" + np.ones(4, "<f4").tobytes(),
        "deep.pgm": b"P5 2 2 4095\n" + np.arange(4, dtype=">u2").tobytes(),
        "photoshop.psd": b"8BPS\0\1" + bytes(6) + b"\0\3" + b"\0\0\0\2" * 2 + b"\0\x08\0\3" + bytes(26),
        "phone.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
    }


def labels(rows: int = 3) -> bytes:
    return "".join(f'"{name}", {i}, {9 + i}\n' for i, name in enumerate(CARTOON_SET_ATTRIBUTES[:rows])).encode()


def whole_archives(place: Path) -> dict[str, bytes]:
    files = {
        "./a/face.png": encoded(drawing(1, 9, 9)),
        "a/face.csv": labels(),
        "b\u00e9.jpg": encoded(drawing(2), "JPEG"),
    }
    files["flat.bmp"] = encoded(Image.new("RGB", (200, 200), "red"), "BMP")
    made = [make_zip(place / f"{method}.zip", files, method) for method in (0, 8, 12, 14)]
    made += [make_tar(place / "plain.tar", files), make_tar(place / "packed.tgz", files)]
    for form, kind in ((tarfile.PAX_FORMAT, "xz"), (tarfile.GNU_FORMAT, "bz2")):
        made.append(place / f"long.tar.{kind}")
        with tarfile.open(made[-1], f"w:{kind}", format=form) as archive:
            for name, data in files.items():
                member = tarfile.TarInfo("long/" * 40 + name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
            member = tarfile.TarInfo("link.png")
            member.type, member.linkname = tarfile.LNKTYPE, "long.png"
            archive.addfile(member)
    return {path.name: path.read_bytes() for path in made}


numbers = st.integers(0, 2**32 - 1)
MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from("flip flip cut splice extend swap zero number repeat".split()), numbers, numbers, numbers
    ),
    min_size=1,
    max_size=4,
)


def mutated(data: bytes, other: bytes, changes: list[tuple[str, int, int, int]]) -> bytes:
    """`data`, changed; `other` gives what is spliced in."""
    for kind, a, b, c in changes:
        at, length = a % (len(data) + 1), b % 64
        if kind == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << b % 8)]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at] if c % 2 else data[:at] + data[at + length :]
        elif kind == "splice":
            start = c % (len(other) + 1)
            data = data[:at] + other[start : start + length] + data[at:]
        elif kind == "extend":
            data += (other[:length] if c % 2 else bytes(b % 4096)) or b"\xff"
        elif kind == "swap":
            data = other[:length] + data[length:]
        elif kind == "zero":
            data = data[:at] + bytes(min(length, len(data) - at)) + data[at + length :]
        elif kind == "number":  # where a size or a place may stand: something far too large
            size = 1 << c % 4
            data = data[:at] + (2 ** (8 * size) - 1 - c % 3).to_bytes(size, "big") + data[at + size :]
        elif kind == "repeat":
            data = data[:at] + data[at : at + length] * (1 + c % 5) + data[at:]
    return data


def check(outcome) -> None:
    """An outcome that the packing can write down and a person can read."""
    if isinstance(outcome, Usable):
        assert outcome.pixels.shape == (32, 32, 3) and outcome.pixels.dtype == np.uint8
        text = outcome.source
    elif isinstance(outcome, Labels):
        assert outcome.labels and all(isinstance(part, str) for pair in outcome.labels.items() for part in pair)
        text = outcome.key + "".join(outcome.labels)
    else:
        assert isinstance(outcome, LeftOut)
        text = outcome.source + outcome.reason + outcome.detail
    text.encode("utf-8")


# --- whole ones come through ------------------------------------------------------------------

ENDINGS = {"png": "PNG", "bmp": "BMP", "tif": "TIFF", "gif": "GIF", "ppm": "PPM", "tga": "TGA"}
# Names as disks have them: no slash, no NUL, not hidden.
part = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda text: text.strip(". ") and not text.startswith(".") and text != "__MACOSX" and len(text.encode()) < 80
)
trees = st.dictionaries(
    st.tuples(part, st.sampled_from(list(ENDINGS))), st.binary(min_size=27, max_size=27), min_size=1, max_size=6
)


@given(trees, st.sampled_from(["folder", "zip", "tar"]))
@settings(60)
def test_whole_files_come_through(place, tree, kind):
    """Names, pixels and labels; twice the same name by accents stored one way and the other counts once."""
    files, wanted = {}, {}
    for (name, ending), levels in tree.items():
        small = Image.fromarray(np.frombuffer(levels, np.uint8).reshape(3, 3, 3) // 64 * 64)
        image = small.resize((32, 32), Image.Resampling.NEAREST)
        if any(printable(name) == printable(other.partition("/")[2].rpartition(".")[0]) for other in files):
            continue
        files[f"d/{name}.{ending}"] = encoded(image, ENDINGS[ending])
        files[f"d/{name}.csv"] = labels(1 + levels[0] % 5)
        wanted[printable(f"d/{name}.{ending}")] = (np.asarray(image), 1 + levels[0] % 5)
    before = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    root = place / "tree" / hashlib.sha256(repr(sorted(before.items())).encode()).hexdigest()[:16]
    if kind == "folder":
        source = FolderSource(fill_folder(root, files))
    else:
        source = ArchiveSource({"zip": make_zip, "tar": make_tar}[kind](root.with_suffix(f".{kind}"), files))
    outcomes = [outcome for task in source.tasks(0) for outcome in run_task(task, Form(32))]
    found = {outcome.source: outcome for outcome in outcomes if isinstance(outcome, Usable)}
    beside = {outcome.key: outcome.labels for outcome in outcomes if isinstance(outcome, Labels)}
    assert found.keys() == wanted.keys() and len(outcomes) == 2 * len(wanted)
    for name, (pixels, count) in wanted.items():
        assert (found[name].pixels == pixels).all()
        assert len(beside[name.rpartition(".")[0]]) == count
        assert found[name].labels == {"folder": "d"}
    if kind == "folder":
        after = {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*.*")}
        assert after == before


values = st.dictionaries(
    st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1).map(str.strip).filter(bool),
    st.tuples(st.integers(0, 99), st.integers(1, 9)),
    min_size=1,
).filter(lambda table: not table.keys() & {"source", "sha256"})


@given(values, st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
@settings(80)
def test_whole_labels_come_through(table, encoding):
    text = io.StringIO()
    rows = [[name, index, index + more] for name, (index, more) in table.items()]
    csv.writer(text, quoting=csv.QUOTE_NONNUMERIC).writerows(rows)
    data = text.getvalue().encode(encoding)
    wanted = {name: str(index) for name, (index, _) in table.items()}
    assert outcomes_of("a.csv", data, Form(32), {}) == [Labels("a", wanted)]


@given(st.binary(min_size=1, max_size=40).filter(lambda name: not set(name) & {0, 47} and name.strip(b".")))
@settings(60)
def test_names_of_any_bytes_come_out_legibly(place, name):
    root = os.fsencode(place / "bytes" / hashlib.sha256(name).hexdigest()[:16])
    os.makedirs(root, exist_ok=True)
    with open(root + b"/x" + name + b".png", "wb") as file:
        file.write(encoded(drawing(1, 4, 4)))
    (task,) = FolderSource(Path(os.fsdecode(root))).tasks(0)
    (outcome,) = run_task(task, Form(32))
    assert isinstance(outcome, Usable) and outcome.source == printable(os.fsdecode(b"x" + name + b".png"))
    assert outcome.source.isprintable() or not any(ord(c) < 32 or c in "\x7f\u2028\u202e" for c in outcome.source)
    outcome.source.encode("utf-8")


# --- broken ones are named --------------------------------------------------------------------

WHOLE = whole_images()
kinds = st.sampled_from(list(WHOLE))


def check_image(name: str, other: str, changes) -> None:
    data = mutated(WHOLE[name], WHOLE[other], changes)
    outcome = outcomes_of(name, data, Form(32), {})[0]
    check(outcome)
    assert not isinstance(outcome, LeftOut) or outcome.reason


def check_table(other: str, changes) -> None:
    check(outcomes_of("a.csv", mutated(labels(9).decode().encode("utf-16" if changes[0][1] % 2 else "utf-8"),
                                      WHOLE[other], changes), Form(32), {})[0])  # fmt: skip


def check_archive(place: Path, archives: dict[str, bytes], name: str, other: str, changes) -> None:
    path = place / f"mutated-{name}"
    data = mutated(archives[name], archives[other], changes)
    path.write_bytes(data)
    try:
        for task in OwnSet("zip", path).source(False).tasks(0):
            for outcome in run_task(task, Form(32)):
                check(outcome)
    except toongan.ToonGANError as error:
        assert str(path) in str(error) and "; " in str(error)
    assert path.read_bytes() == data


@pytest.fixture(scope="module")
def archives(place) -> dict[str, bytes]:
    return whole_archives(place)


def test_what_is_mutated_was_whole(archives, place):
    for name, data in WHOLE.items():
        assert isinstance(outcomes_of(name, data, Form(32), {})[0], Usable) or name == "phone.heic", name
    for name, data in archives.items():
        (place / name).write_bytes(data)
        outcomes = [outcome for task in ArchiveSource(place / name).tasks(0) for outcome in run_task(task, Form(32))]
        assert [type(outcome) for outcome in outcomes[:4]] == [Usable, Labels, Usable, Usable], name


@given(kinds, kinds, MUTATIONS)
@settings(800)
def test_mutated_images(name, other, changes):
    check_image(name, other, changes)


@given(kinds, MUTATIONS)
@settings(200)
def test_mutated_tables(other, changes):
    check_table(other, changes)


@given(st.data(), MUTATIONS)
@settings(400)
def test_mutated_archives(place, archives, data, changes):
    name, other = (data.draw(st.sampled_from(list(archives))) for _ in range(2))
    check_archive(place, archives, name, other, changes)


@given(st.lists(st.tuples(kinds, kinds, MUTATIONS), min_size=30, max_size=30))
@settings(3)
def test_folders_with_mutated_files_are_packed_and_left_as_they_are(place, broken):
    """Through the front door, with every file either in index.csv or in left-out.csv."""
    files = images(64) | {
        f"{number}-{name}": mutated(WHOLE[name], WHOLE[other], changes)
        for number, (name, other, changes) in enumerate(broken)
    }
    home = place / hashlib.sha256(b"".join(files.values())).hexdigest()[:16]
    folder = fill_folder(home / "mine", files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOONGAN_HOME", str(home))
        data = toongan.prepare(toongan.DataConfig(f"folder:{folder}", image_size=32), progress=False)
    assert len(data) >= 64 and len(data) + sum(data.left_out.values()) == len(files)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


@pytest.mark.soak
def test_thousands_of_mutated_files(place, archives):
    done = dict.fromkeys(("images", "archives", "tables"), 0)

    @given(kinds, kinds, MUTATIONS)
    @settings(2 * SOAK)
    def images_(name, other, changes):
        done["images"] += 1
        check_image(name, other, changes)

    @given(st.data(), MUTATIONS)
    @settings(SOAK)
    def archives_(data, changes):
        name, other = (data.draw(st.sampled_from(list(archives))) for _ in range(2))
        done["archives"] += 1
        check_archive(place, archives, name, other, changes)

    @given(kinds, MUTATIONS)
    @settings(SOAK)
    def tables(other, changes):
        done["tables"] += 1
        check_table(other, changes)

    images_(), archives_(), tables()
    print(f"{sum(done.values()):,} mutated files: {done}")
    assert sum(done.values()) >= 4000
