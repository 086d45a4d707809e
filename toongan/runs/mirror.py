"""A second copy of a run, made in the background; training neither waits nor stops for it.

Google Drive loses files that are overwritten, and reports success too early. So each copy gets a new name and is read
back, and only then are older copies deleted. The copies are

- `checkpoint-STEP-TIME.pt`, the newest three, and `best-STEP-TIME.pt`, the newest two, with the time in milliseconds;
- `samples-NUMBER-STEP-DIGEST.png`: the sample grids, from which the film is made.

All other files of a run can be made from these.
"""

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..config import TrainConfig
from ..errors import ToonGANError
from ..paths import MARK, atomic_write, patiently, replace, unused
from . import checkpoints
from .files import Run

KEEP, KEEP_BEST = 3, 2
PATIENCE = 60.0
CHECKPOINT = re.compile(r"checkpoint-(\d{9})(?:-(\d+))?\.pt")  # earlier versions wrote no time
BEST = re.compile(r"best-(\d{9})(?:-(\d+))?\.pt")
GRID = re.compile(r"samples-(\d{3})-(\d{9})-([0-9a-f]{16})\.png")


class Mirror:
    """Copies to `folder`; failures are reported, never raised.

    Args:
        say: called once when copying begins to fail, and once when it works again.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]):
        self.folder, self.say = folder, say
        # By kind, in order of arrival; a newer checkpoint replaces one that still waits.
        self.waiting: dict[str, tuple[str, bytes]] = {}
        self.failed: dict[str, tuple[str, bytes]] = {}
        self.failing = self.closed = False
        self.wake, self.idle = threading.Condition(), True
        threading.Thread(target=self.work, name="toongan-mirror", daemon=True).start()

    def put(self, step: int, data: bytes) -> None:
        """Copy a checkpoint soon; it replaces an older one that still waits."""
        self.queue("checkpoint", f"checkpoint-{step:09d}-{now()}.pt", data)

    def put_best(self, step: int, data: bytes) -> None:
        """Copy the best moment soon."""
        self.queue("best", f"best-{step:09d}-{now()}.pt", data)

    def put_grid(self, number: int, step: int, data: bytes) -> None:
        """Copy a sample grid soon."""
        digest = hashlib.sha256(data).hexdigest()[:16]
        self.queue(f"grid {number}", f"samples-{number:03d}-{step:09d}-{digest}.png", data)

    def queue(self, kind: str, name: str, data: bytes) -> None:
        with self.wake:
            self.waiting.pop(kind, None)
            self.waiting[kind] = name, data
            self.idle = False
            self.wake.notify_all()

    def finish(self) -> None:
        """Wait for the last copy, a minute at most."""
        with self.wake:
            if not self.wake.wait_for(lambda: self.idle, PATIENCE):
                self.say(f"The mirror {self.folder} is too slow: its newest copy is not complete.")
            elif self.failing:
                self.say(f"The mirror {self.folder} does not have all of this run; run the same command to try again.")

    def close(self) -> None:
        """Stop copying."""
        with self.wake:
            self.closed = True
            self.wake.notify_all()

    def work(self) -> None:
        while True:
            with self.wake:
                self.wake.wait_for(lambda: self.waiting or self.closed)
                if self.closed:
                    return
                kind = next(iter(self.waiting))
                name, data = self.waiting.pop(kind)
            try:
                self.copy(name, data)
                if self.failing:
                    self.say(f"The mirror {self.folder} works again.")
                self.failing = False
                self.try_again()
            except OSError as error:
                if not self.failing:
                    reason = error.strerror or error
                    self.say(
                        f"The mirror {self.folder} fails ({reason}); training continues, and copying is tried again."
                    )
                self.failing = True
                if kind != "checkpoint":  # since a newer one will come
                    self.failed[kind] = name, data
            with self.wake:
                self.idle = not self.waiting
                self.wake.notify_all()

    def try_again(self) -> None:
        """Queue what could not be copied before."""
        with self.wake:
            for kind, copy in self.failed.items():
                self.waiting.setdefault(kind, copy)
            self.failed = {}

    def copy(self, name: str, data: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / MARK).touch()
        path = self.folder / name
        part = path.with_suffix(".part")
        try:
            with open(part, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        if hashlib.sha256(path.read_bytes()).digest() != hashlib.sha256(data).digest():
            path.unlink(missing_ok=True)
            raise OSError("it does not return what was written")
        for pattern, keep in ((CHECKPOINT, KEEP), (BEST, KEEP_BEST)):
            for old in files(self.folder, pattern)[keep:]:
                old.unlink(missing_ok=True)
        if found := GRID.fullmatch(name):
            for old in files(self.folder, GRID):
                if old.name.startswith(f"samples-{found[1]}-") and old.name < name:
                    old.unlink(missing_ok=True)


def now() -> int:
    return time.time_ns() // 1_000_000


def step_of(path: Path) -> int:
    """The step of a checkpoint, from its name in a mirror."""
    return int(CHECKPOINT.fullmatch(path.name)[1])


def folder_of(config: TrainConfig) -> Path:
    """The folder in a mirror that holds the copies of a run."""
    return Path(config.mirror).expanduser() / config.run


def files(folder: Path, pattern: re.Pattern) -> list[Path]:
    """The files of a mirror whose names match, newest first."""
    try:
        found = [(pattern.fullmatch(path.name), path) for path in folder.iterdir()]
        return [path for _, path in sorted(((order(match), path) for match, path in found if match), reverse=True)]
    except OSError:
        return []


def order(match: re.Match) -> tuple[str, ...]:
    """The parts of a copy's name, to sort by."""
    return tuple(part or "" for part in match.groups())


