"""One file of a folder or an archive, from its bytes to an outcome."""

import csv
import hashlib
import importlib.util
import io

from .names import stem
from .outcomes import EMPTY, LFS, NOT_A_PICTURE, WEB_PAGE, Labels, LeftOut, Outcome, Picture, Unusable
from .packed import NOT_LABELS
from .pictures import ending, read_picture, what_it_is

CSV_BYTES = 1 << 16
# Raised when the same files would give other pixels, so that what was packed before is packed anew.
READING = 2


def reading() -> dict:
    """What decides, beside the files, which pixels they give."""
    return {"reading": READING, "heic": importlib.util.find_spec("pillow_heif") is not None}


def is_label_file(name: str) -> bool:
    return ending(name) == ".csv"


def read_attributes(data: bytes) -> dict[str, str] | None:
    """Cartoon Set's label file, lines of `name, index, count`, as name to index; None if it is another kind of file.

    Editors and spreadsheets may have saved it anew: in UTF-16, with a byte order mark, with semicolons or tabs.
    """
    try:
        text = data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
        delimiter = next((mark for mark in ",;\t" if mark in text), ",")
        rows = [row for row in csv.reader(io.StringIO(text), skipinitialspace=True, delimiter=delimiter) if row]
        labels = {name.strip(): str(int(index)) for name, index, count in rows if int(count) > int(index) >= 0}
    except (ValueError, csv.Error):  # UnicodeDecodeError is one
        return None
    return labels if labels and len(labels) == len(rows) and labels.keys().isdisjoint(NOT_LABELS) else None


def outcome_of(source: str, data: bytes, image_size: int, labels: dict[str, str]) -> Outcome:
    """What becomes of a file, given its content."""
    if not data:
        return LeftOut(source, EMPTY)
    if is_label_file(source):
        attributes = read_attributes(data[:CSV_BYTES])
        if attributes is not None:
            return Labels(stem(source), attributes)
        reason = what_it_is(data)
        return LeftOut(source, reason if reason in (LFS, WEB_PAGE) else NOT_A_PICTURE)
    try:
        pixels, enlarged = read_picture(data, image_size)
    except Unusable as error:
        return LeftOut(source, *error.args)
    return Picture(source, hashlib.sha256(data).digest(), pixels, labels, enlarged)
