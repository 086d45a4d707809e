"""Where data, checkpoints and generated images live, and how a file is written: whole, or not at all."""

import csv
import errno
import hashlib
import itertools
import json
import os
import platform
import tempfile
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import tenacity

from .errors import ToonGANError, legible

REPOSITORY = Path(__file__).resolve().parent.parent
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
ELSEWHERE = "set TOONGAN_HOME to a folder of yours, on a disk that can be written to."
PATIENCE = 5.0
# A folder that holds a file of this name is ours, and no data.
MARK = ".toongan"
HISTORY_COLUMNS = ("step", "kimg", "seconds", "loss_d", "loss_g", "real_score", "fake_score", "distance")


def home() -> Path:
    """The folder that holds data/, checkpoints/ and generated/: TOONGAN_HOME, or this repository."""
    place = os.environ.get("TOONGAN_HOME") or REPOSITORY
    try:
        return Path(place).expanduser().absolute()
    except RuntimeError as error:  # ~ of a person whom this machine does not know
        raise ToonGANError(f"TOONGAN_HOME is {place}, which is nowhere; set it to a folder of yours.") from error


def drive() -> Path:
    """Where data may lie in Google Drive, once it is mounted in Colab."""
    return Path(os.environ.get("TOONGAN_DRIVE") or "/content/drive/MyDrive/projects/cartoons")


def data_folder(name: str) -> Path:
    """Where a data set is packed: under `home()`, but never in Google Drive, where reading is slow."""
    mount = Path("/content/drive")
    if mount in home().parents:
        return mount.parent / "toongan-data" / name
    return home() / "data" / name


def checkpoint_folder(run: str) -> Path:
    return home() / "checkpoints" / run


def generated_folder(run: str) -> Path:
    return home() / "generated" / run


@dataclass(frozen=True)
class RunFiles:
    """Where a run keeps its files, `checkpoints/RUN/` and `generated/RUN/`, and what its curves and its record say."""

    name: str
    checkpoints: Path
    generated: Path

    @classmethod
    def named(cls, name: str):
        return cls(name, checkpoint_folder(name), generated_folder(name))

    @property
    def generator_path(self) -> Path:
        return self.checkpoints / "G.pth"

    @property
    def discriminator_path(self) -> Path:
        return self.checkpoints / "D.pth"

    @property
    def best_path(self) -> Path:
        return self.checkpoints / "G-best.pth"

    @property
    def info_path(self) -> Path:
        return self.checkpoints / "run.json"

    @property
    def history_path(self) -> Path:
        return self.checkpoints / "history.csv"

    @property
    def grids(self) -> list[Path]:
        """The numbered sample grids, in order."""
        return sorted(self.generated.glob("samples-*.png"))

    def grid_path(self, number: int) -> Path:
        return self.generated / f"samples-{number:03d}.png"

    def info(self) -> dict:
        """What `run.json` says.

        Raises:
            ToonGANError: it cannot be read.
        """
        try:
            info = json.loads(self.info_path.read_text(encoding="utf-8-sig"))
            if not isinstance(info, dict):
                raise ValueError("no object")
            return info
        except (OSError, ValueError, RecursionError) as error:
            raise unreadable(self.info_path) from error

    def history(self) -> dict[str, list[float | None]]:
        """The curves: column name to values, one a row of `history.csv`; None where nothing was measured.

        Raises:
            ToonGANError: it cannot be read.
        """
        try:
            with open(self.history_path, newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
            return {
                column: [float(row[column]) if row.get(column) else None for row in rows] for column in HISTORY_COLUMNS
            }
        except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
            raise unreadable(self.history_path) from error

    def files(self) -> list[Path]:
        """Every file of the run that exists, the nets first."""
        first = [self.generator_path, self.discriminator_path, self.best_path, self.info_path, self.history_path]
        rest = sorted(self.generated.glob("*")) if self.generated.is_dir() else []
        return [path for path in first + rest if path.is_file() and path.name != MARK]


def unreadable(path: Path) -> ToonGANError:
    return ToonGANError(
        f"{display(path)} cannot be read. The command that trained the run writes it again if a checkpoint is left; "
        "else take it from a copy, or train the run again."
    )


def display(path: Path) -> str:
    """`path` as a person would write it: relative to the working folder where that is shorter."""
    path = Path(path).absolute()
    try:
        return legible(min(os.path.relpath(path), str(path), key=len))
    except (ValueError, OSError):  # another drive, or a working folder that is gone
        return legible(str(path))


def writable_folder(folder: Path) -> Path:
    """Make `folder` and prove that it can be written to. One of a run or a data set is marked as ours.

    Raises:
        ToonGANError: it cannot; says what to change.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if folder.parent in {data_folder("."), checkpoint_folder("."), generated_folder(".")}:
            (folder / MARK).touch()
    except OSError as error:
        remedy = "free some space, or set TOONGAN_HOME to a larger disk." if error.errno in FULL else ELSEWHERE
        raise ToonGANError(f"Cannot write to {display(folder)} ({error.strerror}); {remedy}") from error
    return folder


def patiently(action: Callable, *arguments):
    """Do it, again and again for some seconds while another program has the file open: a viewer, a virus scanner."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_held),
        stop=tenacity.stop_after_delay(PATIENCE),
        wait=tenacity.wait_fixed(0.1),
        reraise=True,
    )(action, *arguments)


