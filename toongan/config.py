"""Settings of the five jobs: get data, train, generate, evaluate, share.

The command line is derived from these dataclasses, so a field's docstring is also
its `--help` text. Notebooks build the same objects.
"""

import math
import numbers
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from .errors import ToonGANError

IMAGE_SIZES = (32, 64, 128, 256)
CHANNELS = (1, 3, 4)
MAX_IMAGES = 1_000_000
MANY = "(default: 20000 avatars, or all images of another set)"
# Smallest and largest values of the whole numbers that run settings and chapter parameters share.
RANGES = {
    "base_channels": (4, 512),
    "colours": (0, 64),
    "batch_size": (2, 65536),
    "count": (64, MAX_IMAGES),
    "faces": (8, 10_000),
    "latent_dim": (1, 4096),
    "seed": (0, 2**63 - 1),
    "steps": (1, 1_000_000),
}

# The longest training: about two years, or a trillion images.
LONGEST = {"minutes": 1e6, "kimg": 1e9}
# A run that is set aside becomes NAME-previous, then NAME-previous-2 …: this leaves room for a thousand of them.
LONGEST_NAME, LONGEST_NEW_NAME = 64, 50
# Windows keeps these names for devices and makes no folder with one, whatever follows the dot.
DEVICES_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|com[1-9]|lpt[1-9])(\..*)?", re.IGNORECASE)
LONGEST_FILE_NAME = 255  # bytes, on every common file system
IMAGES = (".png", ".jpg", ".jpeg", ".webp")

