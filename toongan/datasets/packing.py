"""Turn a source into a packed folder: on all cores, in flat memory, and resumable.

Workers decode. Only this process writes, in the order of the source, so the same
source gives the same bytes. The unfinished folder is `.NAME.part` beside the final
one, with a journal (SQLite) of the work done. After a kill, packing continues from
the last entry. At the end the folder is renamed as a whole.
"""

import csv
import dataclasses
import errno
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..data import tile, to_image
from ..errors import ToonGANError
from ..paths import MARK, cannot_write, display, replace, writable_folder
from ..system.locks import Taken, hold
from ..system.signature import save_image
from .holdout import evenly
from .outcomes import DUPLICATE, Form, Labels, LeftOut, Outcome, Source, Task, Usable, run_task
from .packed import FORMAT, NOT_LABELS
from .workers import WorkerDied, Workers

MIN_IMAGES = 64
COMMIT_SECONDS = 2.0
COUNTERS = ("count", "consumed", "work", "enlarged", "coloured", "transparent")
PREVIEW = 64
SCHEMA = """
CREATE TABLE pictures (row INTEGER PRIMARY KEY, source TEXT, sha256 BLOB UNIQUE, key TEXT, labels TEXT, beyond REAL);
CREATE TABLE beside (key TEXT PRIMARY KEY, labels TEXT);
CREATE TABLE left_out (source TEXT, reason TEXT, detail TEXT);
CREATE TABLE columns (name TEXT PRIMARY KEY);
CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT);
"""


def cores() -> int:
    """The cores that this process may use, which in a container or a batch job are fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class TooFewImages(ToonGANError):
    """A source with fewer than 64 usable images."""


def pack(
    source: Source,
    folder: Path,
    form: Form,
    meta: dict,
    limit: int | None = None,
    progress: bool = True,
    is_current: Callable[[], bool] = lambda: False,
    name: str = "",
    finish: Callable[[Path], None] = lambda folder: None,
) -> int:
    """Pack `source` into `folder`, which is replaced only at the very end; returns the number of new images.

    Args:
        form: what images are to become.
        meta: what `meta.json` should say besides counts.
        limit: stop after this many images; needed if the source is endless.
        is_current: called once the folder is locked; if another process has just packed it, nothing is done.
        name: what to call the source in messages.
        finish: called with the packed folder before it takes its place; may write more files into it.

    Raises:
        ToonGANError: fewer than 64 usable images, a damaged archive, or a full disk; says what to do.
    """
    parent = writable_folder(folder.parent)
    with only_one(folder, progress):
        part = None
        try:
            recover(folder)
            if is_current():
                return 0
            part = Part(parent / f".{folder.name}.part", source.signature(), form)
            had = part.count
            with closing(part):
                fill(part, source, limit, progress, name)
                if part.count < MIN_IMAGES:
                    raise too_few(part, name)
                part.write_tables(meta)
            finish(part.folder)
            replace_folder(part.folder, folder)
            return part.count - had
        except ToonGANError as error:
            if not isinstance(error.__cause__, OSError):  # the source is at fault, so what it gave is of no use
                shutil.rmtree(parent / f".{folder.name}.part", ignore_errors=True)
                drop_if_empty(parent)
            raise
        except (OSError, sqlite3.Error) as error:
            raise cannot_pack(error, part, folder) from error
        except (WorkerDied, MemoryError) as error:
            raise ToonGANError(
                f"A process died while packing {name}, perhaps because memory ran out. Close other programs and run the same "
                "command again to continue."
            ) from error


def drop_if_empty(folder: Path) -> None:
    """Delete a folder that holds only our mark."""
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] in ([], [MARK]):
            shutil.rmtree(folder)


def fill(part: "Part", source: Source, limit: int | None, progress: bool, name: str) -> None:
    """Run the source's tasks and write their outcomes, until the source ends or `limit` is reached."""
    bar = tqdm(
        total=limit or source.amount(part.signature),
        initial=part.count if limit else part.work,
        desc=f"{'Drawing' if source.unit == 'faces' else 'Packing'} {name}",
        unit=source.unit if source.unit == "B" else f" {source.unit}",
        unit_scale=source.unit == "B",
        file=sys.stdout,
        disable=not progress,
        mininterval=0.5,
    )
    start, had = time.perf_counter(), part.count
    with bar:
        for task, outcomes in in_order(source.tasks(part.consumed), part.form):
            part.busy = True
            for outcome in outcomes:
                if limit is None or part.count < limit:
                    part.add(outcome)
            part.passed(task)
            bar.update((part.count if limit else part.work) - bar.n)
            if source.unit == "B":
                rate = (part.count - had) / (time.perf_counter() - start)
                bar.set_postfix_str(f"{rate:,.0f} images/s", refresh=False)
            if part.count == limit:
                break
        part.commit()
        bar.total = bar.n if source.unit != "B" else bar.total
        bar.refresh()


