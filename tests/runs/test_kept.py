"""Nothing that a run made is lost: files come back from checkpoints, two processes keep apart, runs are made longer."""

import dataclasses
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY, TINY, command
from makers import drawing, encoded, fill_folder, images
from PIL import Image

import toongan
from toongan import paths
from toongan.presets import preset
from toongan.runs import Run, checkpoints, feeding, judge, length, resume, trainer
from toongan.runs.state_dicts import save_state
from toongan.system import locks

pytestmark = pytest.mark.usefixtures("few_faces")
CONFIG = toongan.TrainConfig(run="r", kimg=0.48, device="cpu", save_seconds=1e9, **TINY)


def train(progress: bool = False, **changes) -> Run:
    return toongan.train(dataclasses.replace(CONFIG, **changes), progress=progress)


def content(home: Path) -> dict[str, bytes]:
    """Every file of a home that belongs to a run."""
    found = [path for name in ("checkpoints", "generated") for path in (home / name).rglob("*") if path.is_file()]
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, few_drawn) -> Path:
    """A home with a finished run that has a best moment."""
    home = shutil.copytree(few_drawn, tmp_path_factory.mktemp("finished"), dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOONGAN_HOME", str(home))
        patch.setattr(judge, "JUDGED_KIMG", 0.1)
        patch.setattr(judge, "JUDGED", 32)
        train()
    return home


@pytest.fixture
def run(finished, home, monkeypatch) -> Run:
    """The finished run in a home of its own; it may not be trained again."""
    shutil.copytree(finished, home, dirs_exist_ok=True)
    monkeypatch.setattr(trainer.Trainer, "step", None)
    return Run.named("r")


# --- files come back ------------------------------------------------------------------------

LOST = {
    "G.pth": ["G.pth"],
    "D.pth": ["D.pth"],
    "G-best.pth": ["G-best.pth"],
    "run.json": ["run.json"],
    "history.csv": ["history.csv"],
    "all but the checkpoints": ["*.pth", "*.json", "*.csv", "*.png", "*.gif"],
}


@pytest.mark.parametrize("damage", ["gone", "cut short"])
@pytest.mark.parametrize("what", LOST)
def test_lost_files_come_back(run, finished, what, damage, capsys):
    for pattern in LOST[what]:
        for path in [*run.checkpoints.glob(pattern), *run.generated.glob(pattern)]:
            path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-100])
    train(progress=True)
    said = capsys.readouterr().out
    assert "again, from the checkpoint" in said and "Missing or damaged: " in said
    now, before = content(run.checkpoints.parent.parent), content(finished)
    lost = {name for name in before if name not in now}
    # A grid between the first and the last can be drawn again only where a checkpoint is of its moment.
    assert all("samples-" in name for name in lost) and (what.startswith("all") or not lost)
    film = "generated/r/generated.gif"
    assert {name for name in now if now[name] != before[name]} <= ({film} if lost else set())
    grids = [path.name for path in run.grids]
    assert grids[0] == "samples-000.png" and grids[-1] == max(Path(name).name for name in before if "samples" in name)
    with Image.open(run.generated / "generated.gif") as images_:
        assert images_.n_frames == len(grids)


def test_a_folder_of_images_that_is_gone_comes_back(run, capsys):
    """As on a machine where only checkpoints/ was copied to."""
    shutil.rmtree(run.generated)
    train(progress=True)
    assert "missing sample grids again; no checkpoint kept" in capsys.readouterr().out
    assert {"losses.png", "scores.png", "quality.png", "generated.gif"} <= {path.name for path in run.files()}


