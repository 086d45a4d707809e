"""Where data, checkpoints and generated images live, and how files are written: whole or not at all."""

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

from .errors import REMEDIES, ToonGANError, legible

REPOSITORY = Path(__file__).resolve().parent.parent
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
ELSEWHERE = "set TOONGAN_HOME to a folder that you own, on a disk that can be written to."
PATIENCE = 5.0
# A folder with a file of this name was written by this program and is never taken for data.
MARK = ".toongan"
# What images, films and plots that this program writes say of themselves, for the same reason.
SOFTWARE = "ToonGAN"
HISTORY_COLUMNS = ("step", "kimg", "seconds", "loss_d", "loss_g", "real_score", "fake_score", "distance")


def home() -> Path:
    """The folder that holds data/, checkpoints/ and generated/: TOONGAN_HOME, or this repository."""
    place = os.environ.get("TOONGAN_HOME") or REPOSITORY
    try:
        return Path(place).expanduser().absolute()
    except RuntimeError as error:  # ~ of a user whom this machine does not know
        raise ToonGANError(
            f"TOONGAN_HOME is {place}, which does not exist; set it to a folder that you own."
        ) from error


def drive() -> Path:
    """The folder for data in Google Drive, once Drive is mounted in Colab."""
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
    """The files of a run, in `checkpoints/RUN/` and `generated/RUN/`, and what its curves and `run.json` say."""

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
        """The curves: column name to values, one per row of `history.csv`; None where nothing was measured.

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
        """Every existing file of the run, the nets first."""
        first = [self.generator_path, self.discriminator_path, self.best_path, self.info_path, self.history_path]
        rest = sorted(self.generated.glob("*")) if self.generated.is_dir() else []
        return [path for path in first + rest if path.is_file() and path.name != MARK]


def unreadable(path: Path) -> ToonGANError:
    return ToonGANError(
        f"{display(path)} cannot be read. If a checkpoint is left, the command that trained the run writes it again; "
        "if not, restore it from a copy or train the run again."
    )


def display(path: Path) -> str:
    """`path` as a person would write it: relative to the working folder if that is shorter."""
    path = Path(path).absolute()
    try:
        return legible(min(os.path.relpath(path), str(path), key=len))
    except (ValueError, OSError):  # another drive, or a working folder that was deleted
        return legible(str(path))


def writable_folder(folder: Path) -> Path:
    """Make `folder` and check that it can be written to. The folder of a run or a data set is marked as ours.

    Raises:
        ToonGANError: it cannot be written to; says what to change.
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


def make_way(path: Path, option: str, name: str) -> Path:
    """Make the folder that a file will be written to, and check that it can be, before any work is done; returns `path`.

    Args:
        option: the setting that names the path.
        name: a name for the file, to suggest if `path` is a folder.

    Raises:
        ToonGANError: it cannot be written there; says what to change.
    """
    if os.path.isdir(path):
        raise ToonGANError(f"is a folder: {display(path)}; try {display(path / name)}.", option)
    folder = path.absolute().parent
    try:
        writable_folder(folder)
    except ToonGANError as error:
        reason = getattr(error.__cause__, "strerror", None) or error.message
        asked = f"--{option.replace('_', '-')}"
        raise ToonGANError(
            f"Cannot write to {display(folder)} ({reason}); choose another folder for {asked}, or free some space."
        ) from error
    return path


def patiently(action: Callable, *arguments):
    """Try for some seconds while another program, such as a viewer or a virus scanner, has the file open."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_held),
        stop=tenacity.stop_after_delay(PATIENCE),
        wait=tenacity.wait_fixed(0.1),
        reraise=True,
    )(action, *arguments)


def is_held(error: BaseException) -> bool:
    """Whether a file may be locked only for a moment."""
    if isinstance(error, PermissionError):
        place = Path(error.filename2 or error.filename or ".").parent
        return os.name == "nt" or os.access(place, os.W_OK)
    return isinstance(error, OSError) and error.errno == errno.EBUSY


def replace(source: Path, target: Path) -> None:
    """Replace a file with another, or rename a folder."""
    patiently(os.replace, source, target)


@contextmanager
def atomic_write(path: Path, size: int | None = None, keep: Path | None = None):
    """Yield a temporary path beside `path`; the file replaces `path` only if the block succeeds.

    Args:
        size: bytes that will be written; named in the message if the disk is full.
        keep: where to move the earlier file at `path`.

    Raises:
        ToonGANError: the file cannot be written; says why, and what to do. The earlier file is unharmed.
    """
    path = Path(path)
    # A unique name for each machine, process and file, and a short one, however long the file's name is.
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
    """Whether a process with this number runs on this machine, as far as we can tell."""
    if os.name == "nt":  # where os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def sweep(folder: Path) -> None:
    """Delete what a killed process left half written. Call it only while no other process writes there."""
    for part in folder.glob(".*.part*"):
        if part.is_file():
            with suppress(OSError):
                part.unlink()


def cannot_write(path: Path, error: OSError, size: int | None = None) -> ToonGANError:
    """The message for a file or folder that the system does not let us write."""
    what, why = f"Cannot write {display(path)}", error.strerror or str(error)
    if error.errno in FULL:
        need = f"{size_text(size)} are needed; " if size else ""
        remedy = f"{need}free some space and run the same command again, or set TOONGAN_HOME to a larger disk."
    elif isinstance(error, PermissionError):
        remedy = (
            "close the program that has it open, or check that you may write there; then run the same command again."
        )
    elif error.errno == errno.EROFS:
        remedy = ELSEWHERE
    elif isinstance(error, FileNotFoundError):
        remedy = "its folder is gone; run the same command again."
    else:
        remedy = f"{REMEDIES.get(error.errno, 'check its disk, then run the same command again')}."
    return ToonGANError(f"{what} ({why}); {remedy}")


def size_text(size: int) -> str:
    """Bytes in words: `45 MB`."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def unused(name: str, *folders: Path, ending: str = "") -> str:
    """`name`, `name-2`, `name-3` …: the first that, followed by `ending`, is in none of the folders."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(each for each in names if not any((folder / f"{each}{ending}").exists() for folder in folders))
