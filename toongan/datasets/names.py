"""File names, in a form that every table, screen and machine can show."""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

# Control characters, line ends, and characters that change the direction of text.
ILLEGIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def printable(name: str) -> str:
    """A file name as text that can be read and written everywhere, whatever its bytes.

    Accented letters are one character each (NFC). Some systems store them as two, and an image must have a single name.
    Undecodable bytes and control characters are escaped: `\\xff`, `\\n`.
    """
    try:
        text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a UTF-16 pair
        text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    text = unicodedata.normalize("NFC", text)
    return ILLEGIBLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def order(name: str) -> tuple:
    """The key to sort names by, so that accented letters sort alike however they are stored."""
    return tuple(os.fsencode(part) for part in os.path.splitext(unicodedata.normalize("NFC", name))), os.fsencode(name)


def stem(source: str) -> str:
    """The part of the name that an image and its label file share."""
    return os.path.splitext(source)[0]


def is_hidden(name: str) -> bool:
    """Whether a file is one that systems leave behind: `.DS_Store`, `._face.png`, `__MACOSX/`."""
    return any(part.startswith(".") and part not in (".", "..") or part == "__MACOSX" for part in name.split("/"))


def folder_label(name: str) -> dict[str, str]:
    """The folder of an image, which is often its class, as a label."""
    parent = str(PurePosixPath(name).parent)
    return {} if parent == "." else {"folder": parent}


def leads_out(name: str) -> bool:
    """Whether a name would lead out of the folder into which an archive is unpacked."""
    return name.startswith(("/", "\\")) or bool(DRIVE.match(name)) or ".." in name.replace("\\", "/").split("/")


def is_own_folder(names: Iterable[str]) -> bool:
    """Whether a folder with files of these names is one that this program writes: a packed set, a run, its images."""
    names = set(names)
    return (
        ".toongan" in names
        or {"images.npy", "meta.json"} <= names
        or ("run.json" in names and not names.isdisjoint({"G.pth", "last.pt"}))
        or {"samples-000.png", "losses.png"} <= names
    )