@pytest.mark.parametrize("damage", ["gone", "cut short"])
@pytest.mark.parametrize("which", ["*.pt", "last.pt"])
def test_a_finished_run_needs_no_checkpoint(run, finished, which, damage, capsys):
    """To save space they are the first that people delete. An older one that is left is no reason to train again."""
    for path in run.checkpoints.glob(which):
        path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-100])
    train(progress=True)
    assert "last.pt of r is missing or damaged, but not needed" in capsys.readouterr().out
    with pytest.raises(toongan.ToonGANError, match="extend continues from a run's checkpoint, last.pt, but r has none"):
        train(extend=True, kimg=2.0)
    before, now = content(finished), content(run.checkpoints.parent.parent)
    assert {name: data for name, data in now.items() if not name.endswith(".pt")} == {
        name: data for name, data in before.items() if not name.endswith(".pt")
    }


@pytest.mark.parametrize("left", ["*.pth", "*.pt"])
def test_a_best_generator_that_is_lost_for_good(run, left, capsys):
    """No reason to train again, nor to say each time that it is missing. Bundled runs come without it, too."""
    for path in (
        run.best_path,
        run.checkpoints / "best.pt",
        *(run.checkpoints.glob("*.pt") if left == "*.pth" else ()),
    ):
        path.unlink(missing_ok=True)
    before = content(run.checkpoints.parent.parent)
    train(progress=True)
    said = capsys.readouterr().out
    assert "r is finished" in said and "Missing or damaged" not in said
    assert content(run.checkpoints.parent.parent) == before


@pytest.mark.parametrize("name", ["avatars-64", "avatars-128", "adventurer-64", "on-request-64"])
def test_a_bundled_run_is_finished(name):
    """Its command must neither train for hours nor move the files of the repository away."""
    bundled = Run(name, REPOSITORY / "checkpoints" / name, REPOSITORY / "generated" / name)
    known = resume.finished_without_checkpoint(bundled)
    assert known["done"] == known["steps"] and resume.changes(preset(name), known) == []


@pytest.mark.parametrize("name", ["G.pth", "run.json"])
def test_faces_are_drawn_from_a_run_that_lost_a_file(run, home, name):
    before = (run.checkpoints / name).read_bytes()
    (run.checkpoints / name).unlink()
    toongan.generate(toongan.GenerateConfig(run="r", count=4, out=home / "grid.png"))
    assert (run.checkpoints / name).read_bytes() == before


def test_files_that_an_editor_saved_with_a_mark_of_its_own(run):
    """Windows' Notepad puts a byte order mark in front."""
    for path in (run.info_path, run.history_path):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert run.info()["done"] == 30 and run.history()["step"][0] == 1


def test_a_net_that_somebody_put_there_is_kept(run):
    """It may be dearer to them than ours: used as it is, and kept where the run writes its own again."""
    own = run.generator_path.read_bytes()
    changed = toongan.load_generator(run.generator_path)
    next(changed.parameters()).add_(1)
    save_state(run.generator_path, changed)
    theirs = run.generator_path.read_bytes()
    assert theirs != own
    toongan.find_run("r")
    assert run.generator_path.read_bytes() == theirs, "drawing faces with it changes nothing"
    train()
    assert run.generator_path.read_bytes() == own
    assert (run.checkpoints / "G-other.pth").read_bytes() == theirs


def test_checkpoints_go_only_when_their_files_are_proved(run):
    """Set aside, a whole run drops what it needs no more; one with a damaged net keeps all."""
    run.set_aside()
    previous = Run.named("r-previous")
    assert {path.name for path in previous.checkpoints.glob("*.pt")} == {"last.pt"}
    previous.best_path.write_bytes(previous.best_path.read_bytes()[:-1])
    (previous.checkpoints / "best.pt").write_bytes(b"x")
    previous.set_aside()
    assert {path.name for path in Run.named("r-previous-previous").checkpoints.glob("*.pt")} == {"last.pt", "best.pt"}


def test_set_aside_by_a_process_that_was_killed_in_between(run, monkeypatch):
    """The grids had been moved, the checkpoints not yet."""
    before = content(run.checkpoints.parent.parent)
    run.generated.rename(run.generated.with_name("r-previous"))
    run.make()
    run.set_aside()
    home = run.checkpoints.parent.parent
    after = {name.replace("r-previous", "r"): data for name, data in content(home).items() if "r-previous" in name}
    dropped = {"checkpoints/r/previous.pt", "checkpoints/r/best.pt"}
    assert after == {name: data for name, data in before.items() if name not in dropped}


