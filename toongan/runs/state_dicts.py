"""`G.pth` and `D.pth`: plain state dicts, written atomically and read with care."""

import copy
import hashlib
import io
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ..conditional import ConditionalDiscriminator
from ..config import CHANNELS, IMAGE_SIZES, RANGES
from ..errors import ToonGANError
from ..models import Discriminator, Generator
from ..paths import atomic_write
from .asking import attributes_beside

PROJECTION, PALETTE, GAIN = "projection.weight", "palette.colours.weight", "main.0.gain"
AGAIN = "train the run again, or get another copy."
PLAIN = "save it with torch.save(net.state_dict(), path)."
# Prefixes that others put before the names of layers: DataParallel, torch.compile, and a net that keeps them in `main`.
PREFIX = re.compile(r"(?:(?:module|_orig_mod|main)\.)*(?=\d+\.|palette\.)")
# The first bytes of files that end in .pth but are something else, and what to do about it.
OTHERS = {
    b"version https://git-lfs": "a Git LFS pointer, not the net; fetch the net with: git lfs pull",
    b"\x1f\x8b": "packed with gzip; unpack it first",
    b"\x89PNG": "an image; give the G.pth or D.pth of a run",
    b"\x89HDF": "an HDF5 file, as Keras writes it; a PyTorch net is needed",
}


def plain_state(net: nn.Module) -> dict[str, torch.Tensor]:
    """The state of a net as contiguous CPU tensors, with spectral norm folded into the weights.

    A net without spectral norm that loads it computes the same.
    """
    net = copy.deepcopy(net).cpu().eval()
    state = {}
    with torch.no_grad():
        for key, value in net.state_dict().items():
            module, _, rest = key.partition(".parametrizations.")
            name, _, part = rest.partition(".")
            if not rest:
                state[key] = value
            elif part == "original":
                state[f"{module}.{name}"] = getattr(net.get_submodule(module), name)
    return {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in state.items()}