def in_order(tasks: Iterator[Task], form: Form) -> Iterator[tuple[Task, list[Outcome]]]:
    """Yield each task with its outcomes, in order, computed on all cores; a small job stays in this process."""
    workers = cores()
    first = []
    for task in tasks:
        first.append(task)
        if len(first) == 4:
            break
    if workers == 1 or len(first) < 4:
        for task in first:
            yield task, run_task(task, form)
        if workers == 1:
            for task in tasks:
                yield task, run_task(task, form)
        return
    with Workers(workers) as pool:
        waiting = deque((task, pool.submit(run_task, task, form)) for task in first)
        # A window of tasks in flight keeps memory flat for a million images.
        for task in tasks:
            waiting.append((task, pool.submit(run_task, task, form)))
            if len(waiting) > 3 * workers:
                task, future = waiting.popleft()
                yield task, future.result()
        while waiting:
            task, future = waiting.popleft()
            yield task, future.result()


class Part:
    """An unfinished packed folder.

    Attributes:
        count: images written.
        consumed: files of the source processed, with whatever outcome.
        work: the same in the source's unit of progress.
        enlarged: images that were smaller than the requested size.
        coloured: images that are not grey.
        transparent: images with at least one pixel that is not opaque.
        busy: in the middle of a task that is only partly written.
    """

    def __init__(self, folder: Path, signature: dict, form: Form):
        self.folder, self.signature, self.form = folder, signature, form
        self.made_from = json.dumps([FORMAT, signature, dataclasses.asdict(form)], sort_keys=True)
        self.header = npy_header(0, form)
        self.image_bytes = form.image_size**2 * form.channels
        if not self.resume():
            shutil.rmtree(folder, ignore_errors=True)
            self.begin()
        for name in COUNTERS:
            setattr(self, name, int(self.state(name)))
        self.busy = False
        self.digest = hashlib.sha256()
        with open(self.folder / "images.npy", "rb") as file:
            file.seek(len(self.header))
            for _ in range(self.count):
                self.digest.update(file.read(self.image_bytes))
        self.images = open(self.folder / "images.npy", "r+b", buffering=1 << 20)
        self.images.seek(len(self.header) + self.count * self.image_bytes)
        self.last_commit = time.monotonic()

    def begin(self) -> None:
        self.folder.mkdir(parents=True)
        (self.folder / "images.npy").write_bytes(self.header)
        self.journal = connect(self.folder / "journal.sqlite")
        self.journal.executescript(SCHEMA)
        self.remember(made_from=self.made_from, **dict.fromkeys(COUNTERS, 0))
        self.journal.commit()

    def resume(self) -> bool:
        """Open what an interrupted process left, if it comes from the very same source."""
        path = self.folder / "journal.sqlite"
        if not path.exists():
            return False
        self.journal = connect(path)
        try:
            same = self.state("made_from") == self.made_from
            pixels = (self.folder / "images.npy").stat().st_size - len(self.header)
            if same and pixels >= int(self.state("count")) * self.image_bytes:
                return True
        except (sqlite3.DatabaseError, OSError, TypeError) as error:
            if system_error(error) is not None:  # not the journal's fault: what was packed may be good
                raise
        self.journal.close()
        return False

    def state(self, name: str) -> str | None:
        row = self.journal.execute("SELECT value FROM state WHERE name = ?", [name]).fetchone()
        return row and row[0]

    def remember(self, **values) -> None:
        self.journal.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", values.items())

    def add(self, outcome: Outcome) -> None:
        if isinstance(outcome, Labels):
            self.journal.execute(
                "INSERT OR REPLACE INTO beside VALUES (?, ?)", [outcome.key, json.dumps(outcome.labels)]
            )
            self.name_columns(outcome.labels)
        elif isinstance(outcome, LeftOut):
            if outcome.reason:
                self.leave_out(outcome)
        else:
            self.add_image(outcome)

    def add_image(self, image: Usable) -> None:
        key = os.path.splitext(image.source)[0]
        labels = json.dumps(image.labels) if image.labels else None
        done = self.journal.execute(
            "INSERT OR IGNORE INTO pictures VALUES (?, ?, ?, ?, ?, ?)",
            [self.count, image.source, image.sha256, key, labels, image.beyond],
        )
        if not done.rowcount:
            (first,) = self.journal.execute("SELECT source FROM pictures WHERE sha256 = ?", [image.sha256]).fetchone()
            self.leave_out(LeftOut(image.source, DUPLICATE, first))
            return
        pixels = np.ascontiguousarray(image.pixels)
        self.images.write(pixels)
        self.digest.update(pixels)
        self.name_columns(image.labels)
        self.count += 1
        self.enlarged += image.enlarged
        self.coloured += pixels.shape[2] > 1 and not np.array_equal(pixels[..., :2], pixels[..., 1:3])
        self.transparent += pixels.shape[2] == 4 and bool((pixels[..., 3] < 255).any())

    def leave_out(self, outcome: LeftOut) -> None:
        self.journal.execute("INSERT INTO left_out VALUES (?, ?, ?)", [outcome.source, outcome.reason, outcome.detail])

    def name_columns(self, labels: dict[str, str]) -> None:
        if labels:
            self.journal.executemany("INSERT OR IGNORE INTO columns VALUES (?)", [[name] for name in labels])

    def passed(self, task: Task) -> None:
        """Count a finished task; now and then, commit."""
        self.consumed += task.size
        self.work += task.work
        self.busy = False
        if time.monotonic() - self.last_commit > COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Write the pixels before the entry that says they are there: the journal never promises too much."""
        self.images.flush()
        os.fsync(self.images.fileno())
        self.remember(**{name: getattr(self, name) for name in COUNTERS})
        self.journal.commit()
        self.last_commit = time.monotonic()

    def left_out(self) -> dict[str, int]:
        """How many files were left out, by reason, most frequent first."""
        return dict(
            self.journal.execute("SELECT reason, COUNT(*) FROM left_out GROUP BY reason ORDER BY COUNT(*) DESC, reason")
        )

    def beyond(self) -> dict | None:
        """For images that were not square, how much of their longer side lies outside the square."""
        rows = self.journal.execute("SELECT beyond FROM pictures WHERE beyond > 0")
        shares = np.fromiter((share for (share,) in rows), float)
        if not len(shares):
            return None
        median, most = np.median(shares), shares.max()
        return {"not_square": len(shares), "median": round(float(median), 4), "most": round(float(most), 4)}

    def write_tables(self, meta: dict) -> None:
        """Everything but the pixels: `index.csv`, `left-out.csv`, `meta.json`, and the header of `images.npy`."""
        self.write_index()
        if self.left_out():
            with open(self.folder / "left-out.csv", "w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file)
                writer.writerow(["source", "reason", "detail"])
                writer.writerows(self.journal.execute("SELECT source, reason, detail FROM left_out ORDER BY rowid"))
        self.images.truncate()
        self.images.seek(0)
        self.images.write(npy_header(self.count, self.form))
        self.images.flush()
        os.fsync(self.images.fileno())
        value = {
            "format": FORMAT,
            "count": self.count,
            **dataclasses.asdict(self.form),
            "fingerprint": self.digest.hexdigest(),
            **meta,
            "grey": self.coloured == 0,
            "transparent": self.transparent,
            "beyond": self.beyond(),
            "enlarged": self.enlarged,
            "left_out": self.left_out(),
            "made_from": self.signature,
        }
        text = json.dumps(value, indent=2, ensure_ascii=False)
        if re.search("[\ud800-\udfff]", text):
            text = json.dumps(value, indent=2)  # an undecodable folder name is escaped, so that it can be restored
        (self.folder / "meta.json").write_text(text + "\n", encoding="utf-8")
        self.write_preview()

    def write_preview(self) -> None:
        """Write a sheet of images from the whole set, as they will be trained on."""
        images = np.load(self.folder / "images.npy", mmap_mode="r")
        save_image(to_image(tile(images[evenly(np.arange(self.count), PREVIEW)])), self.folder / "preview.png")

    def write_index(self) -> None:
        columns = [name for (name,) in self.journal.execute("SELECT name FROM columns ORDER BY name")]
        rows = self.journal.execute(
            "SELECT source, sha256, pictures.labels, beside.labels FROM pictures "
            "LEFT JOIN beside ON beside.key = pictures.key ORDER BY row"
        )
        with open(self.folder / "index.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*NOT_LABELS, *columns])
            for source, sha256, own, beside in rows:
                labels = {**json.loads(own or "{}"), **json.loads(beside or "{}")}
                writer.writerow([source, sha256.hex(), *(labels.get(name, "") for name in columns)])

    def close(self) -> None:
        with suppress(OSError, sqlite3.Error):  # if the disk is full, the last entry counts
            if not self.busy:
                self.commit()
        # Nothing is kept of an unfinished task; it is done again.
        self.journal.rollback()
        self.journal.close()
        with suppress(OSError):
            self.images.close()


def connect(path: Path) -> sqlite3.Connection:
    """Open a journal. It needs no file locks, which some disks lack, since its folder is locked already."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?nolock=1", uri=True)


