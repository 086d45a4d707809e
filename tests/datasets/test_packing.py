"""Killed, full, interrupted, two at once: what is on disk stays good."""

import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, command
from makers import drawing, encoded, fill_folder, images, make_tar

import toongan
from toongan.datasets import outcomes, packed, packing, reading
from toongan.datasets.catalogue import DrawnSet
from toongan.datasets.outcomes import Form

SOURCE = "folder:{home}/mine"


def prepare(home: Path, count: int | None = None, dataset: str = SOURCE) -> toongan.PackedDataset:
    config = toongan.DataConfig(dataset.format(home=home), image_size=32, count=count)
    return toongan.prepare(config, progress=False)


def start(home: Path, dataset: str, *options, command: tuple[str, ...] = ("data",)) -> subprocess.Popen:
    given = (*command, dataset.format(home=home), "--image-size", "32", *options)
    return subprocess.Popen(
        [sys.executable, "-m", "toongan", *map(str, given)],
        cwd=REPOSITORY,
        env={**os.environ, "TOONGAN_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def visible(home: Path) -> list[str]:
    """What a user sees under data/: everything that is whole."""
    return sorted(str(path.relative_to(home / "data")) for path in (home / "data").glob("[!.]*/[!.]*"))


def wait_for(condition, process: subprocess.Popen) -> None:
    while not condition():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)


@pytest.mark.parametrize("dataset, count", [(SOURCE, 4000), ("avatars", 1500)])
def test_killed_while_packing_goes_on_to_the_same_bytes(home, dataset, count, tmp_path_factory):
    """kill -9, several times, at moments spread over the work; then to the end."""
    if dataset == SOURCE:
        fill_folder(home / "mine", images(count) | {"a.txt": b"x"})
    for share in (0.1, 0.4, 0.8):
        process = start(home, dataset, "--count", count)
        wait_for(
            lambda share=share: any(
                path.stat().st_size > share * count * 32 * 32 * 3
                for path in (home / "data").glob("*/.32px.part/images.npy")
            ),
            process,
        )
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert visible(home) == []
        assert len(list((home / "data").glob("*/.32px.part"))) == 1
    data = prepare(home, count, dataset)
    index = (data.folder / "index.csv").read_bytes()
    assert not list((home / "data").glob("*/.32px.part"))
    other = tmp_path_factory.mktemp("other")
    if dataset == SOURCE:
        shutil.copytree(home / "mine", other / "mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOONGAN_HOME", str(other))
        whole = prepare(other, count, dataset)
    assert data.fingerprint == whole.fingerprint == packed.fingerprint_of(data.images)
    assert (whole.folder / "index.csv").read_bytes() == index


def test_what_was_done_is_not_done_again(home, monkeypatch):
    """After an interrupt the rest is decoded, and only the rest."""
    fill_folder(home / "mine", images(640))
    monkeypatch.setattr(packing, "cores", lambda: 1)
    decoded = []
    read = reading.images_in

    def counted(data: bytes, form: Form):
        decoded.append(data)
        if len(decoded) == 400:
            raise KeyboardInterrupt  # in the middle of the seventh task of 64
        return read(data, form)

    monkeypatch.setattr(reading, "images_in", counted)
    with pytest.raises(KeyboardInterrupt):
        prepare(home)
    assert len(prepare(home)) == 640
    assert len(decoded) <= 640 + 64


def test_changed_source_begins_anew(home, monkeypatch):
    folder = fill_folder(home / "mine", images(640))
    monkeypatch.setattr(packing, "cores", lambda: 1)
    monkeypatch.setattr(packing, "COMMIT_SECONDS", 0)
    with monkeypatch.context() as patch:
        patch.setattr(packing.Part, "write_tables", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(home)
    (folder / "face-0000.png").write_bytes(encoded(drawing(5000)))
    data = prepare(home)
    assert (data.images[0] == np.asarray(drawing(5000).resize((32, 32), 1))).all()


@pytest.mark.parametrize("command", [("data",), ("train", "--dataset")], ids=" ".join)
def test_interrupt_says_how_to_go_on(home, command):
    fill_folder(home / "mine", images(6000))
    process = start(home, SOURCE, command=command)
    wait_for(lambda: list((home / "data").glob("*/.32px.part/journal.sqlite")), process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: every process of the group
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert "Interrupted. Run the same command again to continue." in errors
    assert visible(home) == []
    assert len(prepare(home)) == 6000


@pytest.mark.parametrize("dataset", [SOURCE, "tar:{home}/faces.tgz", "avatars"])
def test_disk_full_while_packing(home, small_disk, dataset):
    """One sentence; after making space it continues."""
    fill_folder(home / "mine", images(900))
    make_tar(home / "faces.tgz", images(900))
    small_disk.fill()
    arguments = ["data", dataset.format(home=home), "--image-size", 32, "--count", 900]
    done = small_disk.run(*arguments)
    assert done.returncode == 2
    errors = done.stderr.strip().splitlines()
    assert len(errors) == 1 and "No space left on device" in errors[0], done.stderr
    assert "free some space and run the same command again, or set TOONGAN_HOME" in errors[0]
    assert "What is packed so far is kept (" in errors[0]
    small_disk.free()
    done = small_disk.run(*arguments)
    assert done.returncode == 0, done.stderr
    assert "900 images of 32 px" in done.stdout


def test_kill_between_the_two_renames(home, monkeypatch):
    """The moment between the old copy's leaving and the new one's coming."""
    folder = fill_folder(home / "mine", images(70))
    before = prepare(home)
    (folder / "new.png").write_bytes(encoded(drawing(5000)))
    rename = os.replace

    def dies(source, target):
        if Path(source).name.endswith(".part"):
            raise SystemExit("killed")
        return rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dies)
        with pytest.raises(SystemExit):
            prepare(home)
    assert not before.folder.exists()
    shutil.rmtree(folder)  # and the source is gone, too
    assert len(prepare(home)) == 70


def test_two_processes_pack_once(home):
    fill_folder(home / "mine", images(3000))
    first = start(home, SOURCE)
    wait_for(lambda: list((home / "data").glob("*/.32px.part")), first)
    second = start(home, SOURCE)
    texts = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert first.returncode == second.returncode == 0
    assert "Packing" in texts[0] and "Packing" not in texts[1]
    assert f"is being made by process {first.pid} since " in texts[1]
    assert all("3,000 images of 32 px" in text for text in texts)


def test_home_that_cannot_be_written(home):
    fill_folder(home / "mine", images(70))
    (home / "data").write_text("in the way")
    with pytest.raises(toongan.ToonGANError, match="Cannot write to .*TOONGAN_HOME"):
        prepare(home)


def test_duplicates_among_avatars_are_drawn_over(home, monkeypatch):
    """Whatever repeats is left out, and the number asked for is reached all the same."""
    from toongan.datasets import avatars

    compose = avatars.compose
    monkeypatch.setattr(avatars, "compose", lambda style, number, **how: compose(style, number // 2, **how))
    monkeypatch.setattr(packing, "cores", lambda: 1)
    data = prepare(home, 100, "avatars")
    assert len(data) == 100 and data.left_out[outcomes.DUPLICATE] >= 99
    assert len({image.tobytes() for image in data.images}) == 100


def test_a_worker_that_dies_is_reported(home, monkeypatch):
    fill_folder(home / "mine", images(3000))
    passed, calls = packing.Part.passed, []

    def kills_a_child(part, task):
        passed(part, task)
        calls.append(task)
        if len(calls) == 3:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(packing.Part, "passed", kills_a_child)
        with pytest.raises(toongan.ToonGANError, match="A process died while packing .* run the same command again"):
            prepare(home)
    assert len(prepare(home)) == 3000


def test_header_has_one_length_for_every_count():
    lengths = {len(packing.npy_header(count, Form(64))) for count in (0, 1, 999, 1_000_000)}
    assert len(lengths) == 1


@pytest.mark.parametrize("name", ["images.npy", "meta.json"])
def test_damaged_folder_is_named(home, name):
    fill_folder(home / "mine", images(70))
    folder = prepare(home).folder
    (folder / name).write_bytes(b"")
    with pytest.raises(toongan.ToonGANError, match="32px is damaged; delete it"):
        packed.open_packed(folder)


@pytest.mark.parametrize("name", ["images.npy", "index.csv", "meta.json"])
@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_damaged_folder_is_made_anew_while_its_source_is_there(home, name, damage):
    fill_folder(home / "mine", images(70))
    data = prepare(home)
    path = data.folder / name
    path.unlink() if damage == "missing" else path.write_bytes(b"")
    assert prepare(home).fingerprint == data.fingerprint


def test_count_above_what_a_folder_holds(home):
    fill_folder(home / "mine", images(70))
    folder = prepare(home).folder
    with pytest.raises(toongan.ToonGANError, match="count is 71, but .* holds only 70 images"):
        packed.open_packed(folder, 71)


def test_damaged_journal_begins_anew(home):
    fill_folder(home / "mine", images(70))
    part = home / "data" / toongan.datasets.find(SOURCE.format(home=home)).folder / ".32px.part"
    part.mkdir(parents=True)
    (part / "journal.sqlite").write_bytes(b"no data base")
    assert len(prepare(home)) == 70


def test_meta_tells_where_images_come_from(home):
    data = prepare(home, 64, "avatars:lorelei")
    meta = json.loads((data.folder / "meta.json").read_text(encoding="utf-8"))
    assert meta["dataset"] == "avatars:lorelei" and meta["license"] == "CC0 1.0"
    assert meta["fingerprint"] == packed.fingerprint_of(data.images) and meta["count"] == 64
    assert meta["made_from"] == DrawnSet("lorelei").source(False).signature()


def test_memory_stays_flat():
    """Ten times the images, no more memory: the process that packs holds none of them."""
    code = """
import re, sys, numpy as np
from pathlib import Path
from toongan.datasets.packing import pack
from toongan.datasets.outcomes import Form, Usable
class Task:
    size = work = 100
    def __init__(self, start): self.start = start
    def run(self, form):
        pixels = np.zeros((form.image_size, form.image_size, 3), np.uint8)
        return [Usable(f"a-{i}", i.to_bytes(32, "big"), pixels, {"hair": str(i % 7)}) for i in range(self.start, self.start + 100)]
class Source:
    unit = "images"
    def signature(self): return {}
    def amount(self, signature): return None
    def tasks(self, skip): return map(Task, range(0, int(sys.argv[2]), 100))
import toongan.datasets.packing
toongan.datasets.packing.cores = lambda: 1
pack(Source(), Path(sys.argv[1]) / "64px", Form(64), {}, progress=False)
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""
    import tempfile

    peak = []
    for count in (1000, 20_000):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-c", code, folder, str(count)], cwd=REPOSITORY, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            peak.append(int(done.stdout))
    assert peak[1] < peak[0] + 20_000, "kilobytes"


def test_sqlite_journal_is_gone_at_the_end(home):
    fill_folder(home / "mine", images(70))
    assert sorted(path.name for path in prepare(home).folder.iterdir()) == [
        "images.npy", "index.csv", "look.csv", "look.json", "meta.json", "preview.png",
    ]  # fmt: skip
    assert sqlite3.sqlite_version_info >= (3, 24)


def test_command_line_names_the_data_set(tmp_path):
    done = command("data", "folder:/no/such/place", home=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: NAME folder:/no/such/place is not there")


def test_a_folder_whose_name_is_no_text(home):
    raw = os.fsencode(home) + b"/bytes-\xff"
    fill_folder(Path(os.fsdecode(raw)), images(70))
    dataset = f"folder:{os.fsdecode(raw)}"
    data = prepare(home, dataset=dataset)
    assert len(data) == 70
    stamp = (data.folder / "images.npy").stat().st_mtime_ns
    assert (prepare(home, dataset=dataset).folder / "images.npy").stat().st_mtime_ns == stamp