def save_state(path: Path, net: nn.Module) -> str:
    """Write a net as a plain state dict; returns its SHA-256. The same weights give the same bytes."""
    buffer = io.BytesIO()
    torch.save(plain_state(net), buffer)
    with atomic_write(path) as part:
        part.write_bytes(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def load_generator(path: Path | str) -> Generator:
    """The generator in a `G.pth`, ready to draw: sizes inferred from its tensors, in `eval` mode, on the CPU.

    If it can be asked for something, the `run.json` beside it says for what.

    Raises:
        ToonGANError: the file is missing or damaged, holds code, or is not a generator of this series.
    """
    state = load_state(path)
    shapes = conv_shapes(state)
    if len(shapes) >= 2 and shapes[0][1] in CHANNELS and shapes[-1][0] == 1:
        raise ToonGANError(f"{path} is a discriminator; load_generator needs a G.pth.")
    # Transposed convolutions store (in, out, height, width); from 4 px on, each block doubles the side.
    size = image_size(shapes, path, "generator")
    channels, colours = shapes[-1][1], 0
    if PALETTE in state:
        colours, rows = channels, math.prod(state[PALETTE].shape[:1])
        check_widths(path, "generator", colours=colours)
        channels, rest = divmod(rows, colours)
        if rest:
            raise misfit(path, "generator", f"its palette is not one of {colours} colours, one for each map")
    if channels not in CHANNELS:
        raise misfit(path, "generator", f"its last layer makes {channels} channels, not the 1, 3 or 4 of an image")
    latent_dim, base_channels = shapes[0][0], shapes[-1][0]
    check_widths(path, "generator", latent_dim=latent_dim, base_channels=base_channels)
    generator = fill(
        Generator(size, latent_dim, base_channels, channels=channels, colours=colours), state, path, "generator"
    )
    attributes = attributes_beside(Path(path))
    if attributes is not None and attributes.length < latent_dim:
        generator.attributes = attributes
    return generator


def load_discriminator(path: Path | str) -> Discriminator:
    """The discriminator in a `D.pth`: sizes inferred from its tensors, in `eval` mode, on the CPU.

    If its run can be asked for something, it is a `ConditionalDiscriminator`.

    Raises:
        ToonGANError: the file is missing or damaged, holds code, or is not a discriminator of this series.
    """
    state = load_state(path)
    shapes = conv_shapes(state)
    if PALETTE in state or len(shapes) >= 2 and shapes[-1][1] in CHANNELS and shapes[-1][0] != 1:
        raise ToonGANError(f"{path} is a generator; load_discriminator needs a D.pth.")
    size = image_size(shapes, path, "discriminator")
    base_channels, taken = shapes[0][:2]
    differences = GAIN in state
    channels = taken - 2 * differences
    if channels not in CHANNELS:
        takes = f"its first layer takes {taken} channels, not the 1, 3 or 4 of an image"
        raise misfit(path, "discriminator", takes + (" and 2 of differences" if differences else ""))
    check_widths(path, "discriminator", base_channels=base_channels)
    norm = "batch" if any(key.endswith("running_mean") for key in state) else "none"
    if PROJECTION in state:
        wishes = len(state[PROJECTION])
        check_widths(path, "discriminator", latent_dim=wishes)
        D = ConditionalDiscriminator(size, base_channels, norm, False, wishes, channels, differences)
    else:
        D = Discriminator(size, base_channels, norm, channels=channels, differences=differences)
    return fill(D, state, path, "discriminator")


def load_state(path: Path | str) -> dict[str, torch.Tensor]:
    """Read a state dict without running code that the file may hold.

    Layers are named as in this series, `main.0.weight`, whatever prefix the file has, and sorted by number.

    Raises:
        ToonGANError: there is no such file, or it is not a state dict.
    """
    state = read_state(path, read_bytes(path))
    bare = {key: PREFIX.sub("", key, count=1) if PREFIX.match(key) else key for key in state}
    names = {key: f"main.{name}" if re.match(r"\d+\.", name) else name for key, name in bare.items()}
    if len(set(names.values())) < len(names):
        raise ToonGANError(f"{path} holds some layers twice, under two prefixes; {PLAIN}")
    if any(".parametrizations." in key for key in state):
        raise ToonGANError(
            f"{path} holds weights in parts (parametrizations); save it with toongan.runs.save_state(path, net)."
        )

    def place(key: str) -> tuple:
        number = re.match(r"main\.(\d+)\.", names[key])
        return (0, int(number[1])) if number else (1, 0)

    return {names[key]: state[key] for key in sorted(state, key=place)}


def read_bytes(path: Path | str) -> bytes:
    path = Path(path)
    if path.is_dir():
        inside = path / "G.pth"
        hint = f"use {inside}" if inside.is_file() else "give the G.pth or D.pth in it"
        raise ToonGANError(f"{path} is a folder; {hint}.")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ToonGANError(f"There is no file {path}; train a run first, or check the path.") from error
    except (OSError, ValueError) as error:  # ValueError: no file can have this name
        reason = getattr(error, "strerror", None) or error
        raise ToonGANError(f"{path} cannot be read ({reason}); check the path and its permissions.") from error
    if not data:
        raise ToonGANError(f"{path} is empty; {AGAIN}")
    return data


def read_state(path: Path | str, data: bytes) -> Mapping[str, torch.Tensor]:
    check_kind(path, data)
    try:
        with warnings.catch_warnings(action="ignore"):  # about an impossible pickle version
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not re.search(r"GLOBAL|Unsupported (?:class|operand)", str(error)):
            raise ToonGANError(f"{path} is damaged; {AGAIN}") from error
        raise ToonGANError(
            f"{path} is not a plain state dict and was not opened, since it may hold code; {PLAIN}"
        ) from error
    except Exception as error:  # torch may raise anything on a damaged file
        raise ToonGANError(f"{path} is damaged; {AGAIN}") from error
    if isinstance(state, Mapping) and {"trainer", "settings"} <= set(state):
        raise ToonGANError(
            f"{path} is a checkpoint, from which a run continues; the nets are in the G.pth and D.pth beside it."
        )
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        held = "" if not isinstance(state, Mapping) else " but holds " + listed([str(key)[:40] for key in state])
        raise ToonGANError(f"{path} is not a plain state dict{held}; {PLAIN}")
    return state


def check_kind(path: Path | str, data: bytes) -> None:
    """Refuse a file that `torch.save` did not write, judging by its first bytes and its form as an archive.

    Raises:
        ToonGANError: says what the file is instead.
    """
    for beginning, what in OTHERS.items():
        if data.startswith(beginning):
            raise ToonGANError(f"{path} is {what}.")
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|\?xml)", data[:512], re.IGNORECASE):
        raise ToonGANError(
            f"{path} is a web page, not a net; perhaps the server asked you to sign in. Download the file itself again."
        )
    if 2 <= int.from_bytes(data[:8], "little") <= len(data) - 8 and data[8:9] == b"{":
        raise ToonGANError(
            f"{path} is a safetensors file; turn it into a state dict: "
            "torch.save(safetensors.torch.load_file(path), 'G.pth')."
        )
    if data.startswith(b"PK"):
        check_archive(path, data)
    elif data[:1] != b"\x80" and b"ustar" not in data[:512]:  # pickles, and the tar files of the first versions
        raise ToonGANError(f"{path} is not a plain state dict, nor any other file of PyTorch; {PLAIN}")


