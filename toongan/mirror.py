"""A second copy of each checkpoint, made in the background: training never waits for it, nor stops for it.

Google Drive loses files that are overwritten and reports success too early. So each copy gets a new name, is read
again, and only then are older ones deleted.
"""

import hashlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

from . import checkpoints
from .paths import unused

KEEP = 3
PATIENCE = 60.0


class Mirror:
    """Copies to `folder`; what goes wrong is said, never raised.

    Args:
        folder: holds `checkpoint-STEP.pt`, the newest three.
        say: told once when copying begins to fail, and once when it works again.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]):
        self.folder, self.say = folder, say
        self.waiting: tuple[int, bytes] | None = None
        self.failing = self.closed = False
        self.wake, self.idle = threading.Condition(), True
        threading.Thread(target=self.work, name="toongan-mirror", daemon=True).start()

    def put(self, step: int, data: bytes) -> None:
        """Copy `data` soon; a copy that has not begun yet is replaced by this newer one."""
        with self.wake:
            self.waiting, self.idle = (step, data), False
            self.wake.notify_all()

    def finish(self) -> None:
        """Wait a minute at most for the last copy."""
        with self.wake:
            if not self.wake.wait_for(lambda: self.idle, PATIENCE):
                self.say(f"The mirror {self.folder} is too slow: its newest copy is not complete.")

    def close(self) -> None:
        """Copy no more."""
        with self.wake:
            self.closed = True
            self.wake.notify_all()

    def work(self) -> None:
        while True:
            with self.wake:
                self.wake.wait_for(lambda: self.waiting is not None or self.closed)
                if self.closed:
                    return
                (step, data), self.waiting = self.waiting, None
            try:
                self.copy(step, data)
                if self.failing:
                    self.say(f"The mirror {self.folder} works again.")
                self.failing = False
            except OSError as error:
                if not self.failing:
                    reason = error.strerror or error
                    self.say(f"The mirror {self.folder} fails ({reason}); training goes on, and so do the tries.")
                self.failing = True
            with self.wake:
                self.idle = self.waiting is None
                self.wake.notify_all()

    def copy(self, step: int, data: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"checkpoint-{step:09d}.pt"
        part = path.with_suffix(".part")
        try:
            with open(part, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        if hashlib.sha256(path.read_bytes()).digest() != hashlib.sha256(data).digest():
            path.unlink(missing_ok=True)
            raise OSError("what it gives back is not what was written")
        for old in copies(self.folder)[KEEP:]:
            old.unlink(missing_ok=True)


def copies(folder: Path) -> list[Path]:
    """The copies in a mirror, newest first."""
    try:
        return sorted(
            (path for path in folder.iterdir() if re.fullmatch(r"checkpoint-\d{9}\.pt", path.name)), reverse=True
        )
    except OSError:
        return []


def set_aside(folder: Path, say: Callable[[str], None]) -> None:
    """Rename the copies of an earlier run to NAME-previous, or NAME-previous-2 …, so that they are not taken for newer ones of this run."""
    if not copies(folder):
        return
    previous = folder.with_name(unused(f"{folder.name}-previous", folder.parent))
    try:
        folder.rename(previous)
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
    return None