Recipe = Literal["modern", "classic"]
Fit = Literal["crop", "pad", "stretch"]
Augment = Literal["none", "flips", "diffaugment", "both"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class TrainConfig:
    """Train a generator and a discriminator; writes G.pth, D.pth, curves and sample grids."""

    run: str = "quickstart"
    """Name of the run. Its files go to checkpoints/RUN/ and generated/RUN/."""
    dataset: str = "avatars"
    """Data set to train on: avatars, avatars:STYLE, cartoonset10k, cartoonset100k, cartoon-faces, anime-faces, drive, folder:PATH, zip:PATH or tar:PATH."""
    count: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint=MANY)] = None
    """Number of images to use, at most."""
    image_size: int = 64
    """Side of an image in pixels: 32, 64, 128 or 256."""
    fit: Fit = "crop"
    """How your own images are made square: crop, pad or stretch, as explained by data --help."""
    channels: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 1 if all are grey, else 3)")
    ] = None
    """1 for grey images, 3 for colour, 4 for colour with transparency."""
    frames: bool = False
    """Use every frame of an animation as an image, as explained by data --help."""
    skip_alike: bool = False
    """Leave out images that nearly repeat another one."""
    minutes: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: 5)")] = None
    """Training time. The speed is measured first, and turns the time into a number of images."""
    kimg: Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")] = None
    """Length in thousands of images, instead of minutes; repeats a run exactly. A run has at least 20 steps."""
    seed: int = 0
    """On the CPU, the same seed, machine and package versions give the same bytes."""
    recipe: Recipe = "modern"
    """classic: the loss, norms and learning rates of the paper. modern: smooth kernels, a steadier discriminator, higher learning rates (chapter 03)."""
    base_channels: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 64 on a GPU, 16 on the CPU)")
    ] = None
    """Width of both nets."""
    colours: Annotated[
        int | None,
        tyro.conf.arg(
            metavar="N",
            help_behavior_hint="(default: those of --start; else 8 for many flat drawings at 64 px, 0 for others)",
        ),
    ] = None
    """G mixes each image from a palette of N colours of its own, which draws flat areas and sharp edges (chapter 02). 0: it sets each pixel by itself."""
    differences: Annotated[
        bool | None,
        tyro.conf.arg(help_behavior_hint="(default: as --start has it; else True with a palette for flat drawings)"),
    ] = None
    """D also sees how the brightness of each pixel differs from its neighbours', magnified, and so notices areas that are not flat (chapter 02)."""
    latent_dim: int = 100
    """Length of the random vector that becomes a face."""
    ask: Annotated[str | None, tyro.conf.arg(metavar="NAMES", help_behavior_hint="")] = None
    """Learn to draw on request: names of attributes in the labels, such as top,accessories, or all. generate then takes --want (chapter 08)."""
    batch_size: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 64)")] = None
    """Real images in a training step, over all GPUs together. The default is 32 if fewer than 64 images are left to train on."""
    augment: Augment = "none"
    """For small data sets. flips: half of the images are mirrored. diffaugment: D sees every image shifted, recoloured and with a hole (chapter 06)."""
    start: Annotated[str | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="")] = None
    """Start with the nets of a trained run instead of random ones: its name, its folder, or its two files as G.pth,D.pth."""
    freeze: int = 0
    """Number of D's first layers that stay as --start has them (Mo et al. 2020)."""
    restart: bool = False
    """Start over, even if an unfinished run of this name could be continued."""
    extend: bool = False
    """Train a finished run further, until the whole run has the given --kimg or --minutes. The shorter run is kept as RUN-previous."""
    save_seconds: float = 60.0
    """Seconds between two saves: the most training that a crash can cost."""
    mirror: Path | None = None
    """A second folder for checkpoints, for example in Google Drive. A fresh machine can continue from it."""
    log: Literal["none", "tensorboard"] = "none"
    """tensorboard: write curves and sample grids to checkpoints/RUN/log as well; view them with tensorboard --logdir checkpoints."""
    deterministic: bool = False
    """On a GPU: give the same bytes every time, a little more slowly. The CPU always does."""
    device: Device = "auto"
    """auto takes cuda, then mps, then cpu."""
    precision: Precision = "auto"
    """auto takes bf16 where the hardware is fast at it, fp16 on older CUDA GPUs, and fp32 elsewhere."""

    def __post_init__(self):
        settle(
            self,
            run=check_new_name(self.run, "run"),
            dataset=check_text(self.dataset, "dataset"),
            count=check_count(self.count),
            image_size=check_image_size(self.image_size),
            fit=check_choice(self.fit, "fit", get_args(Fit)),
            channels=optional(check_channels, self.channels),
        )
        check_switches(self)
        if self.extend and self.restart:
            raise ToonGANError("continues a run, and restart starts over; give only one of them.", "extend")
        if self.minutes is not None and self.kimg is not None:
            raise ToonGANError("sets the length of training, and so does kimg; give only one of them.", "minutes")
        settle(
            self,
            minutes=optional(check_length, self.minutes, "minutes"),
            kimg=optional(check_length, self.kimg, "kimg"),
            seed=check_range(self.seed, "seed", *RANGES["seed"]),
            base_channels=optional(check_range, self.base_channels, "base_channels", *RANGES["base_channels"]),
            colours=optional(check_colours, self.colours),
            differences=optional(check_switch, self.differences, "differences"),
            latent_dim=check_range(self.latent_dim, "latent_dim", *RANGES["latent_dim"]),
            ask=optional(check_names, self.ask, "ask"),
            augment=check_choice(self.augment, "augment", get_args(Augment)),
            start=optional(check_start, self.start),
            freeze=check_range(self.freeze, "freeze", 0, self.image_size.bit_length() - 3),
            batch_size=optional(check_range, self.batch_size, "batch_size", *RANGES["batch_size"]),
            save_seconds=check_seconds(self.save_seconds, "save_seconds"),
            mirror=optional(check_path, self.mirror, "mirror"),
            log=check_choice(self.log, "log", ("none", "tensorboard")),
            recipe=check_choice(self.recipe, "recipe", get_args(Recipe)),
            device=check_choice(self.device, "device", get_args(Device)),
            precision=check_choice(self.precision, "precision", get_args(Precision)),
        )
        if self.freeze and self.start is None:
            raise ToonGANError("keeps layers of a trained run; name that run with start.", "freeze")
        if self.count is not None and self.batch_size is not None and self.batch_size > self.count:
            raise ToonGANError(
                f"is {self.batch_size}, more than the {self.count} images to train on; lower it or raise the count.",
                "batch_size",
            )