# --- two at once ----------------------------------------------------------------------------

HOLD = """
import sys
from toongan.runs import Run
with Run.named("r").locked():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def another_process(home):
    """Another process that holds the run `r`."""
    environment = {**os.environ, "TOONGAN_HOME": str(home)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD],
        cwd=REPOSITORY, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("changes", [{}, {"restart": True}, {"extend": True, "kimg": 2.0}])
def test_a_run_is_trained_by_one_process(run, another_process, home, changes):
    before = content(home)
    with pytest.raises(toongan.ToonGANError) as caught:
        train(**changes)
    clock = time.strftime("%H:")
    assert f"r is being trained by process {another_process.pid} since {clock}" in str(caught.value)
    assert "another" not in str(caught.value) and "--run" in str(caught.value)
    assert content(home) == before
    another_process.kill()
    another_process.wait()
    assert train().info()["finished"], "a killed process leaves no obstacle"


def test_two_runs_at_once_do_not_hinder_each_other(home, another_process):
    assert train(run="other", kimg=0.32).info()["finished"]


@pytest.fixture
def no_locks(monkeypatch):
    """A disk without locks, as Google Drive and some network disks are."""
    import errno

    def refuse(file):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(locks, "lock_file", refuse)


def test_disks_without_locks_have_a_soft_one(home, no_locks, monkeypatch):
    run = train(kimg=0.32)
    assert run.info()["finished"] and not list((home / ".locks").glob("*.held"))
    assert len(toongan.prepare(toongan.DataConfig("avatars:lorelei", 64, 32), progress=False)) == 64
    with run.locked():
        with pytest.raises(toongan.ToonGANError, match=f"is being trained by process {os.getpid()} since "):
            train()
    stale = home / ".locks" / "run-r.held"
    process = multiprocessing.get_context("spawn").Process(target=int)
    process.start()
    process.join()
    stale.write_bytes(locks.written(dataclasses.replace(locks.Holder.me(), pid=process.pid)))
    assert train().info()["finished"], "its process is gone"

    stale.write_bytes(locks.written(locks.Holder(1, "a machine that is gone", time.time())))
    with pytest.raises(toongan.ToonGANError, match="on a machine that is gone"):
        train()
    os.utime(stale, (time.time() - 200,) * 2)
    assert train().info()["finished"] and not stale.exists(), "nobody has touched it for three minutes"


def test_a_soft_lock_is_touched_while_it_is_held(home, no_locks, monkeypatch):
    monkeypatch.setattr(locks, "BEAT", 0.01)
    path = home / "x.lock"
    touched = threading.Event()
    monkeypatch.setattr(locks.os, "utime", lambda path: touched.set())
    with locks.hold(path):
        assert touched.wait(10)


# --- a file that another program has open -----------------------------------------------------


def failing(action, times: int):
    """`os.replace` as Windows has it while a virus scanner or a viewer looks at the file."""
    left = [times]

    def replace(source, target, **options):
        if left[0] and str(target).endswith("G.pth"):
            left[0] -= 1
            raise PermissionError(13, "The process cannot access the file", str(source), None, str(target))
        return action(source, target, **options)

    return replace


def test_a_file_that_is_open_for_a_moment_stops_nothing(home, monkeypatch):
    monkeypatch.setattr(os, "replace", failing(os.replace, 3))
    assert train(kimg=0.32).info()["finished"]


def test_a_file_that_stays_open_is_named(home, monkeypatch):
    monkeypatch.setattr(os, "replace", failing(os.replace, 10**9))
    monkeypatch.setattr(paths, "PATIENCE", 0.3)
    with pytest.raises(toongan.ToonGANError) as caught:
        train(kimg=0.32)
    said = str(caught.value)
    assert "G.pth (The process cannot access the file); close the program that has it open" in said
    assert "space" not in said


# --- the same images ------------------------------------------------------------------------


def test_the_fingerprint_decides_not_the_spelling(home, monkeypatch, capsys):
    folder = fill_folder(home / "a" / "mine", images(70))
    config = dict(dataset=f"folder:{folder}", count=None)
    run = train(**config)
    before = run.generator_path.read_bytes()
    monkeypatch.setattr(trainer.Trainer, "step", None)
    moved = home / "elsewhere" / "drawings"
    shutil.copytree(folder, moved)
    for dataset, count in (
        (f"folder:{home}/a/../a/mine", None),
        (f"folder:{folder}", 70),
        (f"folder:{moved}", None),
    ):
        train(dataset=dataset, count=count)
    shutil.rmtree(folder)
    shutil.rmtree(home / "data" / toongan.datasets.find(f"folder:{moved}").folder)
    train(dataset=f"folder:{moved}", count=None)
    assert run.generator_path.read_bytes() == before and not Run.named("r-previous").checkpoints.exists()
    monkeypatch.undo()
    monkeypatch.setenv("TOONGAN_HOME", str(home))
    (moved / "new.png").write_bytes(encoded(drawing(999)))
    train(progress=True, dataset=f"folder:{moved}", count=None)
    assert "is finished, but with other settings (--dataset was folder:" in capsys.readouterr().out
    assert Run.named("r-previous").generator_path.read_bytes() == before


def test_drawn_sets_are_compared_without_drawing(run, monkeypatch):
    monkeypatch.setattr(feeding, "prepare", None)
    train(dataset="avatars:avataaars")


def test_our_own_output_is_never_data(home, monkeypatch):
    """The images' folder is also the home: previews, grids and curves lie among them."""
    fill_folder(home, images(70))
    config = dict(dataset=f"folder:{home}", count=None)
    run = train(**config)
    assert run.info()["data"]["count"] == 70
    toongan.generate(toongan.GenerateConfig(run="r", count=4, out=home / "grid.png"))
    made = {path.name: path for path in run.generated.iterdir() if path.suffix in (".png", ".gif")}
    for name, path in made.items():  # somebody copies them out of the run's folder
        shutil.copy(path, home / f"copy of {name}")
    again = toongan.prepare(toongan.DataConfig(f"folder:{home}", image_size=32), progress=False)
    assert len(again) == 70 and again.fingerprint == run.info()["data"]["fingerprint"]
    assert {"losses.png", "scores.png", "generated.gif"} <= set(made)
    assert again.left_out == {"made by this program": 1 + len(made)}
    monkeypatch.setattr(trainer.Trainer, "step", None)
    assert train(**config).info()["finished"]


