"""Long measurements, a process each, a few at a time; a row is kept as soon as it is there, and not measured again."""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from toongan.data import tile
from toongan.runs import Run

# Neither palette nor differences, which flat drawings get by default: recipes and loops are compared without them.
PLAIN = {"colours": 0, "differences": False}
RESULTS = Path(os.environ.get("BENCHMARK_RESULTS") or Path(__file__).parent / "results")


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table of results; none if it is not there."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run_all(module: str, jobs: list[dict], table: Path, columns: tuple[str, ...], at_once: int) -> None:
    """Measure each job with `python -m MODULE --job JSON`, and add a row for it to `table`.

    The processes share the cores evenly. If one fails, the others go on, and the failed ones are named at the end. Results do not depend on how many run at once, only how soon they are there.
    """
    table.parent.mkdir(parents=True, exist_ok=True)
    done = rows_of(table)
    if not done:
        table.write_text(",".join(columns) + "\n", encoding="utf-8")
    jobs = [job for job in jobs if not any(all(row[key] == str(job[key]) for key in job) for row in done)]
    threads = max(1, torch.get_num_threads() // at_once)  # honours OMP_NUM_THREADS

    def measure(job: dict) -> dict:
        command = [sys.executable, "-m", module, "--job", json.dumps(job)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
        return {**job, **json.loads(text.splitlines()[-1])}

    pool, failed = ThreadPoolExecutor(at_once), []
    try:
        running = {pool.submit(measure, job): job for job in jobs}
        for number, future in enumerate(as_completed(running), 1):
            if future.exception() is not None:
                failed.append(str(running[future]))
                continue
            row = future.result()
            with open(table, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, columns, lineterminator="\n").writerow(row)
            print(f"{number} of {len(jobs)}: {row}", flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    if failed:
        sys.exit("\n".join([f"{len(failed)} of {len(jobs)} failed; the same command tries them again:", *failed]))


def read_options(parser: argparse.ArgumentParser, measure: Callable[[dict], dict]) -> argparse.Namespace:
    """The options of a script, with those that `run_all` needs. A process that was started for one job measures it, and ends."""
    parser.add_argument("--at-once", type=int, default=2, help="jobs measured at the same time")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(measure(json.loads(options.job))), flush=True)
        sys.exit()
    return options


def keep_samples(kind: str, name: str, samples: np.ndarray) -> None:
    """The first 16 images `(N, H, W, 3)` beside the table."""
    folder = RESULTS / kind
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(tile(samples[:16])).save(folder / f"{name}.webp", quality=80)


def delete(run: Run) -> None:
    """A run that was made to be measured leaves no files."""
    for folder in (run.checkpoints, run.generated):
        shutil.rmtree(folder)