@dataclass(frozen=True)
class GenerateConfig:
    """Draw new faces with the generator of a run and save them as a grid."""

    run: str = "quickstart"
    """Name of the run whose G.pth is used."""
    count: int = 64
    """Number of faces."""
    seed: int = 0
    """The same seed gives the same faces."""
    out: Path = Path("grid.png")
    """Image file to write: .png, .jpg or .webp."""
    which: str = "last"
    """last: G.pth, the generator at the end of the run. best: G-best.pth, the one nearest to held-out images. Or the path of any generator."""
    separate: bool = False
    """Write each face to its own numbered file, in a folder named like --out without its ending."""
    latent: Annotated[Path | None, tyro.conf.arg(metavar="FILE.npy", help_behavior_hint="")] = None
    """Draw from these latent vectors, an array (N, latent_dim), instead of random ones."""
    save_latent: Annotated[Path | None, tyro.conf.arg(metavar="FILE.npy", help_behavior_hint="")] = None
    """Save the latent vectors of the faces, so that you can draw the faces again or change them."""
    background: Literal["transparent", "white"] = "transparent"
    """The background of faces from a run with transparency."""
    truncation: float = 1.0
    """Length of the latent vectors; 1 is as in training. Shorter vectors give more ordinary faces, with fewer flaws and less variety."""
    best_of: int = 1
    """Draw this many faces for each place and keep the one that the run's own D finds most real."""
    want: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE", help_behavior_hint="")] = ()
    """What the faces should have, such as top=bun accessories=round. The run must have been trained with --ask. Everything else is as in the data. "?=?" lists the attributes, "top=?" the values of one."""

    def __post_init__(self):
        settle(
            self,
            run=check_name(self.run, "run"),
            count=check_range(self.count, "count", 1, 10_000),
            seed=check_range(self.seed, "seed", *RANGES["seed"]),
            which=check_text(self.which, "which"),
            latent=optional(check_ending, self.latent, "latent", (".npy",)),
            save_latent=optional(check_ending, self.save_latent, "save_latent", (".npy",)),
            background=check_choice(self.background, "background", ("transparent", "white")),
            truncation=check_truncation(self.truncation),
            best_of=check_range(self.best_of, "best_of", 1, 100),
            want=check_wishes(self.want, "want"),
            out=check_image(self.out, "out"),
        )
        check_switches(self)
        if self.latent is not None:
            idle = ("want", "best_of", "truncation", "count", "seed")
            given = [
                each.name for each in fields(self) if each.name in idle and getattr(self, each.name) != each.default
            ]
            if given:
                raise ToonGANError(f"decides every face by itself; leave out {' and '.join(given)}.", "latent")


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a run's generator against held-out images; writes metrics.json and metrics.png."""

    run: str = "quickstart"
    """Name of the run to measure. Both files go to checkpoints/RUN/."""
    dataset: str | None = None
    """Data set to compare with, if not the one that the run was trained on."""
    count: int = 2500
    """Number of generated images, at most as many as images are held out. Compare only values measured with the same count."""
    seed: int = 0
    """The same seed gives the same faces and the same values."""
    inception: bool = False
    """Add the real FID and KID, on Inception features; the weights of that net, about 95 MB, are downloaded once."""
    device: Device = "auto"
    """auto takes cuda, then mps, then cpu."""

    def __post_init__(self):
        settle(
            self,
            run=check_name(self.run, "run"),
            dataset=optional(check_text, self.dataset, "dataset"),
            count=check_range(self.count, "count", 8, 2500),
            seed=check_range(self.seed, "seed", *RANGES["seed"]),
            device=check_choice(self.device, "device", get_args(Device)),
        )
        check_switches(self)


@dataclass(frozen=True)
class SharePageConfig:
    """Write a page that draws a run's faces in any browser: one file, no server."""

    run: str = "quickstart"
    """Name of the run whose G.pth is used."""
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: generated/RUN/faces.html)")
    ] = None
    """The file to write: .html."""

    def __post_init__(self):
        settle(self, run=check_name(self.run, "run"), out=optional(check_ending, self.out, "out", (".html", ".htm")))


