"""A walk through the latent space as a film, MP4 or WebM."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..conditional import random_latent
from ..config import ShareFilmConfig
from ..data import in_colour, tile
from ..errors import ToonGANError
from ..paths import atomic_write, display, make_way
from ..results import slerp
from ..runs import Run, draw, find_run, load_generator, seeded
from ..system.extras import needed

RATE = 25  # frames a second
CODECS = {".mp4": ("libx264", {"crf": "16", "preset": "slow"}), ".webm": ("libvpx-vp9", {"crf": "24", "b": "0"})}
FILTERS = {"nearest": Image.Resampling.NEAREST, "lanczos": Image.Resampling.LANCZOS}


def share_film(config: ShareFilmConfig, progress: bool = True) -> Path:
    """Write a film of `config.faces` faces that turn into others and, in the end, back into the first ones; gives its path.

    Raises:
        ToonGANError: no such run, too many stops, the package av is missing, or the file cannot be written.
    """
    needed("av")
    least = 2 * config.stops / RATE
    if config.seconds < least:
        raise ToonGANError(f"is too short for {config.stops} stops; give {least:g} or more.", "seconds")
    run = find_run(config.run)
    generator = load_generator(run.generator_path)
    path = make_way(config.out or Run.named(config.run).generated / "walk.mp4", "out", "walk.mp4")
    frames = walk(generator, config)
    with atomic_write(path) as part:
        write(part, frames, path.suffix.lower())
    if progress:
        print(f"{display(path)}, {path.stat().st_size / 1e6:.1f} MB, {config.seconds:g} s")
    return path


def walk(generator, config: ShareFilmConfig):
    """Frames, uint8 `(H, W, 3)`, one after another."""
    columns = int(np.ceil(np.sqrt(config.faces)))
    stops = random_latent(generator, config.faces * config.stops, seeded(config.seed, "film"))
    stops = stops.view(config.faces, config.stops, -1)
    each = round(config.seconds * RATE / config.stops)
    share = torch.linspace(0, 1, each + 1)[:-1]
    share = (1 - torch.cos(torch.pi * share)) / 2  # slow at the stops
    for stop in range(config.stops):
        paths = [slerp(face[stop], face[(stop + 1) % config.stops], share) for face in stops]
        for latent in torch.stack(paths, 1):
            sheet = Image.fromarray(tile(in_colour(draw(generator, latent)), columns))
            width, height = (2 * round(config.scale * length / 2) for length in sheet.size)  # encoders want even sides
            yield np.asarray(sheet.resize((width, height), FILTERS[config.smooth]))


def write(path: Path, frames, ending: str) -> None:
    import av

    codec, options = CODECS[ending]
    with av.open(str(path), "w", format=ending[1:]) as container:
        stream = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream(codec, rate=Fraction(RATE), options=options)
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
