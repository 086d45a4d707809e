"""The files of a run, written atomically and read with care."""

import csv
import hashlib
import itertools
import json
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ..errors import ToonGANError
from ..paths import HISTORY_COLUMNS, RunFiles, atomic_write, cannot_write, home, replace, sweep, writable_folder
from ..system.locks import Taken, hold
from . import checkpoints
from .state_dicts import save_state


@dataclass(frozen=True)
class Run(RunFiles):
    """The files of a run, in `checkpoints/RUN/` and `generated/RUN/`, and what is done to all of them together."""

    def make(self) -> "Run":
        """Make both folders.

        Raises:
            ToonGANError: one of them cannot be written to.
        """
        writable_folder(self.checkpoints)
        writable_folder(self.generated)
        return self

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only process that writes files of this run.

        Raises:
            ToonGANError: another process does; says which.
        """
        try:
            with self.held():
                yield
        except Taken as taken:
            raise ToonGANError(
                f"{self.name} is being trained by {taken}. Wait until it ends, stop it there with Ctrl-C, or give this "
                "run a different name with --run."
            ) from taken

    def held(self) -> AbstractContextManager:
        """The bare lock of this run.

        Raises:
            Taken: another process holds it.
        """
        return hold(home() / ".locks" / f"run-{self.name}.lock")

    def sweep(self) -> None:
        """Delete what a killed process left half written."""
        for folder in (self.checkpoints, self.generated):
            sweep(folder)

    def set_aside(self) -> Path | None:
        """Rename an earlier run of this name to NAME-previous, or NAME-previous-2 …; returns its new folder, if any.

        The checkpoints of a finished run that nothing needs any more are deleted.

        Raises:
            ToonGANError: one of its files is open in another program.
        """
        if not self.generator_path.is_file() and not any(self.checkpoints.glob("*.pt")):
            return None
        self.drop_spares()
        previous = next(self.earlier_names(taken=False))
        try:
            if not previous.generated.exists():  # if it does, a killed process came this far
                replace(self.generated, previous.generated)
            replace(self.checkpoints, previous.checkpoints)
        except OSError as error:
            raise cannot_write(self.checkpoints, error) from error
        self.make()
        return previous.checkpoints

    def keep_copy(self) -> Path:
        """Copy this run to NAME-previous, or NAME-previous-2 …, unless that is done; returns the folder of the copy.

        Raises:
            ToonGANError: the disk is full, or a file cannot be read.
        """
        for previous in self.earlier_names(taken=True):
            if same_content(previous.info_path, self.info_path):
                break
        else:
            previous = next(self.earlier_names(taken=False))
            copy_folder(self.checkpoints, previous.checkpoints)
        if not previous.generated.exists():
            copy_folder(self.generated, previous.generated)
        return previous.checkpoints

    def earlier_names(self, taken: bool) -> Iterator["Run"]:
        """NAME-previous, NAME-previous-2 …: the names that are taken, or those that are free."""
        for number in itertools.count(1):
            run = Run.named(f"{self.name}-previous" + (f"-{number}" if number > 1 else ""))
            if taken and not run.checkpoints.exists():
                return
            # A process that was killed in between moved the grids but not the checkpoints; then no grids are left here.
            half_moved = run.generated.exists() and not self.grids
            if taken or not run.checkpoints.exists() and (half_moved or not run.generated.exists()):
                yield run

    def drop_spares(self) -> None:
        """Delete `previous.pt` and `best.pt` of a finished run once `last.pt` and `G-best.pth` are proved whole."""
        try:
            info = self.info()
        except ToonGANError:  # no readable run.json: keep everything
            return
        if not info.get("finished") or self.unsound():
            return
        if checkpoints.read(self.checkpoints / checkpoints.LAST) is not None:
            for name in (checkpoints.PREVIOUS, checkpoints.BEST):
                with suppress(OSError):
                    (self.checkpoints / name).unlink()

    def unsound(self) -> list[str]:
        """Names of the nets that are not the files recorded in `run.json`, or `run.json` itself if it is unreadable."""
        try:
            info = self.info()
            digests = dict(info["sha256"])
            if info.get("best"):
                digests[self.best_path.name] = info["best"].get("sha256")  # None in runs of earlier versions
            return [name for name, digest in digests.items() if not has_digest(self.checkpoints / name, digest)]
        except (ToonGANError, KeyError, TypeError, ValueError, AttributeError):
            return [self.info_path.name]

    def is_best_at_its_end(self) -> bool:
        """Whether `G.pth` is the generator whose samples were nearest to held-out images."""
        best = self.info().get("best") or {}
        return bool(best.get("sha256")) and has_digest(self.generator_path, best["sha256"])

    def save(self, generator: nn.Module, discriminator: nn.Module, history: list[dict], info: dict) -> None:
        """Write `G.pth`, `D.pth`, `history.csv` and `run.json`, each whole or not at all.

        `info` may be anything that JSON can hold; the SHA-256 of both nets is added to it.

        Raises:
            ToonGANError: the disk is full or the folder cannot be written to.
        """
        nets = {self.generator_path: generator, self.discriminator_path: discriminator}
        digests = {path.name: save_state(path, net) for path, net in nets.items()}
        with atomic_write(self.history_path) as part:
            write_history(part, history)
        with atomic_write(self.info_path) as part:
            text = json.dumps({**info, "sha256": digests}, indent=2)
            part.write_text(text + "\n", encoding="utf-8")


def has_digest(path: Path, digest: str | None) -> bool:
    """Whether a file exists and has this SHA-256; without a known SHA-256, whether it exists."""
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return False
    return digest is None or found == digest


def same_content(one: Path, other: Path) -> bool:
    try:
        return one.read_bytes() == other.read_bytes()
    except OSError:
        return False


def copy_folder(source: Path, target: Path) -> None:
    """Copy the files of a folder; the copy appears whole or not at all."""
    part = target.with_name(f".{target.name}.copy")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        for path in source.iterdir():
            if path.is_file() and path.name != checkpoints.PREVIOUS:
                shutil.copy2(path, part / path.name)
        replace(part, target)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise cannot_write(target, error) from error


def write_history(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HISTORY_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