@dataclass(frozen=True)
class ShareOnnxConfig:
    """Write a run's generator as an ONNX file, checked against PyTorch."""

    run: str = "quickstart"
    """Name of the run whose G.pth is used."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: generated/RUN/G.onnx)")] = (
        None
    )
    """The file to write: .onnx."""

    def __post_init__(self):
        settle(self, run=check_name(self.run, "run"), out=optional(check_ending, self.out, "out", (".onnx",)))


@dataclass(frozen=True)
class ShareHubConfig:
    """Make a folder for the Hugging Face Hub: weights, model card, samples, page."""

    run: str = "quickstart"
    """Name of the run to share."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: generated/RUN/hub/)")] = (
        None
    )
    """The folder to make."""
    push: Annotated[str | None, tyro.conf.arg(metavar="OWNER/NAME", help_behavior_hint="")] = None
    """Upload the folder to this repository on the Hub."""

    def __post_init__(self):
        settle(
            self,
            run=check_name(self.run, "run"),
            out=optional(check_path, self.out, "out"),
            push=optional(check_repository, self.push),
        )


@dataclass(frozen=True)
class ShareFilmConfig:
    """Write a film of a walk through the latent space."""

    run: str = "quickstart"
    """Name of the run whose G.pth is used."""
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="(default: generated/RUN/walk.mp4)")
    ] = None
    """The file to write: .mp4 or .webm."""
    faces: int = 9
    """Number of faces shown at once."""
    stops: int = 6
    """Number of faces that each one passes through before it returns to the first."""
    seconds: float = 12.0
    """Length of the film."""
    scale: int = 4
    """Factor by which pixels are enlarged, 1 to 8."""
    smooth: Literal["nearest", "lanczos"] = "lanczos"
    """How pixels are enlarged."""
    seed: int = 0
    """The same seed gives the same film."""

    def __post_init__(self):
        settle(
            self,
            run=check_name(self.run, "run"),
            out=optional(check_ending, self.out, "out", (".mp4", ".webm")),
            faces=check_range(self.faces, "faces", 1, 64),
            stops=check_range(self.stops, "stops", 2, 100),
            seconds=check_film_length(self.seconds),
            scale=check_range(self.scale, "scale", 1, 8),
            smooth=check_choice(self.smooth, "smooth", ("nearest", "lanczos")),
            seed=check_range(self.seed, "seed", *RANGES["seed"]),
        )


@dataclass(frozen=True)
class DataConfig:
    """Draw or download a data set and pack it into one array under data/."""

    dataset: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = "avatars"
    """avatars, avatars:STYLE, cartoonset10k, cartoonset100k, cartoon-faces, anime-faces, drive, folder:PATH, zip:PATH or tar:PATH."""
    count: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint=MANY)] = None
    """Number of images to use, at most."""
    image_size: int = 64
    """Side of an image in pixels: 32, 64, 128 or 256."""
    fit: Fit = "crop"
    """How an image is made square. crop: keep the middle. pad: keep everything, between bars in the colour of the edges. stretch: squeeze everything in."""
    channels: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: 3)")] = None
    """1 for grey images, 3 for colour on white, 4 for colour with transparency."""
    frames: bool = False
    """Use every frame of an animated GIF or WebP, and every page of a TIFF, as an image. Without this, only the first is used."""
    skip_alike: bool = False
    """Leave out images that nearly repeat another one; look.csv lists them."""

    def __post_init__(self):
        settle(
            self,
            dataset=check_text(self.dataset, "dataset"),
            count=check_count(self.count),
            image_size=check_image_size(self.image_size),
            fit=check_choice(self.fit, "fit", get_args(Fit)),
            channels=optional(check_channels, self.channels),
        )
        check_switches(self)


def data_of(settings: Mapping[str, Any]) -> DataConfig:
    """The data settings of a run; what an earlier version did not record gets its default."""
    return DataConfig(**{field.name: settings.get(field.name, field.default) for field in fields(DataConfig)})


def options_of(config) -> list[str]:
    """The command-line options of a configuration: only those that differ from the defaults."""
    found = []
    for field in fields(config):
        value = getattr(config, field.name)
        if value != field.default:
            option, is_flag = f"--{field.name.replace('_', '-')}", value is True and field.default is False
            found += [option, *value] if isinstance(value, tuple) else [option] if is_flag else [option, str(value)]
    return found


def settle(config, **values) -> None:
    """Set fields of a frozen configuration, once checked: NumPy numbers have become Python's, text has become paths."""
    for name, value in values.items():
        object.__setattr__(config, name, value)


def optional(check: Callable, value: Any, *details) -> Any:
    """None if `value` is None, else what the check returns."""
    return None if value is None else check(value, *details)


