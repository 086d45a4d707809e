"""Everything a run needs to continue as if it had never stopped, in one file that is whole or not used.

`last.pt` is the newest checkpoint, `previous.pt` the one before, and `best.pt` the one whose samples were nearest to
the held-out images. A file carries the SHA-256 of its own bytes as its zip comment, so damage is found before it is
opened. It holds only tensors, numbers, strings, lists and dictionaries, and is read without running code.
"""

import hashlib
import io
import pickle
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch.utils._pytree import tree_map_only

from ..errors import ToonGANError
from ..models import SmoothKernel
from ..paths import atomic_write, display

LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"
FIRST = "main.0.parametrizations.weight"
FORMAT = 2
DIGEST_LENGTH = 64


class Damaged(Exception):
    """A checkpoint that cannot be used; the text says why."""


def encode(state: dict) -> bytes:
    """A checkpoint as bytes, sealed with their own SHA-256."""
    buffer = io.BytesIO()
    state = tree_map_only(torch.Tensor, torch.Tensor.cpu, state)  # so that every machine can read it
    torch.save({**state, "format": FORMAT}, buffer)
    data = buffer.getvalue()
    # The last two bytes of a zip archive are the length of its comment.
    return data[:-2] + DIGEST_LENGTH.to_bytes(2, "little") + hashlib.sha256(data).hexdigest().encode()


def decode(data: bytes) -> dict:
    """The checkpoint in `data`.

    Raises:
        Damaged: it was cut short or changed, or has another format.
        ToonGANError: it holds code.
    """
    body, digest = data[:-DIGEST_LENGTH], data[-DIGEST_LENGTH:]
    body = body[:-2] + b"\0\0"
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise Damaged("its content does not match its checksum")
    try:
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ToonGANError(
            "A checkpoint holds more than tensors and numbers, which may be code, and was not opened; "
            "delete it, or use --restart."
        ) from error
    except (RuntimeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise Damaged(str(error)) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise Damaged("it was written by another version")
    return as_of_today(state)


def as_of_today(state: dict) -> dict:
    """Bring a checkpoint of an earlier version to the current form.

    In earlier versions, spectral norm kept its vectors under other names and in another order, and D's first kernel was
    smooth.
    """
    trainer = state.get("trainer") or {}
    D = trainer.get("D") or {}
    for name in [name for name in D if name.endswith("._v")]:
        layer = name.removesuffix("_v")
        D[f"{layer}u"], v = D.pop(f"{layer}_u"), D.pop(name)
        D[f"{layer}v"] = v.reshape(-1, 4, 4).permute(1, 2, 0).flatten()
    if f"{FIRST}.1.u" in D:
        free_first_kernel(D, trainer.get("optimizer_d", {}).get("state", {}).values())
    return state


def free_first_kernel(D: dict, moments: Iterable[dict]) -> None:
    """Turn D's smooth first kernel into the 4×4 kernel that it stands for, and Adam's moments as far as possible."""
    small, lay = D[f"{FIRST}.original"], SmoothKernel()
    D[f"{FIRST}.original"] = lay(small)
    for name in "uv":
        D[f"{FIRST}.0.{name}"] = D.pop(f"{FIRST}.1.{name}")
    # The gradient of a small cell is the sum over the four cells that it is laid on.
    shares = 4 * lay(torch.ones_like(small))
    for state in moments:
        if state["exp_avg"].shape == small.shape:
            state["exp_avg"], state["exp_avg_sq"] = (lay(state[name]) / shares for name in ("exp_avg", "exp_avg_sq"))


def save(folder: Path, state: dict) -> bytes:
    """Write `state` as the newest checkpoint and keep the one before as `previous.pt`; returns the bytes.

    Raises:
        ToonGANError: the disk is full; names the space needed. The earlier checkpoints are unharmed.
    """
    data = encode(state)
    with atomic_write(folder / LAST, len(data), keep=folder / PREVIOUS) as part:
        part.write_bytes(data)
    return data


def save_best(folder: Path, state: dict) -> bytes:
    """Keep `state` as the best so far; returns the bytes."""
    data = encode(state)
    with atomic_write(folder / BEST, len(data)) as part:
        part.write_bytes(data)
    return data


def read(path: Path) -> dict | None:
    """One checkpoint; None if it is missing or not usable."""
    try:
        return decode(path.read_bytes())
    except (OSError, Damaged, ToonGANError):
        return None


def load(folder: Path, say: Callable[[str], None]) -> dict | None:
    """The newest usable checkpoint of a run; None if it has none.

    Args:
        say: called if the newest checkpoint is damaged and the one before is used.

    Raises:
        ToonGANError: there are checkpoints but none is usable, or one holds code.
    """
    problems = []
    for name in (LAST, PREVIOUS):
        path = folder / name
        try:
            state = decode(path.read_bytes())
        except FileNotFoundError:
            continue
        except ToonGANError as error:
            raise ToonGANError(f"{display(path)}: {error.message}") from error
        except (Damaged, OSError) as error:
            problems.append(f"{display(path)} is damaged ({error})")
            continue
        for problem in problems:
            say(f"{problem}; continuing from {name}.")
        return state
    if problems:
        raise ToonGANError(f"{'; '.join(problems)}. No usable checkpoint is left; --restart starts over.")
    return None
