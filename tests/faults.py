"""Every write of a job, failed once: `python tests/faults.py JOB EVERY` prints a line of JSON a fault.

The jobs are real commands. A child process of this one runs the command with a hook on everything that Python does to
files below TOONGAN_HOME: opening one to write, renaming, deleting, making folders, syncing. At one of these points the
system refuses (ENOSPC, EACCES, EIO), or the process is killed. A second child then runs the same command without a
fault. Children are forked, so that torch is loaded once.
"""

import errno
import functools
import hashlib
import io
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from makers import fill_folder, images

from toongan import cli, features, metrics, paths
from toongan.datasets import avatars
from toongan.evaluation import measure
from toongan.runs import judge, plan

FAULTS = {"ENOSPC": errno.ENOSPC, "EACCES": errno.EACCES, "EIO": errno.EIO, "kill -9": None}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "sqlite3.connect"}
TINY = ["--image-size", "32", "--base-channels", "4", "--batch-size", "16", "--device", "cpu", "--precision", "fp32"]
TRAIN = ["train", "--run", "r", "--dataset", "folder:mine", *TINY, "--save-seconds", "1e9"]
SHORT, LONG = ["--kimg", "0.096"], ["--kimg", "0.192"]
# By name: commands that lead up to it, and the command whose writes fail.
JOBS = {
    "pack": ([], ["data", "folder:mine", "--image-size", "32"]),
    "draw": ([], ["data", "avatars", "--count", "64", "--image-size", "32"]),
    "pack anew": (
        [["data", "folder:mine", "--image-size", "32"], "add"],
        ["data", "folder:mine", "--image-size", "32"],
    ),
    "train": ([["data", "folder:mine", "--image-size", "32"]], [*TRAIN, *SHORT]),
    "train another": ([[*TRAIN, *SHORT]], [*TRAIN, *SHORT, "--seed", "1"]),
    "extend": ([[*TRAIN, *SHORT]], [*TRAIN, *LONG, "--extend"]),
    "rebuild": ([[*TRAIN, *SHORT], "lose"], [*TRAIN, *SHORT]),
    "evaluate": ([[*TRAIN, *SHORT]], ["evaluate", "--run", "r", "--count", "8", "--device", "cpu"]),
    "generate": ([[*TRAIN, *SHORT]], ["generate", "--run", "r", "--count", "4", "--out", "{home}/grid.png"]),
}
# What holds times, or is proved by what is made from it.
OF_TIMES = ("run.json", "history.csv", "metrics.json", "meta.json", "metrics.png", ".pt", ".lock", ".held", ".npz")


class Hook:
    """Counts what is done to files below `home`, and lets one of these doings fail."""

    def __init__(self, home: Path, at: int | None = None, fault: str = ""):
        self.home, self.at, self.fault, self.count, self.fired = str(home), at, fault, 0, False
        sync = os.fsync

        def fsync(file) -> None:
            self.pass_by("fsync")
            sync(file)

        os.fsync = fsync
        sys.addaudithook(self.look)

    def look(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, bytes)) and flags & WRITING and self.is_ours(path):
                self.pass_by(path)
        elif event in CHANGES and isinstance(arguments[0], (str, bytes)):
            if self.is_ours(arguments[0]) or event != "sqlite3.connect" and arguments[-1] not in (None, -1):
                self.pass_by(arguments[0])

    def is_ours(self, path: str | bytes) -> bool:
        return os.fsdecode(path).removeprefix("file://").startswith(self.home)

    def pass_by(self, path) -> None:
        number, self.count = self.count, self.count + 1
        if number != self.at:
            return
        self.fired = True
        if FAULTS[self.fault] is None:
            os.kill(os.getpid(), signal.SIGKILL)
        code = FAULTS[self.fault]
        raise OSError(code, os.strerror(code), path)


def child(home: Path, arguments: list[str], at: int | None = None, fault: str = "") -> tuple[int, str, int]:
    """Run a command in a process of its own: exit status (negative for a signal), what it said, and points passed."""
    said, points = home.with_suffix(".said"), home.with_suffix(".points")
    points.write_text("0")
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            os.environ["TOONGAN_HOME"] = str(home)
            os.chdir(home)
            output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            hook = Hook(home, at, fault)
            try:
                cli.main([argument.format(home=home) for argument in arguments])
                status = 0
            except SystemExit as leaving:
                status = leaving.code or 0
            sys.stdout.flush()
            sys.stderr.flush()
            points.write_text(str(hook.count))
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), said.read_text(errors="replace"), int(points.read_text())