def check_archive(path: Path | str, data: bytes) -> None:
    """Check the zip archive that torch.save writes, since torch does not check its content."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            # After other bytes, Python still finds the archive, but torch may read those bytes.
            first = min((each.header_offset for each in archive.infolist()), default=0)
            whole = first == 0 and archive.testzip() is None
    except Exception as error:  # zipfile may raise half a dozen kinds
        raise ToonGANError(f"{path} is damaged; {AGAIN}") from error
    if not any(name.rpartition("/")[2] == "data.pkl" for name in names):
        held = listed([name[:40] for name in names]) or "nothing"
        raise ToonGANError(f"{path} is a zip archive that holds {held}; unpack it and give the .pth in it.")
    if not whole:
        raise ToonGANError(f"{path} is damaged; {AGAIN}")
    if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
        raise ToonGANError(f"{path} is a TorchScript program and was not opened, since it holds code; {PLAIN}")


def conv_shapes(state: Mapping[str, torch.Tensor]) -> list[torch.Size]:
    return [value.shape for key, value in state.items() if value.ndim == 4 and key != PROJECTION]


def image_size(shapes: list[torch.Size], path: Path | str, kind: str) -> int:
    """The side of the images in pixels, from the number of convolutions.

    Raises:
        ToonGANError: no image size has this number.
    """
    size = 2 ** (len(shapes) + 1)
    if size not in IMAGE_SIZES:
        number = f"{len(shapes)} convolution{'' if len(shapes) == 1 else 's'}"
        raise misfit(path, kind, f"it has {number}, but nets for 32, 64, 128 and 256 px have 4, 5, 6 and 7")
    return size


def check_widths(path: Path | str, kind: str, **widths: int) -> None:
    for name, value in widths.items():
        if not 1 <= value <= RANGES[name][1]:
            raise misfit(path, kind, f"its {name} would be {value}, but the limit is {RANGES[name][1]}")


def misfit(path: Path | str, kind: str, difference: str) -> ToonGANError:
    return ToonGANError(f"{path} is not a {kind} of this series: {difference}.")


def fill(net: nn.Module, state: dict[str, torch.Tensor], path: Path | str, kind: str):
    """Load weights into a net, whatever precision they were saved in.

    Raises:
        ToonGANError: some are missing or unexpected, have another shape, or are not numbers.
    """
    wanted = net.state_dict()
    counters = {key: value for key, value in wanted.items() if key.endswith("num_batches_tracked")}
    state = {**counters, **state}  # older files lack them, and drawing does not need them
    if differences := compare(wanted, state):
        raise misfit(path, kind, "; ".join(differences))
    for key, value in state.items():
        if key in counters:
            continue
        if not value.is_floating_point() or value.is_meta or value.layout != torch.strided:
            raise misfit(
                path, kind, f"{key} holds no real numbers but {value.dtype}, {value.layout}".replace("torch.", "")
            )
        if not value.float().isfinite().all():
            raise ToonGANError(
                f"{path} holds weights that are not numbers any more (NaN or infinite, first in {key}); use the "
                "G-best.pth beside it or another copy, or train the run again with --precision fp32."
            )
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)


def compare(wanted: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> list[str]:
    """How a state differs from the expected one, in few words."""
    shapes = [
        f"{key} is {by(state[key])}, not {by(value)}"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    found = [
        ("missing: ", [key for key in wanted if key not in state]),
        ("unexpected: ", [key[:80] for key in state if key not in wanted]),
        ("", shapes),
    ]
    return [words + listed(items) for words, items in found if items]


def by(tensor: torch.Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a single number"


def listed(items: list[str], most: int = 2) -> str:
    """`a, b and 3 more`"""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