# --- longer -----------------------------------------------------------------------------------


def test_a_finished_run_is_made_longer(home, monkeypatch, capsys):
    first = train()
    before, rows, grids = content(home), first.history()["step"], len(first.grids)
    longer = train(progress=True, extend=True, kimg=0.96)
    said = capsys.readouterr().out
    rates = r"The learning rate continues at \d\d% of its peak and falls to 10% by the end\."
    assert re.search(
        rf"Continuing from 0\.48 to 0\.96 thousand images\. {rates} The shorter run is kept as .*r-previous", said
    )
    info, history = longer.info(), longer.history()
    assert info["finished"] and info["kimg"] == 0.96 and info["extensions"] == [{"at": 30, "from": 30, "to": 60}]
    assert history["step"][: len(rows)] == rows and history["step"][-1] == 60 == len(set(history["step"]))
    assert len(longer.grids) > grids and longer.generator_path.read_bytes() != before["checkpoints/r/G.pth"]
    previous = content(home)
    for name in before.keys() - {"checkpoints/r/previous.pt"}:  # which nothing needs any more
        assert previous[name.replace("/r/", "/r-previous/")] == before[name], name
    with Image.open(longer.generated / "generated.gif") as film:
        assert film.n_frames == len(longer.grids)
    assert train(extend=True, kimg=0.96).info() == info, "the same command again"
    assert train(kimg=0.96).info() == info
    assert not Run.named("r-previous-2").checkpoints.exists()