def check_parameters(**values: int) -> None:
    """Check the parameters of a chapter, named as in the chapter, before anything runs.

    Raises:
        ToonGANError: names the first that no chapter can use.
    """
    for name, value in values.items():
        if name == "IMAGE_SIZE":
            check_image_size(value, name)
        elif name == "MINUTES":
            check_length(value, name)
        else:
            check_range(value, name, *RANGES[name.lower()])


def shown(value: Any) -> str:
    """A value as the user wrote it, if that is short."""
    try:
        text = f"{value:g}" if isinstance(value, float) else repr(value)
    except Exception:  # an integer with more digits than Python prints, or a class of the user's own
        return "something too long to show"
    return text if len(text) <= 80 else f"{text[:77]}..."


def unquoted(value: Any) -> str:
    return "; leave out the quotes" if isinstance(value, str) else ""


def is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_image_size(image_size: int, option: str = "image_size") -> int:
    if not is_whole(image_size) or image_size not in IMAGE_SIZES:
        raise ToonGANError(f"must be 32, 64, 128 or 256, not {shown(image_size)}{unquoted(image_size)}.", option)
    return int(image_size)


def check_channels(channels: int) -> int:
    if not is_whole(channels) or channels not in CHANNELS:
        raise ToonGANError(
            f"must be 1 (grey), 3 (colours) or 4 (with transparency), not {shown(channels)}{unquoted(channels)}.",
            "channels",
        )
    return int(channels)


def check_colours(colours: int) -> int:
    colours = check_range(colours, "colours", *RANGES["colours"])
    if colours == 1:
        raise ToonGANError("must be 0, or at least 2: with one colour, every image is a single area.", "colours")
    return colours


def check_real(value: float, option: str) -> float:
    """Any number except True and False, as a float; one that is too large for a float becomes infinite."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ToonGANError(f"must be a number, not {shown(value)}{unquoted(value)}.", option)
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def check_length(value: float, option: str) -> float:
    number, longest = check_real(value, option), LONGEST[option.lower()]
    if not number > 0:
        raise ToonGANError(f"must be more than 0, not {number:g}; try 5.", option)
    if number > longest:
        raise ToonGANError(f"must be {longest:,.0f} at most, not {number:g}; try 5.", option)
    return number


def check_truncation(value: float) -> float:
    number = check_real(value, "truncation")
    if not 0 < number <= 2:
        raise ToonGANError(f"must be more than 0 and 2 at most, not {number:g}; try 0.8.", "truncation")
    return number


def check_seconds(value: float, option: str) -> float:
    number = check_real(value, option)
    if not 0 <= number < math.inf:
        raise ToonGANError(f"must be 0 or more, not {number:g}; try 60.", option)
    return number


def check_count(count: int | None) -> int | None:
    return optional(check_range, count, "count", *RANGES["count"])


def check_range(value: int, option: str, low: int, high: int) -> int:
    if not is_whole(value) or not low <= value <= high:
        raise ToonGANError(
            f"must be a whole number from {low:,} to {high:,}, not {shown(value)}{unquoted(value)}.", option
        )
    return int(value)


def check_choice(value: str, option: str, choices: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ToonGANError(f"must be one of {', '.join(choices)}, not {shown(value)}.", option)
    return str.__str__(value)


def check_switches(config) -> None:
    """Check every field that is on or off."""
    for field in fields(config):
        if isinstance(field.default, bool):
            settle(config, **{field.name: check_switch(getattr(config, field.name), field.name)})


def check_switch(value: bool, option: str) -> bool:
    if type(value).__name__ not in ("bool", "bool_"):  # Python's and NumPy's
        raise ToonGANError(f"must be True or False, not {shown(value)}{unquoted(value)}.", option)
    return bool(value)


def check_text(value: str, option: str) -> str:
    if not isinstance(value, str):
        raise ToonGANError(f"must be text in quotes, not {shown(value)}.", option)
    if "\0" in value:
        raise ToonGANError(f"contains a zero byte, which no name can: {shown(value)}.", option)
    return str.__str__(value)


def check_start(value: str | os.PathLike) -> str:
    """A run, a folder, or two files separated by a comma."""
    text = check_text(os.fspath(value) if isinstance(value, os.PathLike) else value, "start")
    parts = [part.strip() for part in text.split(",")]
    if not all(parts) or len(parts) > 2:
        raise ToonGANError(f"must be the name of a run, its folder, or G.pth,D.pth, not {shown(value)}.", "start")
    return ",".join(parts)


def check_names(value: str, option: str) -> str:
    """Names separated by commas, each only once."""
    names = [name.strip() for name in check_text(value, option).split(",")]
    if not all(names):
        raise ToonGANError(f"must be names separated by commas, or all, not {shown(value)}.", option)
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ToonGANError(f"names {shown(twice)} twice; once is enough.", option)
    return ",".join(names)


def check_wishes(value: tuple[str, ...] | list[str] | dict[str, str], option: str) -> tuple[str, ...]:
    """Wishes such as `top=bun`, each attribute only once."""
    if isinstance(value, dict):
        value = tuple(f"{name}={wanted}" for name, wanted in value.items())
    if isinstance(value, str) or not isinstance(value, (tuple, list)):
        raise ToonGANError(f'must be wishes such as ("top=bun",), not {shown(value)}.', option)
    names = []
    for wish in value:
        name, equals, _ = check_text(wish, option).partition("=")
        if not name or not equals:
            raise ToonGANError(f"must be wishes such as top=bun, not {shown(wish)}.", option)
        if name in names:
            raise ToonGANError(f"says twice what {name} should be; say it once.", option)
        names.append(name)
    return tuple(value)


def check_name(name: str, option: str, longest: int = LONGEST_NAME) -> str:
    """A run's name becomes a folder on every system, so it is kept plain."""
    if is_whole(name):
        raise ToonGANError(f'must be text in quotes, not {shown(name)}; write "{shown(name)}".', option)
    name = check_text(name, option)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name.endswith("."):
        raise ToonGANError(f"must be a plain name of letters, digits, '-', '_' and '.', not {shown(name)}.", option)
    if DEVICES_OF_WINDOWS.fullmatch(name):
        raise ToonGANError(f"must not be {shown(name)}, which Windows reserves for a device; try 'my-{name}'.", option)
    if len(name) > longest:
        raise ToonGANError(f"must have at most {longest} characters, not {len(name)}; shorten {shown(name)}.", option)
    return name


