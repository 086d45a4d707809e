"""Processes that give answers, raise errors, and die."""

import multiprocessing
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator

import pytest
from conftest import REPOSITORY

from toongan.datasets.workers import WorkerDied, Workers


@pytest.fixture
def pool() -> Iterator[Workers]:
    with Workers(2) as pool:
        yield pool
    assert not multiprocessing.active_children()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_the_middle_of_an_answer() -> None:
    pipe = sys._getframe(1).f_locals["pipe"]
    os.write(pipe.fileno(), struct.pack("!i", 1000) + b"the first of a thousand bytes")
    die()


def test_answers_belong_to_their_questions(pool):
    futures = [pool.submit(divmod, number, 7) for number in range(100)]
    assert [future.result() for future in futures] == [divmod(number, 7) for number in range(100)]


def test_answers_may_be_large(pool):
    futures = [pool.submit(bytes, 10_000_000) for _ in range(6)]
    assert all(len(future.result()) == 10_000_000 for future in futures)


def test_an_error_is_raised_here_and_says_where_it_was_there(pool):
    with pytest.raises(ZeroDivisionError) as error:
        pool.submit(divmod, 1, 0).result()
    assert "in answer" in "".join(error.value.__notes__)
    assert pool.submit(divmod, 7, 2).result() == (3, 1)


@pytest.mark.parametrize("end", [die, die_in_the_middle_of_an_answer])
def test_a_process_that_dies_is_noticed(pool, end):
    with pytest.raises(WorkerDied):
        pool.submit(end).result()


def test_a_script_needs_no_guard_around_its_code(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from toongan.datasets.workers import Workers\n"
        "print('begun', flush=True)\n"
        "with Workers(2) as pool:\n"
        "    print(pool.submit(divmod, 7, 2).result())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == ["begun", "(3, 1)"] and not done.stderr, done.stderr
