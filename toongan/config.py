"""Settings of the four jobs: get data, train, generate, evaluate.

The command line is derived from these dataclasses, so a field's docstring is also
its `--help` text. Notebooks build the same objects.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .errors import ToonGANError

IMAGE_SIZES = (32, 64, 128, 256)
MAX_PICTURES = 1_000_000
MANY = "(default: 20000 avatars, or all of another set)"
# From and to, of whole numbers that settings of runs and parameters of chapters share.
RANGES = {
    "base_channels": (4, 512),
    "batch_size": (2, 65536),
    "count": (64, MAX_PICTURES),
    "faces": (8, 10_000),
    "latent_dim": (1, 4096),
    "seed": (0, 2**63 - 1),
    "steps": (1, 1_000_000),
}

Recipe = Literal["modern", "classic"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class TrainConfig:
    """Train a generator and a discriminator; leaves G.pth, D.pth, curves and sample grids."""

    run: str = "quickstart"
    """Name of the run: files go to checkpoints/RUN/ and generated/RUN/."""
    dataset: str = "avatars"
    """What to learn: avatars, avatars:STYLE, cartoonset10k, cartoonset100k, cartoon-faces, anime-faces, drive, folder:PATH, zip:PATH or tar:PATH."""
    count: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint=MANY)] = None
    """Pictures to train on, at most."""
    image_size: int = 64
    """Side of a picture in pixels: 32, 64, 128 or 256."""
    minutes: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: 5)")] = None
    """Training time. Measured at the start and turned into a number of images."""
    kimg: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")] = None
    """Thousand images to train on, instead of minutes: repeats a run exactly. At least 20 steps are trained."""
    seed: int = 0
    """Same seed, same machine, same versions: same bytes on the CPU."""
    recipe: Recipe = "modern"
    """classic: the loss, norms and rates of the paper. modern: smooth kernels, a steadier opponent, higher rates (chapter 03)."""
    base_channels: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 64 on a GPU, 16 on the CPU)")
    ] = None
    """Width of both nets."""
    latent_dim: int = 100
    """Length of the random vector that becomes a face."""
    batch_size: int = 64
    """Real pictures in a training step, of all GPUs together."""
    restart: bool = False
    """Begin anew, even if there is an unfinished run of this name to go on with."""
    save_seconds: float = 60.0
    """How often everything is saved, so that no more than that is ever lost."""
    mirror: Path | None = None
    """A second folder for checkpoints, in Google Drive for example. A fresh machine goes on from there."""
    deterministic: bool = False
    """On a GPU: the same bytes every time, a little slower. The CPU does so anyway."""
    device: Device = "auto"
    """auto takes cuda, then mps, then cpu."""
    precision: Precision = "auto"
    """auto takes bf16 where the hardware is fast at it, fp16 on older CUDA GPUs, else fp32."""

    def __post_init__(self):
        check_name(self.run, "run")
        check_image_size(self.image_size)
        check_count(self.count)
        if self.minutes is not None and self.kimg is not None:
            raise ToonGANError("sets the length of training, and so does kimg; give one of them.", "minutes")
        for option in ("minutes", "kimg"):
            if getattr(self, option) is not None:
                check_length(getattr(self, option), option)
        if self.base_channels is not None:
            check_range(self.base_channels, "base_channels", *RANGES["base_channels"])
        check_range(self.latent_dim, "latent_dim", *RANGES["latent_dim"])
        check_range(self.batch_size, "batch_size", *RANGES["batch_size"])
        check_range(self.seed, "seed", *RANGES["seed"])
        if not 0 <= self.save_seconds < math.inf:
            raise ToonGANError(f"must be 0 or more, not {self.save_seconds:g}; try 60.", "save_seconds")
        check_choice(self.recipe, "recipe", ("modern", "classic"))
        check_choice(self.device, "device", ("auto", "cpu", "cuda", "mps"))
        check_choice(self.precision, "precision", ("auto", "fp32", "bf16", "fp16"))
        if self.count is not None and self.batch_size > self.count:
            raise ToonGANError(
                f"is {self.batch_size}, more than the {self.count} pictures to train on; lower it or raise the count.",
                "batch_size",
            )


@dataclass(frozen=True)
class GenerateConfig:
    """Draw new faces with the generator of a run and save them as one grid."""

    run: str = "quickstart"
    """Name of the run whose G.pth is used."""
    count: int = 64
    """Faces in the grid."""
    seed: int = 0
    """Same seed, same faces."""
    out: Path = Path("grid.png")
    """Picture file to write: .png, .jpg or .webp."""

    def __post_init__(self):
        check_name(self.run, "run")
        check_range(self.count, "count", 1, 10_000)
        check_range(self.seed, "seed", *RANGES["seed"])
        object.__setattr__(self, "out", Path(self.out))
        if self.out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
            raise ToonGANError(f"must end in .png, .jpg or .webp, not {str(self.out)!r}.", "out")


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a run's generator against pictures it was never trained on; leaves metrics.json and metrics.png."""

    run: str = "quickstart"
    """Name of the run to measure: both files go to checkpoints/RUN/."""
    dataset: str | None = None
    """What to compare with, if not with the data set that the run was trained on."""
    count: int = 2500
    """Generated pictures, at most as many as real ones are held out. Compare only figures of one count."""
    seed: int = 0
    """Same seed, same faces and same figures."""
    inception: bool = False
    """Add FID and KID proper, on Inception features; their weights, about 95 MB, are downloaded once."""
    device: Device = "auto"
    """auto takes cuda, then mps, then cpu."""

    def __post_init__(self):
        check_name(self.run, "run")
        check_range(self.count, "count", 8, 2500)
        check_range(self.seed, "seed", *RANGES["seed"])
        check_choice(self.device, "device", ("auto", "cpu", "cuda", "mps"))