def is_held(error: BaseException) -> bool:
    """Whether it may be only for now that a file cannot be changed."""
    if isinstance(error, PermissionError):
        place = Path(error.filename2 or error.filename or ".").parent
        return os.name == "nt" or os.access(place, os.W_OK)
    return isinstance(error, OSError) and error.errno == errno.EBUSY


def replace(source: Path, target: Path) -> None:
    """Put a file in the place of another, or rename a folder."""
    patiently(os.replace, source, target)


@contextmanager
def atomic_write(path: Path, size: int | None = None, keep: Path | None = None):
    """Give a temporary path beside `path`; it takes `path`'s place only if the block succeeds.

    Args:
        size: bytes that will be written, to be named if the disk is full.
        keep: where to leave what stood at `path` before.

    Raises:
        ToonGANError: it cannot be written; says why, and what to do. What stood there before is unharmed.
    """
    path = Path(path)
    # A name of its own for every machine, process and file, and short however long the file's is.
    digest = hashlib.sha256(os.fsencode(f"{platform.node()} {path.name}")).hexdigest()[:8]
    part = path.with_name(f".{digest}-{os.getpid()}.part{path.suffix}")
    try:
        for left in path.parent.glob(f".{digest}-*.part{path.suffix}"):
            if not alive(int(left.name.split("-")[1].split(".")[0])):
                left.unlink(missing_ok=True)
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            replace(path, keep)
        replace(part, path)
    except OSError as error:
        raise cannot_write(path, error, size) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def alive(pid: int) -> bool:
    """Whether there is a process of this number on this machine, as far as can be told."""
    if os.name == "nt":  # where asking would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def sweep(folder: Path) -> None:
    """Delete what a killed process left half written. Only where no other process writes."""
    for part in folder.glob(".*.part*"):
        if part.is_file():
            with suppress(OSError):
                part.unlink()


def cannot_write(path: Path, error: OSError, size: int | None = None) -> ToonGANError:
    """The sentence for a file or a folder that the system does not let us write."""
    what, why = f"Cannot write {display(path)}", error.strerror or str(error)
    if error.errno in FULL:
        need = f"{size_text(size)} are needed; " if size else ""
        remedy = f"{need}free some space and run the same command again, or set TOONGAN_HOME to a larger disk."
    elif isinstance(error, PermissionError):
        remedy = "close the program that has it open, or make sure that you may write there; then run the same command again."
    elif error.errno == errno.EROFS:
        remedy = ELSEWHERE
    elif error.errno == errno.ENAMETOOLONG:
        remedy = "choose a shorter name."
    elif isinstance(error, FileNotFoundError):
        remedy = "its folder has gone; run the same command again."
    else:
        remedy = "check the disk that it is on, then run the same command again."
    return ToonGANError(f"{what} ({why}); {remedy}")


def size_text(size: int) -> str:
    """Bytes in words: `45 MB`."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def unused(name: str, *folders: Path, ending: str = "") -> str:
    """`name`, or `name-2` … : the first that is in none of some folders, there followed by `ending`."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(each for each in names if not any((folder / f"{each}{ending}").exists() for folder in folders))
