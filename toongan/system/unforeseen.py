"""Unforeseen errors: one sentence on the screen, and a report that helps to find the cause in a file."""

import os
import platform
import shlex
import sys
import tempfile
import time
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import legible
from ..paths import display, home

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "tyro", "tqdm")


def unforeseen(error: BaseException, arguments: list[str]) -> str:
    """The sentence for the user; writes the report that it names. Never fails."""
    try:
        what = legible(f"{type(error).__name__}: {error}")
    except Exception:
        what = type(error).__name__
    what = what if len(what) <= 200 else f"{what[:197]}..."
    text = report(error, arguments)
    path = write(text)
    start = f"something unforeseen happened ({what}). "
    if path is None:
        return f"{start}No folder can be written to, so the traceback follows.\n{text}"
    return (
        f"{start}The traceback is in {display(path)}; run the same command again, and if that does not help, "
        "send that file to the authors."
    )


def report(error: BaseException, arguments: list[str]) -> str:
    """The command, the machine, the versions and the traceback."""
    try:
        lines = [
            f"command: python -m toongan {shlex.join(arguments)}",
            f"date: {time.strftime('%Y-%m-%d %H:%M:%S')}",
            f"folder: {os.getcwd()}",
            f"TOONGAN_HOME: {os.environ.get('TOONGAN_HOME', 'not set')}",
            f"Python {platform.python_version()} ({sys.executable}) on {platform.platform()}",
            "toongan " + __import__("toongan").__version__,
            *map(versioned, PACKAGES),
        ]
    except Exception as another:
        lines = [f"({type(another).__name__} while the machine was described)"]
    return "\n".join([*lines, "", "".join(traceback.format_exception(error))])


def versioned(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} is not installed"


def write(text: str) -> Path | None:
    """Write a report under a new name, in TOONGAN_HOME or, failing that, among the temporary files."""
    for folder in (home, tempfile.gettempdir):
        try:
            number, name = tempfile.mkstemp(".txt", time.strftime("toongan-error-%Y%m%d-%H%M%S-"), folder())
            with open(number, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            return Path(name)
        except Exception:  # no such folder, no permission, no space, or no home folder
            continue
    return None
