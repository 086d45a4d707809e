"""New faces from the generator of a run, as one picture."""

import math
import os
from pathlib import Path

import torch
from PIL import Image

from ..config import GenerateConfig
from ..data import tile
from ..errors import ToonGANError, out_of_memory
from ..paths import atomic_write, display, writable_folder
from ..system.signature import save_picture
from .rebuild import find_run
from .state_dicts import load_generator
from .trainer import draw, seeded

LONGEST_SIDE = {".webp": ("WebP", 16_383), ".jpg": ("JPEG", 65_500), ".jpeg": ("JPEG", 65_500)}  # pixels
GAP = 2  # pixels between two pictures of a sheet


def generate(config: GenerateConfig) -> Path:
    """Draw `config.count` new faces with a run's generator into one picture; gives its path.

    Raises:
        ToonGANError: the run has no usable generator, or the picture cannot be written.
    """
    check_place(config.out)
    generator = load_generator(find_run(config.run).generator_path)
    columns = math.ceil(math.sqrt(config.count))
    check_side(config, columns, generator.image_size)
    latent = torch.randn(config.count, generator.latent_dim, generator=seeded(config.seed, "generate"))
    try:
        sheet = tile(draw(generator, latent), columns)
        with atomic_write(config.out) as part:
            save_picture(Image.fromarray(sheet), part)
    except (MemoryError, RuntimeError) as error:
        if (sentence := out_of_memory(error, config)) is None:
            raise
        raise sentence from error
    return config.out


def check_place(path: Path) -> None:
    """Make the folder of a picture, and prove that the picture can be written there.

    Raises:
        ToonGANError: it cannot; says what to change.
    """
    if os.path.isdir(path):
        raise ToonGANError(f"is a folder: {display(path)}; try {display(path / 'grid.png')}.", "out")
    try:
        writable_folder(path.absolute().parent)
    except ToonGANError as error:
        reason = getattr(error.__cause__, "strerror", None) or error.message
        raise ToonGANError(
            f"Cannot write to {display(path.parent)} ({reason}); choose another folder for --out, or free some space."
        ) from error


def check_side(config: GenerateConfig, columns: int, image_size: int) -> None:
    """Whether the format of `config.out` can hold that many pictures beside one another.

    Raises:
        ToonGANError: it cannot; says how many it can, and which format can hold all.
    """
    name, longest = LONGEST_SIDE.get(config.out.suffix.lower(), ("", None))
    side = columns * (image_size + GAP) - GAP
    if longest is not None and side > longest:
        most = ((longest + GAP) // (image_size + GAP)) ** 2
        raise ToonGANError(
            f"{config.count} makes a picture {side:,} px wide, and {name} ends at {longest:,} px; "
            f"try {most}, or --out {display(config.out.with_suffix('.png'))}.",
            "count",
        )
