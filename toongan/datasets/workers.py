"""A pool of processes that notices when one of them dies.

In `ProcessPoolExecutor`, all processes write their answers to a single pipe. If one is killed in the middle of an
answer, for example for lack of memory, the pool waits for the rest forever. Here each process has its own pipe, which
closes when the process ends.
"""

import multiprocessing
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import ModuleType
from typing import Any


class WorkerDied(Exception):
    """A process ended before it answered."""


class Workers:
    """Run functions in `count` processes, in the order of submission; use it in a `with` statement.

    On exit, calls that have begun are finished, and the others are dropped.
    """

    def __init__(self, count: int):
        # spawn is safe beside torch's threads, and works the same on every system.
        context = multiprocessing.get_context("spawn")
        self.threads = ThreadPoolExecutor(count)  # one for each process, to wait for its answer
        self.pipes: list[Connection] = []
        self.free: SimpleQueue[Connection] = SimpleQueue()
        self.processes = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=answer, args=(theirs,), daemon=True)
            with main_hidden():
                process.start()
            theirs.close()  # otherwise the pipe would stay open after the process ends
            self.processes.append(process)
            self.pipes.append(ours)
            self.free.put(ours)

    def submit(self, function: Callable, *args) -> Future:
        """The future result of `function(*args)`; `function` must be importable, `args` picklable.

        Its `result()` raises what `function` raised, or `WorkerDied`.
        """
        return self.threads.submit(self.ask, function, args)

    def ask(self, function: Callable, args: tuple) -> Any:
        pipe = self.free.get()
        try:
            pipe.send((function, args))
            result, error = pipe.recv()
        except (EOFError, OSError):
            raise WorkerDied from None
        finally:
            self.free.put(pipe)
        if error:
            raise error
        return result

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_) -> None:
        self.threads.shutdown(wait=True, cancel_futures=True)
        for pipe in self.pipes:
            pipe.close()  # this tells a process that it is no longer needed
        for process in self.processes:
            process.join()


@contextmanager
def main_hidden() -> Iterator[None]:
    """Keep new processes from running the program that starts them.

    They would import it, in case it defines functions for them; ours are all in the package. A script without
    `if __name__ == "__main__"` would then start over in each process.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def answer(pipe: Connection) -> None:
    """Answer calls until the other end of the pipe is closed; each process runs this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the parent handles it
    with suppress(EOFError, OSError):
        while True:
            function, args = pipe.recv()
            try:
                reply = function(*args), None
            except Exception as error:
                error.add_note(traceback.format_exc())
                reply = None, error
            pipe.send(reply)
