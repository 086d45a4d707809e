"""Ctrl-C and SIGTERM, handled between two steps."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible(patient: bool = False) -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event that a loop checks between two steps.

    A second Ctrl-C interrupts at once, unless `patient`. Outside the main thread, signals are left alone.
    """
    stop = threading.Event()

    def on_signal(number, frame):
        if stop.is_set() and not patient:
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