def copies(folder: Path) -> list[Path]:
    """The checkpoints in a mirror, newest first."""
    return files(folder, CHECKPOINT)


def set_aside(folder: Path, say: Callable[[str], None]) -> None:
    """Rename an earlier run's copies to NAME-previous, or NAME-previous-2 …, so that they do not pass for this run's."""
    if not copies(folder):
        return
    previous = folder.with_name(unused(f"{folder.name}-previous", folder.parent))
    try:
        patiently(folder.rename, previous)
        say(f"The earlier copies in the mirror are now in {previous}")
    except OSError as error:
        say(f"The earlier copies in the mirror {folder} cannot be renamed ({error.strerror}).")


def newest(folder: Path, say: Callable[[str], None]) -> dict | None:
    """The newest usable checkpoint in a mirror; None if there is none."""
    for path in copies(folder):
        try:
            return checkpoints.decode(path.read_bytes())
        except (checkpoints.Damaged, OSError) as error:
            say(f"{path} is damaged ({error}); trying the copy before it.")
        except ToonGANError as error:
            raise ToonGANError(f"{path}: {error.message}") from error
    return None


def bring_home(folder: Path, run: Run, saved: dict) -> None:
    """Copy the checkpoint `saved`, the best moment and the grids from a mirror to the run's own folders.

    Damaged copies stay in the mirror.

    Raises:
        ToonGANError: the disk is full, or a folder cannot be written to.
    """
    run.make()
    for path in files(folder, BEST):
        best = checkpoints.read(path)
        if saved["best"] and best is not None and best["done"] == saved["best"]["step"]:
            checkpoints.save_best(run.checkpoints, best)
    brought = set()
    for path in files(folder, GRID):
        number, step, digest = GRID.fullmatch(path.name).groups()
        if number in brought or int(step) > saved["done"]:
            continue
        try:
            data = path.read_bytes()
        except OSError:
            continue
        if hashlib.sha256(data).hexdigest().startswith(digest):
            brought.add(number)
            with atomic_write(run.grid_path(int(number))) as part:
                part.write_bytes(data)
    checkpoints.save(run.checkpoints, saved)
