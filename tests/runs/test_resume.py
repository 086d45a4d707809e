"""Stopped, killed, out of space, out of numbers: a run goes on, and ends with the same bytes."""

import copy
import dataclasses
import itertools
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import COMMAND, REPOSITORY, TINY, results
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import register_parametrization

import toongan
from toongan import cli
from toongan.models import Discriminator, SpectralNorm, down_block, init_weights
from toongan.runs import Run, checkpoints, judge, length, mirror, record, trainer

pytestmark = pytest.mark.usefixtures("few_faces")
STEPS = 40
CONFIG = toongan.TrainConfig(run="r", kimg=STEPS * TINY["batch_size"] / 1000, device="cpu", save_seconds=0, **TINY)


def train(**changes) -> Run:
    return toongan.train(dataclasses.replace(CONFIG, **changes), progress=False)


def stop_at(monkeypatch, step: int, error: BaseException | None = None):
    """Let training receive SIGINT in the middle of a step, or raise `error` there."""
    original = trainer.Trainer.step

    def stopping(self, number, steps):
        values = original(self, number, steps)
        if number == step:
            monkeypatch.setattr(trainer.Trainer, "step", original)
            if error is not None:
                raise error
            os.kill(os.getpid(), signal.SIGINT)
        return values

    monkeypatch.setattr(trainer.Trainer, "step", stopping)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, few_drawn) -> dict:
    """By recipe: the results of a run that was never stopped."""
    found = {}
    for recipe in ("modern", "classic"):
        with pytest.MonkeyPatch.context() as patch:
            home = shutil.copytree(few_drawn, tmp_path_factory.mktemp(recipe), dirs_exist_ok=True)
            patch.setenv("TOONGAN_HOME", str(home))
            found[recipe] = results(train(recipe=recipe, save_seconds=1e9))
    return found


@pytest.mark.parametrize("recipe, step", [("classic", 17), *(("modern", step) for step in (0, 1, 17, 38, 39))])
def test_stopped_at_any_step_and_resumed(home, monkeypatch, whole, recipe, step):
    stop_at(monkeypatch, step)
    stopped = train(recipe=recipe)
    assert stopped.info()["done"] == step + 1
    assert results(train(recipe=recipe)) == whole[recipe]


def test_a_palette_stopped_resumed_and_written_again(home, monkeypatch):
    colours = {"colours": 3, "precision": "bf16"}
    run = train(**colours)
    assert toongan.load_generator(run.generator_path).colours == 3
    before = results(run)
    run.generator_path.unlink()
    assert results(train(**colours)) == before, "from last.pt"
    stop_at(monkeypatch, 11)
    train(restart=True, **colours)
    assert results(train(precision="bf16")) == before, "the number of colours is that of the run, if none is given"
    with pytest.raises(toongan.ToonGANError, match="--colours was 3 and is now 0"):
        stop_at(monkeypatch, 11)
        train(restart=True, **colours)
        train(colours=0, precision="bf16")


def test_d_goes_on_seeing_differences_or_none(home, monkeypatch):
    run = train(differences=True)
    before = results(run)
    assert toongan.runs.load_discriminator(run.discriminator_path).differences
    run.discriminator_path.unlink()
    assert results(train(differences=True)) == before, "from last.pt"
    stop_at(monkeypatch, 11)
    train(restart=True, differences=True)
    assert results(train()) == before
    stop_at(monkeypatch, 11)
    train(restart=True)
    saved = checkpoints.read(run.checkpoints / checkpoints.LAST)
    assert "main.0.gain" not in saved["trainer"]["D"]
    del saved["settings"]["differences"]  # as earlier versions recorded them
    torch.save(saved, run.checkpoints / checkpoints.LAST)
    with pytest.raises(toongan.ToonGANError, match="--differences was False and is now True"):
        train(differences=True)
    assert train().info()["finished"], "it goes on without"