def test_a_longer_run_may_be_stopped_and_killed(home, monkeypatch):
    train(run="a")
    wanted = train(run="a", extend=True, kimg=0.96)
    train()
    original, calls = checkpoints.save, []

    def dying(folder, state):
        calls.append(state["done"])
        if len(calls) == 1:
            raise KeyboardInterrupt  # in the moment in which the longer plan is written
        return original(folder, state)

    monkeypatch.setattr(checkpoints, "save", dying)
    with pytest.raises(KeyboardInterrupt):
        train(extend=True, kimg=0.96)
    step = trainer.Trainer.step

    def stop(self, number, steps):
        if number == 41:
            monkeypatch.setattr(trainer.Trainer, "step", step)
            raise KeyboardInterrupt
        return step(self, number, steps)

    monkeypatch.setattr(trainer.Trainer, "step", stop)
    with pytest.raises(KeyboardInterrupt):
        train(extend=True, kimg=0.96, save_seconds=0)
    run = train(extend=True, kimg=0.96)
    assert run.generator_path.read_bytes() == wanted.generator_path.read_bytes()
    assert [path.read_bytes() for path in run.grids] == [path.read_bytes() for path in wanted.grids]
    assert not Run.named("r-previous-2").checkpoints.exists(), "the shorter run is kept once"


def test_longer_with_the_same_images_in_another_place(home):
    folder = fill_folder(home / "a", images(70))
    train(dataset=f"folder:{folder}", count=None)
    moved = folder.rename(home / "b")
    longer = train(dataset=f"folder:{moved}", count=None, extend=True, kimg=0.96)
    assert longer.info()["kimg"] == 0.96


def test_longer_by_minutes(home, monkeypatch):
    monkeypatch.setattr(length, "measure_speed", lambda trainer, progress: 100.0)
    by_minutes = dict(kimg=None, minutes=0.1)
    run = train(**by_minutes)
    steps = run.info()["steps"]
    longer = train(extend=True, kimg=None, minutes=0.3)
    assert longer.info()["steps"] >= steps + 40 and longer.info()["length"]["minutes"] == 0.3
    monkeypatch.setattr(length, "measure_speed", None)
    assert train(extend=True, kimg=None, minutes=0.3).info() == longer.info()


@pytest.mark.parametrize(
    "changes, says",
    [
        (
            {"kimg": None},
            "extend needs the length of the whole run, --kimg or --minutes; r has 0.48 thousand images",
        ),
        ({"kimg": 0.32}, "extend needs the length of the whole run; r has 0.48 thousand images"),
        ({"kimg": 2.0, "seed": 7}, "extend continues with the same settings, but --seed was 0 and is now 7"),
        ({"kimg": 2.0, "run": "nobody"}, "extend continues from a run's checkpoint, last.pt, but nobody has none"),
    ],
)
def test_what_cannot_be_made_longer(run, home, changes, says):
    before = content(home)
    with pytest.raises(toongan.ToonGANError) as caught:
        train(extend=True, **changes)
    assert says in str(caught.value)
    assert {name: data for name, data in content(home).items() if "nobody" not in name} == before


def test_longer_and_anew_exclude_each_other(tmp_path):
    done = command("train", "--extend", "--restart", home=tmp_path)
    assert done.returncode == 2 and "--extend continues a run, and restart starts over" in done.stderr


def test_a_shorter_run_is_extended_from_the_mirror(home, tmp_path, monkeypatch):
    drive = tmp_path / "drive"
    train(mirror=drive)
    monkeypatch.setenv("TOONGAN_HOME", str(tmp_path / "fresh"))
    longer = train(mirror=drive, extend=True, kimg=0.96)
    assert json.loads(longer.info_path.read_text())["done"] == 60
    assert Run.named("r-previous").info()["done"] == 30