def npy_header(count: int, form: Form) -> bytes:
    """The header of `images.npy`. Its length is the same for every count, so it can be written last."""
    buffer = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, form.image_size, form.image_size, form.channels)}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


def too_few(part: Part, name: str) -> ToonGANError:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in part.left_out().items())
    seen = part.count + sum(part.left_out().values())
    left_out = f"; left out: {reasons}" if reasons else ""
    return TooFewImages(
        f"{name} holds {part.count:,} usable images among {seen:,} files{left_out}. At least {MIN_IMAGES} are needed."
    )


# SQLite's errors, as errors of the system.
SYSTEM_ERRORS = {
    "SQLITE_FULL": errno.ENOSPC,
    "SQLITE_READONLY": errno.EACCES,
    "SQLITE_CANTOPEN": errno.EACCES,
    "SQLITE_PERM": errno.EACCES,
    "SQLITE_IOERR": errno.EIO,
}


def system_error(error: Exception) -> OSError | None:
    """The system's error behind one of SQLite's; None if there is none."""
    name = getattr(error, "sqlite_errorname", "")
    code = next((code for start, code in SYSTEM_ERRORS.items() if name.startswith(start)), None)
    return None if code is None else OSError(code, os.strerror(code))


def cannot_pack(error: Exception, part: Part | None, folder: Path) -> ToonGANError:
    """The error to raise when `folder` cannot be written; says that what was packed is kept."""
    if isinstance(error, sqlite3.Error):
        error = system_error(error) or OSError(errno.EIO, str(error))
    problem = cannot_write(folder, error)
    if part is None:
        return problem
    so_far = f"{part.count:,} images, {part.count * part.image_bytes / 1e6:,.0f} MB"
    return ToonGANError(f"{problem} What is packed so far is kept ({so_far}), and packing continues from there.")


def replace_folder(new: Path, folder: Path) -> None:
    """Replace `folder` with `new`; `mend` repairs what a kill between the two renames leaves."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        replace(folder, old)
    replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)
    tidy(folder)


def mend(folder: Path) -> None:
    """Repair what a kill during `replace_folder` left, if anything."""
    if folder.with_name(f".{folder.name}.old").exists() or any(folder.glob("journal.sqlite*")):
        with only_one(folder, False):
            recover(folder)


def recover(folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    if old.exists():
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            replace(old, folder)
    tidy(folder)


def tidy(folder: Path) -> None:
    for leftover in folder.glob("journal.sqlite*"):
        with suppress(OSError):  # then the next time
            leftover.unlink()


@contextmanager
def only_one(folder: Path, progress: bool) -> Iterator[None]:
    """Let one process at a time make a folder; the others print a line and wait."""

    def say(taken: Taken) -> None:
        if progress:
            print(f"{display(folder)} is being made by {taken}; waiting for it.", flush=True)

    with hold(folder.parent.parent / ".locks" / f"{folder.parent.name}-{folder.name}.lock", say):
        yield