def test_many_flat_drawings_get_a_palette_and_keep_it(home, monkeypatch, capsys):
    monkeypatch.setattr(record, "FEW_IMAGES", 10)
    monkeypatch.setattr(record, "COLOURS_AT", 32)
    stop_at(monkeypatch, 11)
    toongan.train(CONFIG, progress=True)
    assert "modern recipe, 8 colours, differences\n" in capsys.readouterr().out
    monkeypatch.setattr(record, "FEW_IMAGES", 10_000)  # as if a later version chose otherwise
    run = train()
    assert run.info()["finished"] and toongan.load_generator(run.generator_path).colours == 8
    assert toongan.runs.load_discriminator(run.discriminator_path).differences


def test_stopped_again_and_again(home, monkeypatch, whole):
    for step in (3, 8, 9, 31):
        stop_at(monkeypatch, step)
        train()
    assert results(train()) == whole["modern"]


@pytest.mark.parametrize("save_seconds", [0, 1e9])
def test_crashed_in_the_middle_of_a_step(home, monkeypatch, whole, save_seconds):
    """Whether the last checkpoint is of the step before or of the beginning."""
    stop_at(monkeypatch, 23, RuntimeError("CUDA out of memory"))
    with pytest.raises(toongan.ToonGANError, match="batch_size 16 is too much for the memory of this GPU; try 8"):
        train(save_seconds=save_seconds)
    assert results(train()) == whole["modern"]


def test_memory_runs_out_with_a_batch_that_nobody_asked_for(home, monkeypatch):
    """Of 71 images fewer than 64 are left to train on, so the batch is 32."""
    stop_at(monkeypatch, 3, RuntimeError("CUDA out of memory"))
    with pytest.raises(toongan.ToonGANError, match="batch_size 32 is too much for the memory of this GPU; try 16"):
        train(batch_size=None, count=71)


def test_best_is_kept_however_often_the_run_is_stopped(home, monkeypatch):
    monkeypatch.setattr(judge, "JUDGED_KIMG", 0.1)
    monkeypatch.setattr(judge, "JUDGED", 32)
    run = train()
    best, distances = run.info()["best"], run.history()["distance"]
    measured = [distance for distance in distances if distance is not None]
    assert 3 <= len(measured) <= 10 and best["distance"] == min(measured)
    assert run.history()["step"][distances.index(best["distance"])] == best["step"]
    bytes_before, nets = run.best_path.read_bytes(), results(run)
    assert toongan.load_generator(run.best_path).image_size == 32
    assert (run.generated / "quality.png").is_file()
    for step in (9, 26):
        stop_at(monkeypatch, step)
        train(restart=step == 9)
    assert results(train()) == nets and run.best_path.read_bytes() == bytes_before


