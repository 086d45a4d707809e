"""Where data, checkpoints and generated pictures live."""

import itertools
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from .errors import ToonGANError

REPOSITORY = Path(__file__).resolve().parent.parent


def home() -> Path:
    """The folder that holds data/, checkpoints/ and generated/: TOONGAN_HOME, or this repository."""
    return Path(os.environ.get("TOONGAN_HOME") or REPOSITORY).expanduser().absolute()


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


def display(path: Path) -> str:
    """`path` as a person would write it: relative to the working folder where that is shorter."""
    path = Path(path).absolute()
    try:
        return min(os.path.relpath(path), str(path), key=len)
    except ValueError:  # another drive
        return str(path)


def writable_folder(folder: Path) -> Path:
    """Make `folder` and prove that it can be written to.

    Raises:
        ToonGANError: it cannot; says what to change.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ToonGANError(
            f"Cannot write to {folder} ({error.strerror}); set TOONGAN_HOME to a folder of yours, or free some space."
        ) from error
    return folder


@contextmanager
def atomic_write(path: Path, size: int | None = None, keep: Path | None = None):
    """Give a temporary path beside `path`; it takes `path`'s place only if the block succeeds.

    Args:
        size: bytes that will be written, to be named if the disk is full.
        keep: where to leave what stood at `path` before.
    """
    path = Path(path)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(part, path)
    except OSError as error:
        need = f"{size_text(size)} are needed; " if size else ""
        raise ToonGANError(
            f"Cannot write {path} ({error.strerror}); {need}free some space or choose another folder."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def size_text(size: int) -> str:
    """Bytes in words: `45 MB`."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def unused(name: str, *folders: Path) -> str:
    """`name`, or `name-2` … : the first that is in none of some folders."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(each for each in names if not any((folder / each).exists() for folder in folders))