def prepared(home: Path, before: list) -> Path:
    """A home in which the commands that lead up to a job have been run."""
    fill_folder(home / "mine", images(70))
    for step in before:
        if step == "add":
            fill_folder(home / "mine", images(10, first=100))
        elif step == "lose":
            for name in ("checkpoints/r/G.pth", "checkpoints/r/run.json", "generated/r/losses.png"):
                (home / name).unlink()
        else:
            status, said, _ = child(home, step)
            assert status == 0, said
    return home


def results(home: Path) -> dict[str, str]:
    """What must be the same, by file: a digest of its bytes, or of its pixels and values where it holds times."""
    found = {}
    for path in sorted(path for path in home.rglob("*") if path.is_file()):
        name = path.relative_to(home).as_posix()
        if not name.endswith(OF_TIMES):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name in ("run.json", "metrics.json", "meta.json"):
            value = json.loads(path.read_text(encoding="utf-8"))
            times = ("seconds", "minutes", "date", "packed", "made_from")
            found[name] = json.dumps({key: each for key, each in value.items() if key not in times})
    return found


def belongings(home: Path) -> set[str]:
    """Digests of what a user would miss: images of theirs, nets, grids and curves, checkpoints of finished runs.

    What is packed is not among them: it is made anew whenever its images have changed.
    """
    kinds = (".png", ".pth", ".gif")
    return {
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in home.rglob("*")
        if path.is_file() and (path.suffix in kinds or path.name == "last.pt")
        if "part" not in path.name and path.relative_to(home).parts[0] != "data"
    }


def walk(job: str, every: int, first: int) -> None:
    """Fail each `every`-th point of a job, from `first` on, in each way in turn; with `every` 1 in all ways."""
    before, command = JOBS[job]
    with tempfile.TemporaryDirectory() as folder:
        # One path for all: data sets are known by theirs.
        home, template = Path(folder) / "home", Path(folder) / "template"
        prepared(home, before).rename(template)
        mine = belongings(template)
        shutil.copytree(template, home)
        status, said, points = child(home, command)
        assert status == 0, said
        wanted = results(home)
        shutil.rmtree(home)
        print(json.dumps({"job": job, "points": points}), flush=True)
        cases = [(at, fault) for at in range(points) for fault in FAULTS]
        if every > 1:
            cases = [(at, list(FAULTS)[number % 4]) for number, at in enumerate(range(first, points, every))]
        for at, fault in cases:
            shutil.copytree(template, home)
            status, said, _ = child(home, command, at, fault)
            lost = len(mine - belongings(home)) if job not in ("generate",) else 0
            again, said_again, _ = child(home, command)
            got = results(home)
            print(json.dumps({
                "at": at, "fault": fault, "status": status, "said": said[-2000:], "lost": lost,
                "lost_after": len(mine - belongings(home)), "again": again, "said_again": said_again[-2000:],
                "different": [name for name in wanted if got.get(name) != wanted[name]],
                "more": [name for name in got if name not in wanted],
            }), flush=True)  # fmt: skip
            shutil.rmtree(home)


def main() -> None:
    matplotlib.use("Agg")
    torch.set_num_threads(1)
    # Small enough for thousands of runs; what is written, and when, is the same.
    plan.GRIDS, plan.HISTORY_ROWS, plan.MIN_STEPS = 3, 3, 6
    plt.subplots = functools.partial(plt.subplots, dpi=20)
    judge.JUDGED_KIMG, judge.JUDGED, judge.JUDGED_SIDE = 0.1, 16, 32
    paths.PATIENCE = 0.3
    measure.plot_card = lambda card, pairs: plt.figure(figsize=(1, 1))
    # What every child would load again: libraries, weights, fonts.
    assert avatars.draw("avataaars", 0, 32) and metrics.QuickDistance
    features.features_of(np.zeros((1, 32, 32, 3), np.uint8), side=32)
    figure = plt.figure(layout="constrained")
    figure.subplots().plot([1], label="x")
    figure.savefig(io.BytesIO())
    plt.close(figure)
    walk(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)


if __name__ == "__main__":
    main()