@dataclass(frozen=True)
class DataConfig:
    """Draw or download a data set and pack it into one array under data/."""

    dataset: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = "avatars"
    """avatars, avatars:STYLE, cartoonset10k, cartoonset100k, cartoon-faces, anime-faces, drive, folder:PATH, zip:PATH or tar:PATH."""
    count: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint=MANY)] = None
    """Pictures, at most."""
    image_size: int = 64
    """Side of a picture in pixels: 32, 64, 128 or 256."""

    def __post_init__(self):
        check_image_size(self.image_size)
        check_count(self.count)


def check_parameters(**values: int) -> None:
    """Look at the parameters of a chapter, by their names there, before anything runs.

    Raises:
        ToonGANError: the first that no chapter can use.
    """
    for name, value in values.items():
        if name == "IMAGE_SIZE":
            check_image_size(value, name)
        elif name == "MINUTES":
            check_length(value, name)
        else:
            check_range(value, name, *RANGES[name.lower()])


def check_image_size(image_size: int, option: str = "image_size") -> None:
    if image_size not in IMAGE_SIZES:
        raise ToonGANError(f"must be 32, 64, 128 or 256, not {image_size}.", option)


def check_length(value: float, option: str) -> None:
    if not 0 < value < math.inf:
        raise ToonGANError(f"must be more than 0, not {value:g}; try 5.", option)


def check_count(count: int | None) -> None:
    if count is not None:
        check_range(count, "count", *RANGES["count"])


def check_range(value: int, option: str, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ToonGANError(f"must be a whole number from {low:,} to {high:,}, not {value!r}.", option)


def check_choice(value: str, option: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ToonGANError(f"must be one of {', '.join(choices)}, not {value!r}.", option)


def check_name(name: str, option: str) -> None:
    """A run's name becomes a folder on every system, so it is kept plain."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) or name.endswith("."):
        raise ToonGANError(f"must be a plain name of letters, digits, '-', '_' and '.', not {name!r}.", option)
