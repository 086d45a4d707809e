"""Printing, on terminals of any encoding and without a terminal."""

import codecs
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from ..errors import legible

HANDLER = "toongan.legible"


def escaped(error: UnicodeError) -> tuple[str, int]:
    r"""What to print for characters that a terminal cannot show: `\u6f22`, or `\xe9` for a byte of a file's name."""
    text = legible(error.object[error.start : error.end])
    return text.encode("ascii", "backslashreplace").decode(), error.end


def prepare() -> None:
    """Let stdout and stderr take any text; if they are closed, it goes nowhere."""
    codecs.register_error(HANDLER, escaped)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=HANDLER)


def say(text: str) -> None:
    """Print on stderr, if it is open."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def fault() -> OSError | None:
    """Why stdout cannot be written to, or None; if it cannot, later output goes nowhere."""
    try:
        print(flush=True)
    except OSError as error:
        silence()
        return error
    return None


def silence() -> None:
    """Send the remaining output nowhere; otherwise Python would try again at its end, and complain."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def flushed(status: int) -> int:
    """Write the remaining output; returns the exit status, which changes if that fails."""
    try:
        sys.stdout.flush()
    except OSError as error:
        silence()
        return status or explain(error)
    return status


def explain(error: OSError, hint: str = "") -> int:
    """Say why nothing can be printed any more, if that is worth a line; returns the exit status."""
    if not isinstance(error, BrokenPipeError):
        say(f"error: The output cannot be written ({error.strerror}).{hint}")
        return 2
    if hint:  # without one the user has seen enough, as in `... | head`
        say(f"Stopped: nobody reads the output any more.{hint}")
    return 141


def teller(progress: bool) -> Callable[[str], None]:
    """A function that prints a line without breaking a progress bar, or that does nothing."""
    from tqdm import tqdm

    return (lambda text: tqdm.write(text, file=sys.stdout)) if progress else (lambda text: None)