def test_checkpoint_holds_only_plain_things(home, monkeypatch):
    monkeypatch.setattr(judge, "JUDGED_KIMG", 0.1)
    monkeypatch.setattr(judge, "JUDGED", 32)
    run = train()
    data = (run.checkpoints / "last.pt").read_bytes()
    saved = torch.load(run.checkpoints / "last.pt", weights_only=True)  # with torch alone, too
    assert saved["done"] == saved["steps"] == STEPS
    assert checkpoints.decode(data)["fingerprint"] == run.info()["data"]["fingerprint"]

    def walk(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                assert isinstance(key, (str, int))
                walk(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                walk(inner)
        else:
            assert value is None or type(value) in (torch.Tensor, int, float, str, bool), type(value)

    walk(saved)
    assert {"G", "D", "average", "optimizer_g", "optimizer_d", "scaler", "chance"} <= set(saved["trainer"])
    assert {path.name for path in run.checkpoints.glob("*.pt")} == {"last.pt", "previous.pt", "best.pt"}


def test_finished_run_is_given_as_it_is(home, capsys):
    before = results(train())
    again = toongan.train(CONFIG)
    assert "is finished: --restart trains it again" in capsys.readouterr().out
    assert results(again) == before


def test_length_is_fixed_once(home, monkeypatch):
    """--minutes is measured at the beginning; going on measures nothing."""
    by_minutes = dict(kimg=None, minutes=0.1)
    monkeypatch.setattr(length, "measure_speed", lambda trainer, progress: 110.0)
    stop_at(monkeypatch, 5)
    steps = train(**by_minutes).info()["steps"]
    assert steps == 41
    monkeypatch.setattr(length, "measure_speed", lambda trainer, progress: 1 / 0)
    assert train(**by_minutes).info()["finished"]
    stop_at(monkeypatch, 5)
    monkeypatch.setattr(length, "measure_speed", lambda trainer, progress: 110.0)
    train(restart=True, **by_minutes)
    assert train(kimg=None).info()["finished"], "the same command without a length goes on, too"


@pytest.mark.parametrize(
    "changed, says",
    [
        ({"batch_size": 32, "kimg": 0.64}, "--batch-size was 16 and is now 32"),
        ({"seed": 7}, "--seed was 0 and is now 7"),
        (
            {"recipe": "classic", "latent_dim": 50},
            "--recipe was modern and is now classic; --latent-dim was 100 and is now 50",
        ),
        ({"kimg": 2.0}, "--kimg was 0.64 and is now 2"),
        ({"kimg": None, "minutes": 3.0}, "--minutes was None and is now 3"),
        ({"dataset": "avatars:lorelei"}, "--dataset was avatars and is now avatars:lorelei"),
        ({"base_channels": 8}, "--base-channels was 4 and is now 8"),
    ],
)
def test_changed_settings_are_named(home, monkeypatch, changed, says):
    stop_at(monkeypatch, 20)
    train()
    with pytest.raises(toongan.ToonGANError) as caught:
        train(**changed)
    assert says in str(caught.value) and "--restart to start over" in str(caught.value)
    assert Run.named("r").info()["done"] == 21, "nothing of the run is touched"


def test_a_restart_that_is_stopped_says_how_to_continue(home, monkeypatch, whole, capsys):
    """The same command again would start over once more."""
    stop_at(monkeypatch, 5)
    toongan.train(dataclasses.replace(CONFIG, restart=True))
    assert "run the same command again without --restart to continue." in capsys.readouterr().out
    assert results(train()) == whole["modern"]
    error = toongan.ToonGANError("Cannot write a; free some space and run the same command again, or not.")
    monkeypatch.setattr(cli, "run", lambda command: (_ for _ in ()).throw(error))
    assert cli.outcome(["train", "--restart"]) == 2
    assert "run the same command again without --restart, or not" in capsys.readouterr().err


def test_restart_begins_anew(home, monkeypatch, whole):
    stop_at(monkeypatch, 20)
    train(seed=7)
    assert results(train(restart=True)) == whole["modern"]
    assert Run.named("r-previous").info()["seed"] == 7


def test_changed_images_are_named(home, monkeypatch):
    from makers import drawing, encoded, fill_folder, images

    folder = fill_folder(home / "mine", images(70))
    config = dict(dataset=f"folder:{folder}", count=None)
    stop_at(monkeypatch, 20)
    train(**config)
    (folder / "new.png").write_bytes(encoded(drawing(999)))
    with pytest.raises(toongan.ToonGANError, match="The images of folder:.* are not those that r was begun with"):
        train(**config)
    assert train(restart=True, **config).info()["data"]["count"] == 71


# --- damaged and hostile checkpoints ---------------------------------------------------------


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped byte", "text", "missing"])
def test_damaged_checkpoint_falls_back_to_the_one_before(home, monkeypatch, whole, capsys, damage):
    stop_at(monkeypatch, 30)
    path = train().checkpoints / "last.pt"
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        data = data[: len(data) // 2]
    elif damage == "empty":
        data = b""
    elif damage == "flipped byte":
        data[len(data) // 2] ^= 1
    elif damage == "text":
        data = b"no checkpoint"
    path.write_bytes(data) if damage != "missing" else path.unlink()
    run = toongan.train(CONFIG)
    text = capsys.readouterr().out
    assert ("last.pt is damaged" in text and "continuing from previous.pt" in text) or damage == "missing"
    assert results(run) == whole["modern"]


def test_no_usable_checkpoint_left(home, monkeypatch):
    stop_at(monkeypatch, 30)
    run = train()
    for name in ("last.pt", "previous.pt"):
        (run.checkpoints / name).write_bytes(b"x")
    with pytest.raises(toongan.ToonGANError, match="last.pt is damaged.*previous.pt is damaged.*--restart starts over"):
        train()


class Harmful:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_checkpoint_with_code_is_refused(home, monkeypatch, capsys):
    """Even with a right checksum."""
    stop_at(monkeypatch, 30)
    run = train()
    monkeypatch.setattr(checkpoints, "FORMAT", Harmful())
    (run.checkpoints / "last.pt").write_bytes(checkpoints.encode({}))
    with pytest.raises(toongan.ToonGANError, match="may be code, and was not opened; delete it, or use --restart"):
        train()
    (run.checkpoints / "last.pt").write_bytes(pickle.dumps(Harmful(), protocol=2) * 9)
    assert "never be printed" not in capsys.readouterr().out


def test_disk_full_during_a_save(small_disk, tmp_path):
    """The sentence names the space needed; the earlier checkpoint is good, and after making space it goes on."""
    arguments = ["train", "--kimg", 3, "--run", "r", "--save-seconds", 0, *COMMAND]
    arguments[arguments.index("--base-channels") + 1] = 8
    small_disk.fill()
    done = small_disk.run(*arguments)
    errors = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(errors) == 1 and "are needed; free some space" in errors[0], done.stderr
    assert not list(small_disk.place.rglob(".*.part*")), "nothing half written is left"


# --- kill -9 --------------------------------------------------------------------------------


def kill_at_random(home: Path, whole: dict, kills: int, seed: int) -> None:
    """kill -9 at random moments, many of them in the middle of a save, since every step is saved."""
    chance = random.Random(seed)
    environment = {**os.environ, "TOONGAN_HOME": str(home)}
    command = [sys.executable, "-m", "toongan", "train", "--run", "r", "--kimg", str(CONFIG.kimg)]
    command += ["--save-seconds", "0", *map(str, COMMAND)]
    killed = 0
    while killed < kills:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for line in process.stdout:
            if line.startswith(("Training", "Continuing", "r is finished")):
                break
        time.sleep(chance.random() * 0.5)
        process.kill()
        process.communicate()
        killed += 1
        run = Run.named("r")
        if run.info_path.exists() and checkpoints.load(run.checkpoints, print)["done"] == STEPS:
            break
    final = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert final.returncode == 0, final.stderr
    assert results(Run.named("r")) == whole["modern"]


def test_killed_at_random_moments(home, whole):
    kill_at_random(home, whole, 4, seed=1)


@pytest.mark.soak
def test_killed_at_fifty_random_moments(tmp_path, monkeypatch, whole):
    for round_ in range(5):
        monkeypatch.setenv("TOONGAN_HOME", str(tmp_path / str(round_)))
        kill_at_random(tmp_path / str(round_), whole, 10, seed=round_)


# --- no number any more ---------------------------------------------------------------------


def poison(monkeypatch, steps: list[int], weight: bool = False) -> None:
    """Not-a-number in a loss, or in a weight, at each of `steps`, once."""
    original = trainer.Trainer.step
    left = list(steps)

    def step(self, number, total):
        values = original(self, number, total)
        if left and number == left[0]:
            left.pop(0)
            with torch.no_grad():
                next(self.G.parameters()).fill_(float("inf"))
            values = values if weight else torch.full_like(values, float("nan"))
        return values

    monkeypatch.setattr(trainer.Trainer, "step", step)


@pytest.mark.parametrize("weight", [False, True])
def test_back_to_the_last_good_checkpoint(home, monkeypatch, capsys, weight):
    poison(monkeypatch, [20, 30], weight)
    run = toongan.train(CONFIG)
    info, text = run.info(), capsys.readouterr().out
    assert info["finished"] and info["rescues"] == 2
    assert "with half the learning rate (1 of at most 3 times)" in text and "(2 of at most 3 times)" in text
    rate = checkpoints.load(run.checkpoints, print)["trainer"]["rate_scale"]
    assert rate == 0.25
    assert all(value.isfinite().all() for value in toongan.load_generator(run.generator_path).parameters())
    assert run.history()["step"] == list(range(1, STEPS + 1))


def test_three_rescues_and_no_more(home, monkeypatch):
    poison(monkeypatch, [10, 11, 12, 13])
    with pytest.raises(toongan.ToonGANError, match="no longer a number after step 14, for the 4th time.*is kept"):
        train()
    saved = checkpoints.load(Run.named("r").checkpoints, print)
    assert saved["done"] == 13


# --- the mirror -----------------------------------------------------------------------------


def test_a_fresh_machine_goes_on_from_the_mirror(home, monkeypatch, whole, tmp_path):
    drive = tmp_path / "drive"
    stop_at(monkeypatch, 30)
    train(mirror=drive)
    copies = mirror.copies(drive / "r")
    assert mirror.step_of(copies[0]) == 31 and len(copies) <= 3
    monkeypatch.setenv("TOONGAN_HOME", str(tmp_path / "fresh"))
    assert results(train(mirror=drive)) == whole["modern"], "the earlier frames of the film, too"


def files_of(run: Run) -> dict[str, bytes]:
    """All files of a run by name, but for those that hold times."""
    times = ("run.json", "history.csv", "last.pt", "previous.pt", "best.pt", ".toongan")
    found = [path for folder in (run.checkpoints, run.generated) for path in folder.iterdir()]
    return {path.name: path.read_bytes() for path in found if path.name not in times}


def judged(monkeypatch):
    """Let so short a run have a best moment."""
    monkeypatch.setattr(judge, "JUDGED_KIMG", 0.1)
    monkeypatch.setattr(judge, "JUDGED", 32)


def test_a_finished_run_is_brought_home_whole(home, monkeypatch, tmp_path, capsys):
    """From the mirror, without training: best moment and film, too. So is one that was stopped, and it goes on."""
    judged(monkeypatch)
    drive = tmp_path / "drive"
    whole = files_of(train(mirror=drive))
    assert {"G.pth", "D.pth", "G-best.pth", "generated.gif", "losses.png", "quality.png"} <= set(whole)
    monkeypatch.setenv("TOONGAN_HOME", str(tmp_path / "fresh"))
    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "step", None)
        assert files_of(toongan.train(dataclasses.replace(CONFIG, mirror=drive))) == whole
    assert "Found r in the mirror, after 40 of 40 steps." in capsys.readouterr().out
    assert not (drive / "r-previous").exists()

    monkeypatch.setenv("TOONGAN_HOME", str(tmp_path / "again"))
    stop_at(monkeypatch, 33)
    train(mirror=tmp_path / "other")
    monkeypatch.setenv("TOONGAN_HOME", str(tmp_path / "third"))
    assert files_of(train(mirror=tmp_path / "other")) == whole


def test_the_further_of_two_checkpoints_is_taken(home, monkeypatch, whole, tmp_path, capsys):
    drive = tmp_path / "drive"
    stop_at(monkeypatch, 10)
    train(mirror=drive)
    other = tmp_path / "other"
    monkeypatch.setenv("TOONGAN_HOME", str(other))
    stop_at(monkeypatch, 25)
    train(mirror=drive)
    monkeypatch.setenv("TOONGAN_HOME", str(home))
    capsys.readouterr()
    stop_at(monkeypatch, 30)
    toongan.train(dataclasses.replace(CONFIG, mirror=drive))
    said = capsys.readouterr().out
    assert (
        "Found r in the mirror, after 26 of 40 steps." in said
        and "ahead of the checkpoint here, 11 of 40 steps" in said
    )
    monkeypatch.setattr(mirror.Mirror, "copy", lambda *arguments: None)  # a mirror that lags behind
    stop_at(monkeypatch, 33)
    train(mirror=drive)
    capsys.readouterr()
    assert results(toongan.train(dataclasses.replace(CONFIG, mirror=drive))) == whole["modern"]
    assert "ahead of the one in the mirror (34 of 40 steps, 31 of 40 steps)" in capsys.readouterr().out


def test_a_finished_run_gets_a_mirror(home, tmp_path):
    train()
    train(mirror=tmp_path / "drive")
    assert mirror.step_of(mirror.copies(tmp_path / "drive" / "r")[0]) == STEPS


def test_restart_does_not_mix_two_runs_in_the_mirror(home, monkeypatch, tmp_path):
    """The earlier run's copies have higher numbers, and are not newer for that."""
    drive = tmp_path / "drive"
    train(mirror=drive)
    stop_at(monkeypatch, 10)
    train(mirror=drive, restart=True, seed=7)
    assert mirror.step_of(mirror.copies(drive / "r")[0]) == 11
    assert mirror.step_of(mirror.copies(drive / "r-previous")[0]) == STEPS
    monkeypatch.setenv("TOONGAN_HOME", str(tmp_path / "fresh"))
    assert train(mirror=drive, seed=7).info()["seed"] == 7


def test_no_copy_is_written_over(tmp_path, monkeypatch):
    """Google Drive loses files that are, and a run may save twice at one step."""
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "checkpoint-000000007.pt").write_bytes(b"of an earlier version")
    monkeypatch.setattr(mirror, "now", itertools.count(1764000000000).__next__)
    copier = mirror.Mirror(folder, print)
    for data in (b"one", b"other"):
        copier.put(7, data)
        copier.finish()
    copier.close()
    assert [path.read_bytes() for path in mirror.copies(folder)] == [b"other", b"one", b"of an earlier version"]


def test_damaged_copy_in_the_mirror(home, monkeypatch, whole, tmp_path, capsys):
    drive = tmp_path / "drive"
    stop_at(monkeypatch, 30)
    train(mirror=drive)
    newest = mirror.copies(drive / "r")[0]
    newest.write_bytes(newest.read_bytes()[:1000])
    monkeypatch.setenv("TOONGAN_HOME", str(tmp_path / "fresh"))
    run = toongan.train(dataclasses.replace(CONFIG, mirror=drive))
    assert "is damaged" in capsys.readouterr().out
    assert results(run)["G.pth"] == whole["modern"]["G.pth"]


def test_mirror_that_fails_is_reported_and_stops_nothing(home, tmp_path, whole, capsys):
    (tmp_path / "drive").write_text("in the way")
    run = toongan.train(dataclasses.replace(CONFIG, mirror=tmp_path / "drive"))
    assert results(run) == whole["modern"]
    said = capsys.readouterr().out
    assert said.count("The mirror") == 2 and "does not have all of this run; run the same command to try again" in said


def test_another_run_in_the_mirror_is_set_aside(home, monkeypatch, tmp_path):
    """And one that is here, where the mirror's is taken: two runs of one name are never mixed."""
    drive = tmp_path / "drive"
    train(mirror=drive, seed=1)
    monkeypatch.setenv("TOONGAN_HOME", str(tmp_path / "b"))
    longer = train(kimg=0.96).info()
    train(kimg=0.96, mirror=drive)
    assert [mirror.step_of(path) for path in mirror.copies(drive / "r")] == [60]
    assert mirror.step_of(mirror.copies(drive / "r-previous")[0]) == STEPS

    (drive / "r").rename(drive / "other")
    (drive / "r-previous").rename(drive / "r")
    assert train(seed=1, mirror=drive).info()["seed"] == 1
    assert Run.named("r-previous").info() == longer


@pytest.mark.parametrize("folder", [".", "{home}/checkpoints"])
def test_what_is_no_mirror(home, folder):
    with pytest.raises(toongan.ToonGANError, match="^mirror is (empty|the folder of the run itself)"):
        train(mirror=Path(folder.format(home=home)))


def test_mirror_that_hangs_stops_nothing(home, tmp_path, monkeypatch, whole, capsys):
    import threading

    release = threading.Event()
    monkeypatch.setattr(mirror.Mirror, "copy", lambda self, name, data: release.wait())
    monkeypatch.setattr(mirror, "PATIENCE", 0.2)
    run = toongan.train(dataclasses.replace(CONFIG, mirror=tmp_path / "drive"))
    release.set()
    assert results(run) == whole["modern"]
    assert "is too slow: its newest copy is not complete" in capsys.readouterr().out


def test_mirror_that_lies(tmp_path, monkeypatch):
    """What is read back is not what was written: the copy does not count, and the earlier ones stay."""
    said = []
    copier = mirror.Mirror(tmp_path / "m", said.append)
    for step in (1, 2, 3):
        copier.put(step, b"good")
        copier.finish()
    monkeypatch.setattr(Path, "read_bytes", lambda self: b"bad")
    copier.put(4, b"good")
    copier.finish()
    monkeypatch.undo()
    assert [mirror.step_of(path) for path in mirror.copies(tmp_path / "m")] == [3, 2, 1]
    assert (
        len(said) == 2 and "does not return what was written" in said[0] and "does not have all of this run" in said[1]
    )


# --- interrupts -----------------------------------------------------------------------------


def test_command_line_goes_on_after_a_signal(tmp_path):
    environment = {**os.environ, "TOONGAN_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "toongan", "train", "--run", "r", "--minutes", "0.1", *map(str, COMMAND)]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "images a second" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "run the same command again to continue" in text
    steps = json.loads((tmp_path / "checkpoints" / "r" / "run.json").read_text())["steps"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Continuing after" in done.stdout and "Measuring the speed" not in done.stdout
    info = json.loads((tmp_path / "checkpoints" / "r" / "run.json").read_text())
    assert info["finished"] and info["steps"] == steps


def test_spectral_norm_of_an_earlier_version_goes_on():
    """Its vectors had other names, and the order of PyTorch's own: one look at the weight must find nothing new."""
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 8, 4, bias=False).to(memory_format=torch.channels_last)
    theirs = spectral_norm(copy.deepcopy(conv))
    for _ in range(300):
        wanted = theirs.weight
    state = {f"main.0.{name}": value for name, value in theirs.state_dict().items()}
    saved = checkpoints.decode(checkpoints.encode({"trainer": {"D": state}}))["trainer"]["D"]
    register_parametrization(conv, "weight", SpectralNorm(conv.weight))
    conv.load_state_dict({name.removeprefix("main.0."): value for name, value in saved.items()})
    assert torch.allclose(conv.weight, wanted, atol=1e-5)


def test_a_smooth_first_kernel_of_an_earlier_version_goes_on():
    """D computes the same with it, and Adam has moments of its new shape, of the right size."""
    torch.manual_seed(0)
    before, now = (init_weights(Discriminator(32, 4, "spectral", smooth=True)).train() for _ in range(2))
    before.main[0] = down_block(3, 4, "spectral", first=True, smooth=True)[0]
    adams = [torch.optim.Adam(D.parameters(), 1e-3, (0.0, 0.99)) for D in (before, now)]
    images = torch.randn(8, 3, 32, 32)
    before(images).mean().backward()
    adams[0].step()
    trainer = {"D": before.state_dict(), "optimizer_d": adams[0].state_dict()}
    saved = checkpoints.decode(checkpoints.encode({"trainer": copy.deepcopy(trainer)}))["trainer"]
    now.load_state_dict(saved["D"])
    adams[1].load_state_dict(saved["optimizer_d"])
    assert torch.allclose(now.eval()(images), before.eval()(images), atol=1e-5)
    earlier = before.main[0].weight.detach()
    now.train()(images).mean().backward()
    adams[1].step()
    assert 0 < (now.main[0].weight.detach() - earlier).abs().max() < 0.1
