"""The files of a run, written atomically and read with care."""

import csv
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from .errors import ToonGANError
from .nets import load_discriminator, load_generator, plain_state, save_state  # noqa: F401  also found here
from .paths import (
    REPOSITORY,
    atomic_write,
    checkpoint_folder,
    display,
    generated_folder,
    unused,
    writable_folder,
)

HISTORY_COLUMNS = ("step", "kimg", "seconds", "loss_d", "loss_g", "real_score", "fake_score", "distance")


@dataclass(frozen=True)
class Run:
    """Where a run keeps its files: `checkpoints/RUN/` and `generated/RUN/`."""

    name: str
    checkpoints: Path
    generated: Path

    @classmethod
    def named(cls, name: str) -> "Run":
        return cls(name, checkpoint_folder(name), generated_folder(name))

    def make(self) -> "Run":
        """Make both folders.

        Raises:
            ToonGANError: one of them cannot be written to.
        """
        writable_folder(self.checkpoints)
        writable_folder(self.generated)
        return self

    def set_aside(self) -> Path | None:
        """Rename an earlier run of this name to NAME-previous, or NAME-previous-2 …; gives its new checkpoint folder, if there was one.

        Of a finished run, what only a stopped one needs, `*.pt`, is dropped.
        """
        if not self.generator_path.is_file() and not any(self.checkpoints.glob("*.pt")):
            return None
        with suppress(ToonGANError, KeyError):  # no readable run.json: all is kept
            if self.info()["finished"]:
                for path in self.checkpoints.glob("*.pt"):
                    path.unlink()
        previous = Run.named(unused(f"{self.name}-previous", self.checkpoints.parent, self.generated.parent))
        self.generated.rename(previous.generated)
        self.checkpoints.rename(previous.checkpoints)
        self.make()
        return previous.checkpoints

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

    def save(self, generator: nn.Module, discriminator: nn.Module, history: list[dict], info: dict) -> None:
        """Write `G.pth`, `D.pth`, `history.csv` and `run.json`, each whole or not at all.

        `info` may be anything JSON can hold; the SHA-256 of both nets is added to it.

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

    def info(self) -> dict:
        """What `run.json` says."""
        try:
            return json.loads(self.info_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ToonGANError(f"{self.info_path} cannot be read; train the run again.") from error

    def history(self) -> dict[str, list[float | None]]:
        """The curves: column name to values, one a row of `history.csv`; None where nothing was measured."""
        try:
            with open(self.history_path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            return {
                column: [float(row[column]) if row.get(column) else None for row in rows] for column in HISTORY_COLUMNS
            }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ToonGANError(f"{self.history_path} cannot be read; train the run again.") from error

    def files(self) -> list[Path]:
        """Every file of the run that exists, the nets first."""
        first = [self.generator_path, self.discriminator_path, self.best_path, self.info_path, self.history_path]
        rest = sorted(self.generated.glob("*")) if self.generated.is_dir() else []
        return [path for path in first + rest if path.is_file()]


def find_run(*names: str) -> Run:
    """The first of these runs that has a generator, looked for in TOONGAN_HOME, then among the runs that ship.

    Raises:
        ToonGANError: none of them; says what to run.
    """
    for name in names:
        run = Run.named(name)
        if run.generator_path.is_file():
            return run
    for name in names:
        run = Run(name, REPOSITORY / "checkpoints" / name, REPOSITORY / "generated" / name)
        if run.generator_path.is_file():
            return run
    folders = (checkpoint_folder(names[0]).parent, REPOSITORY / "checkpoints")
    others = ", ".join(sorted({path.parent.name for folder in folders for path in folder.glob("*/G.pth")}))
    raise ToonGANError(
        f"{' or '.join(names)} has no G.pth under {display(folders[0])}; "
        f"train it first: python -m toongan train --run {names[0]}"
        + (f"; or take one that is there: {others}" if others else ""),
        "run",
    )


def write_history(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, HISTORY_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
