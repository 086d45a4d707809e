"""One process at a time: locks that no killed process leaves behind, on disks with and without locks of their own.

The system's own lock ends with the process that holds it. Google Drive and some network disks have no such lock.
There, a file serves as the lock, and its holder touches it every few seconds. A file that nobody touches any more is
taken over.
"""

import errno
import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ..paths import alive, writable_folder

NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
TAKEN = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
BEAT = 15.0
STALE = 120.0
POLL = 0.2
# The byte that is locked on Windows: far beyond what others read.
FAR = 1 << 30


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: a process and its machine, and since when (seconds since 1970)."""

    pid: int
    machine: str
    since: float

    @classmethod
    def me(cls) -> "Holder":
        return cls(os.getpid(), platform.node() or "this machine", time.time())

    def __str__(self) -> str:
        began = time.localtime(self.since)
        form = "%H:%M" if time.time() - self.since < 86_400 else "%Y-%m-%d %H:%M"
        return f"process {self.pid} since {time.strftime(form, began)} on {self.machine}"


class Taken(Exception):
    """Another process holds the lock; `holder` is None if we cannot tell which."""

    def __init__(self, holder: Holder | None):
        super().__init__(str(holder or "another process"))
        self.holder = holder


@contextmanager
def hold(path: Path, on_wait: Callable[[Taken], None] | None = None) -> Iterator[None]:
    """Hold the lock that the file `path` stands for.

    Args:
        on_wait: called once, with who holds it, before waiting; without it we do not wait.

    Raises:
        Taken: another process holds it, and there is no `on_wait`.
        ToonGANError: the folder cannot be written to.
    """
    writable_folder(path.parent)
    lock = acquire(path, on_wait)
    try:
        yield
    finally:
        lock.release()


def acquire(path: Path, on_wait: Callable[[Taken], None] | None):
    while True:
        try:
            return take(path)
        except Taken as taken:
            if on_wait is None:
                raise
            on_wait(taken)
            on_wait = quietly
            time.sleep(POLL)


def quietly(taken: Taken) -> None:
    """Say nothing while we wait."""


def take(path: Path):
    try:
        return SystemLock(path)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return SoftLock(path.with_suffix(".held"))


class SystemLock:
    """The system's lock on an open file, which says who holds it."""

    def __init__(self, path: Path):
        self.file = open(path, "a+b", buffering=0)
        try:
            lock_file(self.file)
        except OSError as error:
            self.file.close()
            if error.errno in TAKEN:
                raise Taken(read_holder(path)) from error
            raise
        with suppress(OSError):  # the lock holds even without a name in it
            self.file.truncate(0)
            self.file.write(written(Holder.me()))

    def release(self) -> None:
        with suppress(OSError):
            self.file.truncate(0)
        self.file.close()


def lock_file(file) -> None:
    if os.name == "nt":
        import msvcrt

        file.seek(FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class SoftLock:
    """A file that serves as a lock, touched while it is held."""

    def __init__(self, path: Path):
        self.path, self.released = path, threading.Event()
        self.mine = written(Holder.me())
        if not create(path, self.mine):
            if not abandoned(path) or not clear(path) or not create(path, self.mine):
                raise Taken(read_holder(path))
        self.thread = threading.Thread(target=self.beat, name="toongan-lock", daemon=True)
        self.thread.start()

    def beat(self) -> None:
        while not self.released.wait(BEAT):
            with suppress(OSError):
                os.utime(self.path)

    def release(self) -> None:
        self.released.set()
        self.thread.join()
        with suppress(OSError):
            if self.path.read_bytes() == self.mine:  # not if another process judged it abandoned
                self.path.unlink()


def create(path: Path, content: bytes) -> bool:
    """Make the file; returns False if it exists."""
    try:
        with open(path, "xb") as file:
            file.write(content)
        return True
    except FileExistsError:
        return False


def abandoned(path: Path) -> bool:
    """Whether the holder of a soft lock is gone: ended on this machine, or silent for two minutes on another."""
    holder = read_holder(path)
    if holder is not None and holder.machine == Holder.me().machine and os.name != "nt":
        return not alive(holder.pid)
    try:
        probe = path.with_name(f".{path.name}-{os.getpid()}")
        probe.touch()  # by the clock of the disk, not of this machine
        now = probe.stat().st_mtime
        probe.unlink()
        return now - path.stat().st_mtime > STALE
    except FileNotFoundError:
        return True


def clear(path: Path) -> bool:
    """Remove an abandoned lock. Of several processes that try, only one succeeds."""
    judged = read_holder(path)
    aside = path.with_name(f".{path.name}-{os.getpid()}-{time.monotonic_ns()}")
    try:
        path.rename(aside)
    except OSError:
        return False
    if read_holder(aside) != judged:  # another process was quicker, and this lock is its own
        with suppress(OSError):
            aside.rename(path)
        return False
    aside.unlink(missing_ok=True)
    return True


def written(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


def read_holder(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
