"""What zip and tar archives share: members are checked before they are read.

No archive is ever unpacked to disk, so no name in one can escape a folder. The unpacked size is compared with what the
images can fill, given their size in pixels. An archive that grows beyond that is malicious, and is not read further.
"""

import errno
from pathlib import Path

from ..errors import ToonGANError
from .images import may_be_an_image, no_image
from .names import is_hidden, leads_out, printable
from .outcomes import ARCHIVE, MAX_FILE_BYTES, NESTED, NOT_AN_IMAGE, NOT_REGULAR, TOO_LARGE, UNSAFE_NAME, LeftOut
from .reading import CSV_BYTES, is_label_file

MAX_MEMBERS = 2_500_000
MAX_RATIO = 100
# Below this unpacked size no archive is a bomb, whatever its ratio.
HARMLESS_BYTES = 256 << 20
PEEK_BYTES = 64 << 10

Member = tuple[str, bytes | LeftOut]


class UnusableArchive(ToonGANError):
    """An archive that is unusable in this copy; `what` says why in a few words."""

    def __init__(self, path: Path, what: str, remedy: str = "get another copy, or unpack it and use folder:PATH"):
        super().__init__(f"{printable(str(path))} is {what}; {remedy}.")
        self.what = what


class Growth:
    """How many unpacked bytes of an archive no image accounts for."""

    def __init__(self, path: Path):
        self.path, self.limit, self.waste = path, max(HARMLESS_BYTES, MAX_RATIO * path.stat().st_size), 0

    def add(self, size: int) -> None:
        """Count more such bytes; refuse the archive once there are too many."""
        self.waste += max(0, size)
        if self.waste > self.limit:
            raise ToonGANError(
                f"{printable(str(self.path))} would unpack to more than {MAX_RATIO} times its size, and not to "
                "images; it was not read any further. If you trust it, unpack it and use folder:PATH."
            )


def check_members(path: Path, count: int) -> None:
    if count > MAX_MEMBERS:
        raise ToonGANError(
            f"{printable(str(path))} holds more than {MAX_MEMBERS:,} files, which is too many; split it."
        )


def is_disk_error(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)  # a seek before the start is EINVAL


def cannot_read(path: Path, error: OSError) -> ToonGANError:
    return ToonGANError(
        f"Cannot read {printable(str(path))} ({error.strerror or error}); check its disk, then try again."
    )


def refused(name: str, regular: bool, size: int) -> LeftOut | None:
    """Why a member of an archive is not read at all, judging by its header."""
    source = printable(name)
    if leads_out(name):
        return LeftOut(source, UNSAFE_NAME)
    if is_hidden(name):
        return LeftOut(source, "")
    if not regular:
        return LeftOut(source, NOT_REGULAR)
    if size > (CSV_BYTES if is_label_file(name) else MAX_FILE_BYTES):
        return LeftOut(source, NOT_AN_IMAGE if is_label_file(name) else TOO_LARGE)
    return None


def not_read(name: str, start: bytes) -> LeftOut | None:
    """Why a member is not read beyond its beginning, judging by that beginning."""
    if not start or is_label_file(name) or may_be_an_image(name, start):
        return None
    reason = no_image(name, start)
    return LeftOut(printable(name), NESTED if reason == ARCHIVE else reason)
