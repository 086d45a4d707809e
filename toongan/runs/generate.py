"""New faces from the generator of a run, as a grid or as single files."""

import math
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..conditional import ConditionalDiscriminator, Knowing, random_latent
from ..config import GenerateConfig, check_path
from ..data import tile, to_image, to_pixels, to_rgb
from ..errors import ToonGANError, explaining_memory
from ..models import Discriminator, Generator
from ..paths import atomic_write, cannot_write, display, make_way
from ..system.signature import save_image
from .asking import wanted
from .files import Run
from .rebuild import find_run
from .state_dicts import load_discriminator, load_generator
from .trainer import draw, seeded

LONGEST_SIDE = {".webp": ("WebP", 16_383), ".jpg": ("JPEG", 65_500), ".jpeg": ("JPEG", 65_500)}  # pixels
NO_TRANSPARENCY = (".jpg", ".jpeg")
GAP = 2  # pixels between two images in a grid


def generate(config: GenerateConfig) -> Path:
    """Draw `config.count` new faces with a run's generator, as a grid or one file per face; returns the file or folder.

    Raises:
        ToonGANError: the run has no usable generator, or the image cannot be written.
    """
    make_way(config.out, "out", "grid.png")
    if config.save_latent is not None:
        make_way(config.save_latent, "save_latent", "latent.npy")
    generator, run = generator_of(config)
    discriminator = load_discriminator(run.discriminator_path) if run and config.best_of > 1 else None
    wants = wanted(generator.attributes, config.want, config.run)
    given = None if config.latent is None else read_latent(config.latent, generator)
    count = config.count if given is None else len(given)
    columns = math.ceil(math.sqrt(count))
    if not config.separate:
        check_side(config, count, columns, generator.image_size)
    chance = seeded(config.seed, "generate")
    with explaining_memory(config):
        if discriminator is not None:
            faces, latent = draw_best(generator, discriminator, count, config.best_of, config.truncation, chance, wants)
        else:
            latent = random_latent(generator, count, chance, config.truncation, wants) if given is None else given
            faces = draw(generator, latent)
        if config.save_latent is not None:
            with atomic_write(config.save_latent) as part:
                np.save(part, latent.cpu().numpy())
        if config.separate:
            return save_separately(faces, config)
        save(to_image(tile(faces, columns)), config.out, config)
    return config.out


def generator_of(config: GenerateConfig) -> tuple[Generator, Run | None]:
    """The generator to draw with, and its run if it belongs to one.

    Raises:
        ToonGANError: there is no such generator.
    """
    if config.which not in ("last", "best"):
        if config.best_of > 1:
            raise ToonGANError(
                "needs the D of a run, and the path of a generator names no run; leave out one of the two.", "best_of"
            )
        return load_generator(check_path(config.which, "which")), None
    run = find_run(config.run)
    if config.which == "last":
        return load_generator(run.generator_path), run
    if not run.best_path.is_file() and run.is_best_at_its_end():
        return load_generator(run.generator_path), run
    if not run.best_path.is_file():
        raise ToonGANError(
            f"is best, but {run.name} has no {run.best_path.name}: runs of fewer than 20,000 images are not measured "
            "during training, and bundled runs come without it. Use last.",
            "which",
        )
    return load_generator(run.best_path), run


def read_latent(path: Path, generator: Generator) -> torch.Tensor:
    """Latent vectors `(N, latent_dim)` from a NumPy file.

    Raises:
        ToonGANError: it holds something else.
    """
    try:
        found = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise ToonGANError(f"is missing: {display(path)}; check the path.", "latent") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ToonGANError(
            f"is not an array of numbers: {display(path)}; write one with numpy.save.", "latent"
        ) from error
    fits = isinstance(found, np.ndarray) and found.ndim == 2 and found.dtype.kind in "fiu" and len(found) > 0
    if not fits or found.shape[1] != generator.latent_dim or not np.isfinite(found).all():
        shape = getattr(found, "shape", "none")
        raise ToonGANError(f"must hold numbers of the shape (N, {generator.latent_dim}), not {shape}.", "latent")
    if len(found) > 10_000:
        raise ToonGANError(f"holds {len(found):,} vectors, and 10,000 is the limit.", "latent")
    return torch.from_numpy(found.astype(np.float32))