def check_new_name(name: str, option: str) -> str:
    """The name of a run to train; short, since it gets longer when the run is set aside."""
    return check_name(name, option, LONGEST_NEW_NAME)


def check_path(value: Path | str, option: str) -> Path:
    """A path, with `~` as the user's home."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not text:
        raise ToonGANError(f"must be a path in quotes, not {shown(value)}.", option)
    try:
        return Path(check_text(text, option)).expanduser()
    except RuntimeError as error:
        raise ToonGANError(
            f"names the home folder of a user whom this machine does not know: {shown(text)}.", option
        ) from error


def check_film_length(value: float) -> float:
    number = check_real(value, "seconds")
    if not 0.5 <= number <= 600:
        raise ToonGANError(f"must be 0.5 to 600, not {number:g}; try 12.", "seconds")
    return number


def check_repository(value: str) -> str:
    """`owner/name` on the Hugging Face Hub."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", value):
        raise ToonGANError(f"must be OWNER/NAME, not {shown(value)}.", "push")
    return value


def check_ending(value: Path | str, option: str, endings: tuple[str, ...]) -> Path:
    """The path of a file to write, whose name must have one of the endings."""
    path = check_path(value, option)
    if path.suffix.lower() not in endings:
        raise ToonGANError(f"must end in {' or '.join(endings)}, not {shown(str(path))}.", option)
    return path


def check_image(value: Path | str, option: str) -> Path:
    """The path of an image to write."""
    path = check_path(value, option)
    if path.suffix.lower() not in IMAGES:
        hint = f"; it is a folder, so try {str(path / 'grid.png')!r}" if os.path.isdir(path) else ""
        raise ToonGANError(f"must end in .png, .jpg or .webp, not {shown(str(path))}{hint}.", option)
    if (length := len(os.fsencode(path.name))) > LONGEST_FILE_NAME:
        raise ToonGANError(
            f"has a file name of {length} bytes, and {LONGEST_FILE_NAME} is the limit; shorten it: {shown(path.name)}.",
            option,
        )
    return path
