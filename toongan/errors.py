"""The one exception that users are meant to read."""

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# How PyTorch (on the CPU, CUDA and Apple's GPUs) and CUDA's libraries say that memory has run out.
MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|DefaultCPUAllocator|STATUS_ALLOC_FAILED", re.IGNORECASE
)
GPU = re.compile(r"CUDA|CUDNN|CUBLAS|MPS|HIP")
REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"
SPACE = "free some space, or set TOONGAN_HOME to a folder on a larger disk"
PERMISSION = "change its permissions, or set TOONGAN_HOME to a folder that you own"
IN_THE_WAY = "something else already has this name; move it away"
REMEDIES = {
    errno.ENOSPC: SPACE,
    errno.EDQUOT: SPACE,
    errno.EFBIG: SPACE,
    errno.EACCES: PERMISSION,
    errno.EPERM: PERMISSION,
    errno.EROFS: PERMISSION,
    errno.EEXIST: IN_THE_WAY,
    errno.EISDIR: IN_THE_WAY,
    errno.ENOTDIR: IN_THE_WAY,
    errno.ENAMETOOLONG: "shorten the path",
    errno.EMFILE: "close other programs, or raise the limit: ulimit -n 4096",
    errno.ENFILE: "close other programs",
    errno.EIO: "the disk may be failing; copy what is on it, and use another",
}


class ToonGANError(Exception):
    """Something the user can fix; the message says what and how.

    `option` is the name of the setting at fault (`image_size`), if there is one.
    Notebooks show it as it is, the command line as an option (`--image-size`).
    """

    def __init__(self, message: str, option: str | None = None):
        super().__init__(message)
        self.message = legible(message)
        self.option = option

    def __str__(self) -> str:
        return f"{self.option} {self.message}" if self.option else self.message

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of a traceback: the message alone."""
        return [f"error: {self}"]

    def for_command_line(self) -> str:
        if self.option is None:
            return self.message
        return f"--{self.option.replace('_', '-')} {self.message}"


def legible(text: str) -> str:
    r"""`text` on one line, as any page or terminal can show it; undecodable bytes of a file name become `\xe9`."""

    def escaped(match: re.Match) -> str:
        code = ord(match[0])
        return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else repr(match[0])[1:-1]

    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", escaped, text)


def to_continue(text: str, restart: bool) -> str:
    """A sentence that may say "run the same command again": after `--restart`, that would start over once more."""
    return text.replace("same command again", "same command again without --restart") if restart else text


@contextmanager
def explaining_memory(config) -> Iterator[None]:
    """Say what to do, instead of what PyTorch says, if memory runs out.

    Raises:
        ToonGANError: memory has run out; names the setting to lower.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if (problem := out_of_memory(error, config)) is not None:
            raise problem from error
        raise


def out_of_memory(error: BaseException, config) -> ToonGANError | None:
    """What to do when memory has run out; None if the exception says something else.

    Args:
        config: the settings of the job. The message names the one to lower, with half its value.
    """
    text = " ".join(map(str, error.args))
    kinds = {kind.__name__ for kind in type(error).__mro__}
    said = isinstance(error, RuntimeError) and MEMORY.search(text)
    if not (said or kinds & {"MemoryError", "OutOfMemoryError"} or getattr(error, "errno", None) == errno.ENOMEM):
        return None
    where = "GPU" if "OutOfMemoryError" in kinds or GPU.search(text) else "machine"
    if hasattr(config, "batch_size"):
        ranks = os.environ.get("WORLD_SIZE", "")
        ranks = int(ranks) if ranks.isdecimal() and int(ranks) else 1
        batch = config.batch_size or 64
        half = batch // 2 // ranks * ranks  # ranks share it evenly, and batch norm needs two each
        again = "A run that has begun keeps its settings, so add --restart or give another --run."
        if half >= 2 * ranks:
            return ToonGANError(
                f"{batch} is too much for the memory of this {where}; try {half}. {again}", "batch_size"
            )
        return ToonGANError(
            f"must be lower for the memory of this {where}; try {max(4, (config.base_channels or 16) // 2)}. {again}",
            "base_channels",
        )
    least = 8 if hasattr(config, "inception") else 1
    if isinstance(getattr(config, "count", None), int) and config.count > least:
        return ToonGANError(
            f"{config.count} is too much for the memory of this {where}; try {max(least, config.count // 2)}.", "count"
        )
    return ToonGANError(f"This {where} has too little memory left; close other programs and try again.")


def unusable_file(error: BaseException) -> ToonGANError | None:
    """What to do when the system refused a file; None after any other exception."""
    if not isinstance(error, OSError) or error.strerror is None:
        return None
    if isinstance(error.filename, str | bytes):
        remedy = REMEDIES.get(error.errno, "check the path, and run the same command again")
        return ToonGANError(f"{os.fsdecode(error.filename)} cannot be used ({error.strerror}); {remedy}.")
    if error.errno in REMEDIES:  # some calls do not name the file
        return ToonGANError(f"A file cannot be used ({error.strerror}); {REMEDIES[error.errno]}.")
    return None


def missing_package(error: BaseException) -> ToonGANError | None:
    """What to do when a package of `requirements.txt` is not installed; None after any other exception."""
    if not isinstance(error, ModuleNotFoundError) or not error.name or error.name.startswith("toongan"):
        return None
    return ToonGANError(
        f"The package {error.name} is missing; first run: {sys.executable} -m pip install -r {REQUIREMENTS}"
    )