def save(image: Image.Image, path: Path, config: GenerateConfig) -> None:
    if image.mode == "RGBA" and (config.background == "white" or path.suffix.lower() in NO_TRANSPARENCY):
        image = to_rgb(image)
    with atomic_write(path) as part:
        save_image(image, part)


def save_separately(faces: np.ndarray, config: GenerateConfig) -> Path:
    """Write one file per face, in a folder where the grid would be; returns the folder.

    Raises:
        ToonGANError: the folder cannot be made, or holds faces of an earlier command, which would be among the new ones.
    """
    folder, digits = config.out.with_suffix(""), len(str(len(faces) - 1))
    names = [f"{number:0{digits}d}{config.out.suffix}" for number in range(len(faces))]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        numbered = {path.name for path in folder.iterdir() if path.stem.isdecimal()}
    except OSError as error:
        raise cannot_write(folder, error) from error
    if left := sorted(numbered - set(names)):
        raise ToonGANError(
            f"is {display(config.out)}, whose folder {display(folder)} holds other faces, such as {left[0]}; "
            "give another name, or delete them.",
            "out",
        )
    for name, face in zip(names, faces, strict=True):
        save(to_image(face), folder / name, config)
    return folder


@torch.no_grad()
def draw_best(
    generator: Generator,
    discriminator: Discriminator,
    count: int,
    best_of: int,
    truncation: float = 1.0,
    chance: torch.Generator | None = None,
    wants: dict[str, str] | None = None,
) -> tuple[np.ndarray, torch.Tensor]:
    """Faces, uint8 `(count, H, W, channels)`, each the one of `best_of` that D scores highest, and their latent vectors.

    A plain form of the rejection sampling of Azadi et al. 2019, section 3: D sees flaws that G could not mend.

    Args:
        truncation: length of the latent vectors; 1 is as in training (Brock et al. 2019, section 3.1).
        wants: attribute to value, if the generator can be asked for something.

    Raises:
        ToonGANError: the two nets are made for different image sizes, or only one of them takes wishes.
    """
    if generator.image_size != discriminator.image_size:
        raise ToonGANError(
            f"needs D, which takes images of {discriminator.image_size} px while G draws {generator.image_size} px; "
            "the two are not from the same run.",
            "best_of",
        )
    attributes = generator.attributes
    if isinstance(discriminator, ConditionalDiscriminator) != (attributes is not None):
        raise ToonGANError(
            "needs D, but only one of the two nets takes wishes; they are not from the same run, or run.json is not.",
            "best_of",
        )
    device = next(generator.parameters()).device
    found, vectors, at_once = [], [], max(1, 64 // best_of)
    for start in range(0, count, at_once):
        rows = min(at_once, count - start)
        latent = random_latent(generator, rows * best_of, chance, truncation, wants).to(device)
        judged = discriminator
        if attributes is not None:
            wishes = latent[::best_of, -attributes.length :].repeat_interleave(best_of, 0)  # the same for all of a face
            latent[:, -attributes.length :] = wishes
            judged = Knowing(discriminator, wishes)
        faces = generator(latent)
        best = judged(faces).view(rows, best_of).argmax(1)
        which = torch.arange(rows, device=device), best
        found.append(to_pixels(faces.unflatten(0, (rows, best_of))[which]).cpu().numpy())
        vectors.append(latent.unflatten(0, (rows, best_of))[which])
    return np.concatenate(found), torch.cat(vectors)


def check_side(config: GenerateConfig, count: int, columns: int, image_size: int) -> None:
    """Check that the format of `config.out` can hold a grid of this size.

    Raises:
        ToonGANError: it cannot; says how many faces fit, and which format can hold all.
    """
    name, longest = LONGEST_SIDE.get(config.out.suffix.lower(), ("", None))
    side = columns * (image_size + GAP) - GAP
    if longest is not None and side > longest:
        most = ((longest + GAP) // (image_size + GAP)) ** 2
        raise ToonGANError(
            f"would be {side:,} px wide with {count:,} faces, and the limit of {name} is {longest:,} px: take at most "
            f"{most:,} faces, or {display(config.out.with_suffix('.png'))}.",
            "out",
        )
