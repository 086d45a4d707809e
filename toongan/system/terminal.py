"""What is printed, on terminals of any encoding, and where there is none."""

import codecs
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from ..errors import legible

HANDLER = "toongan.legible"


def escaped(error: UnicodeError) -> tuple[str, int]:
    r"""What to print for characters that a terminal has not: `\u6f22`, or `\xe9` for a byte of a file's name."""
    text = legible(error.object[error.start : error.end])
    return text.encode("ascii", "backslashreplace").decode(), error.end


def prepare() -> None:
    """Let stdout and stderr take any text; nowhere, if they are closed."""
    codecs.register_error(HANDLER, escaped)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=HANDLER)


def say(text: str) -> None:
    """Print on stderr, if anybody listens."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def fault() -> OSError | None:
    """Why stdout cannot be written to, if so; it then goes nowhere from now on."""
    try:
        print(flush=True)
    except OSError as error:
        silence()
        return error
    return None


def silence() -> None:
    """Send what is left to print nowhere: Python would try again as it ends, and complain."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def flushed(status: int) -> int:
    """Write what is still to be printed; gives the exit status, which is another where that fails."""
    try:
        sys.stdout.flush()
    except OSError as error:
        silence()
        return status or explain(error)
    return status


def explain(error: OSError, hint: str = "") -> int:
    """Say why nothing can be printed any more, where that is worth a line; gives the exit status."""
    if not isinstance(error, BrokenPipeError):
        say(f"error: The output cannot be written ({error.strerror}).{hint}")
        return 2
    if hint:  # else the user has seen enough, as in `... | head`
        say(f"Stopped: nobody reads the output any more.{hint}")
    return 141


def teller(progress: bool) -> Callable[[str], None]:
    """Prints a line without tearing a progress bar, or keeps quiet."""
    from tqdm import tqdm

    return (lambda text: tqdm.write(text, file=sys.stdout)) if progress else (lambda text: None)
