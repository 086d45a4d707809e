"""One file of a folder or an archive, from its bytes to an outcome."""

import csv
import hashlib
import importlib.util
import io

import numpy as np

from .holdout import FILM_BITS
from .images import ending, images_in, what_it_is
from .names import stem
from .outcomes import EMPTY, LFS, NOT_AN_IMAGE, WEB_PAGE, Form, Labels, LeftOut, Outcome, Unusable, Usable
from .packed import NOT_LABELS

CSV_BYTES = 1 << 16
# Increased when the same files would give other pixels, so that earlier folders are packed again.
READING = 2


def reading() -> dict:
    """What, besides the files, decides the pixels that they give."""
    return {"reading": READING, "heic": importlib.util.find_spec("pillow_heif") is not None}


def is_label_file(name: str) -> bool:
    return ending(name) == ".csv"


def read_attributes(data: bytes) -> dict[str, str] | None:
    """Read a label file of Cartoon Set, with lines of `name, index, count`, as name to index; None for any other file.

    Editors and spreadsheets may have saved it again in UTF-16, with a byte order mark, or with semicolons or tabs.
    """
    try:
        text = data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
        delimiter = next((mark for mark in ",;\t" if mark in text), ",")
        rows = [row for row in csv.reader(io.StringIO(text), skipinitialspace=True, delimiter=delimiter) if row]
        labels = {name.strip(): str(int(index)) for name, index, count in rows if int(count) > int(index) >= 0}
    except (ValueError, csv.Error):  # UnicodeDecodeError is one
        return None
    return labels if labels and len(labels) == len(rows) and labels.keys().isdisjoint(NOT_LABELS) else None


def outcomes_of(source: str, data: bytes, form: Form, labels: dict[str, str]) -> list[Outcome]:
    """What becomes of a file, given its content: one outcome, or one for each frame of a film that is wanted."""
    if not data:
        return [LeftOut(source, EMPTY)]
    if is_label_file(source):
        attributes = read_attributes(data[:CSV_BYTES])
        if attributes is not None:
            return [Labels(stem(source), attributes)]
        reason = what_it_is(data)
        return [LeftOut(source, reason if reason in (LFS, WEB_PAGE) else NOT_AN_IMAGE)]
    own, found = hashlib.sha256(data).digest(), []
    try:
        for seen in images_in(data, form):
            name, digest = source, own
            if seen.frame is not None:
                name, digest = f"{source}#{seen.frame}", digest_of_frame(own, seen.pixels)
            found.append(Usable(name, digest, seen.pixels, labels, seen.enlarged, seen.beyond))
    except Unusable as error:  # from a film that is cut short, the frames before the cut are used
        found.append(LeftOut(source, *error.args))
    return found


def digest_of_frame(film: bytes, pixels: np.ndarray) -> bytes:
    """The digest of a frame; it begins like that of its film, so that all frames of a film are held out, or none."""
    return film[: FILM_BITS // 8] + hashlib.sha256(film + pixels.tobytes()).digest()[: 32 - FILM_BITS // 8]
