"""New faces from the generator of a run, as one picture."""

import math
import os
from pathlib import Path

import numpy as np
import torch

from ..conditional import ConditionalDiscriminator, Knowing, random_latent
from ..config import GenerateConfig
from ..data import tile, to_picture, to_pixels, to_rgb
from ..errors import ToonGANError, out_of_memory
from ..models import Discriminator, Generator
from ..paths import atomic_write, display, writable_folder
from ..system.signature import save_picture
from .asking import wanted
from .rebuild import find_run
from .state_dicts import load_discriminator, load_generator
from .trainer import draw, seeded

LONGEST_SIDE = {".webp": ("WebP", 16_383), ".jpg": ("JPEG", 65_500), ".jpeg": ("JPEG", 65_500)}  # pixels
NO_TRANSPARENCY = (".jpg", ".jpeg")
GAP = 2  # pixels between two pictures of a sheet


def generate(config: GenerateConfig) -> Path:
    """Draw `config.count` new faces with a run's generator into one picture; gives its path.

    Raises:
        ToonGANError: the run has no usable generator, or the picture cannot be written.
    """
    check_place(config.out)
    run = find_run(config.run)
    generator = load_generator(run.generator_path)
    discriminator = load_discriminator(run.discriminator_path) if config.best_of > 1 else None
    wants = wanted(getattr(generator, "attributes", None), config.want, config.run)
    columns = math.ceil(math.sqrt(config.count))
    check_side(config, columns, generator.image_size)
    chance = seeded(config.seed, "generate")
    try:
        if discriminator is None:
            faces = draw(generator, random_latent(generator, config.count, chance, config.truncation, wants))
        else:
            faces = draw_best(generator, discriminator, config.count, config.best_of, config.truncation, chance, wants)
        sheet = to_picture(tile(faces, columns))
        if sheet.mode == "RGBA" and config.out.suffix.lower() in NO_TRANSPARENCY:
            sheet = to_rgb(sheet)
        with atomic_write(config.out) as part:
            save_picture(sheet, part)
    except (MemoryError, RuntimeError) as error:
        if (sentence := out_of_memory(error, config)) is None:
            raise
        raise sentence from error
    return config.out


@torch.no_grad()
def draw_best(
    generator: Generator,
    discriminator: Discriminator,
    count: int,
    best_of: int,
    truncation: float = 1.0,
    chance: torch.Generator | None = None,
    wants: dict[str, str] | None = None,
) -> np.ndarray:
    """Faces, uint8 `(count, H, W, channels)`, each the one of `best_of` that D scores highest.

    A plain form of the rejection sampling of Azadi et al. 2019, section 3: D knows of flaws that G could not mend.

    Args:
        truncation: length of the latent vectors, 1 as in training (Brock et al. 2019, section 3.1).
        wants: attribute to value, where the generator can be asked for something.

    Raises:
        ToonGANError: the two nets are made for pictures of different sizes, or only one of them knows wishes.
    """
    if generator.image_size != discriminator.image_size:
        raise ToonGANError(
            f"asks D, which judges pictures of {discriminator.image_size} px where G draws {generator.image_size}; "
            "the two are not of one run.",
            "best_of",
        )
    attributes = getattr(generator, "attributes", None)
    if isinstance(discriminator, ConditionalDiscriminator) != (attributes is not None):
        raise ToonGANError(
            "asks D, and only one of the two nets knows wishes; they are not of one run, or its run.json is not its own.",
            "best_of",
        )
    device = next(generator.parameters()).device
    found, at_once = [], max(1, 64 // best_of)
    for start in range(0, count, at_once):
        rows = min(at_once, count - start)
        latent = random_latent(generator, rows * best_of, chance, truncation, wants).to(device)
        judged = discriminator
        if attributes is not None:
            wishes = latent[::best_of, -attributes.length :].repeat_interleave(best_of, 0)  # alike for all of a face
            latent[:, -attributes.length :] = wishes
            judged = Knowing(discriminator, wishes)
        faces = generator(latent)
        best = judged(faces).view(rows, best_of).argmax(1)
        chosen = faces.unflatten(0, (rows, best_of))[torch.arange(rows, device=device), best]
        found.append(to_pixels(chosen).cpu().numpy())
    return np.concatenate(found)


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
