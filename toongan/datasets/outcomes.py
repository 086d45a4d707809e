"""What becomes of a file: an image, labels for one, or a reason why it is neither."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from PIL import Image

MAX_FILE_BYTES = 256 << 20

NOT_AN_IMAGE = "not an image"
EMPTY = "empty file"
DAMAGED = "damaged or cut short"
TOO_LARGE = f"more than {MAX_FILE_BYTES >> 20} MB"
TOO_MANY_PIXELS = f"more than {Image.MAX_IMAGE_PIXELS / 1e6:.0f} megapixels"
FOREIGN = "in a format that cannot be read here: export as PNG or JPEG"
VARIANT = "in a variant of its format that cannot be read here: export as PNG or JPEG"
UNKNOWN_LEVELS = "levels in a range that cannot be told: export with 8 bits a channel"
MADE_HERE = "made by this program"
HIDDEN = "hidden: rename it without the leading dot"
LFS = "a Git LFS pointer, not the image: run git lfs pull"
WEB_PAGE = "a web page, not an image: download it again"
ARCHIVE = "an archive: unpack it, or use zip:PATH or tar:PATH"
HEIC = "HEIC: install pillow-heif, or export as JPEG"
NOT_REGULAR = "link or device, not a regular file"
UNSAFE_NAME = "name leads out of the archive: pack it again with other names"
ENCRYPTED = "locked with a password: pack it again without one"
METHOD = "compressed in a way that Python cannot read ({}): pack it again as a plain zip"
NESTED = "in an archive inside the archive: unpack it"
OVERLAPS = "shares its bytes with another file of the archive"
PADDED = "far larger than its pixels can be"
UNREADABLE = "cannot be read"
BROKEN_LINK = "broken link"
DUPLICATE = "duplicate of another"


class Unusable(Exception):
    """A file that cannot be used; `args` are the reason and a detail."""


@dataclass(frozen=True)
class Form:
    """What images are to become.

    Attributes:
        image_size: side in pixels.
        fit: how an image is made square: `"crop"`, `"pad"` or `"stretch"`.
        channels: 1 for grey, 3 for colours, 4 for colours with transparency.
        frames: whether each frame of a film is an image, or only its first.
    """

    image_size: int
    fit: str = "crop"
    channels: int = 3
    frames: bool = False


@dataclass(frozen=True)
class Usable:
    """A usable image: uint8 pixels `(H, W, channels)` and the SHA-256 that identifies it, usually that of its file.

    Attributes:
        enlarged: whether it was smaller than the requested size.
        beyond: the share of its longer side that lies outside the square; 0 for a square image.
    """

    source: str
    sha256: bytes
    pixels: np.ndarray
    labels: dict[str, str] = field(default_factory=dict)
    enlarged: bool = False
    beyond: float = 0.0


@dataclass(frozen=True)
class Labels:
    """Attributes from a CSV file beside an image of the same name."""

    key: str
    labels: dict[str, str]


@dataclass(frozen=True)
class LeftOut:
    """A file that gives no image, and why; a file without a reason is not reported."""

    source: str
    reason: str
    detail: str = ""


Outcome = Usable | Labels | LeftOut


class Task(Protocol):
    """Some files or drawings to process. It is small enough to send to a worker process, which returns outcomes.

    Attributes:
        size: the number of files or drawings.
        work: how far it moves a progress bar.
    """

    size: int
    work: int

    def run(self, form: Form) -> list[Outcome]: ...


class Source(Protocol):
    """Where images come from: a folder, an archive, or drawing on this machine.

    Attributes:
        unit: the unit of its amount and of its tasks' work.
    """

    unit: str

    def signature(self) -> dict:
        """A description that changes when the images change."""

    def amount(self, signature: dict) -> int | None:
        """The total work; None if the source is endless."""

    def tasks(self, skip: int) -> Iterator[Task]:
        """Tasks for all images except the first `skip`."""


def run_task(task: Task, form: Form) -> list[Outcome]:
    """Run a task; called in a worker process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's warnings do not name the file
        return task.run(form)
