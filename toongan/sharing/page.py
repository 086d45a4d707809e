"""One file that draws faces in any browser: the generator's weights and a few hundred lines of JavaScript. It needs no server."""

import base64
import html
import io
import json
import re
import zlib
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from ..config import SharePageConfig
from ..datasets.catalogue import credit_of
from ..errors import ToonGANError
from ..evaluation.card import card_of
from ..models import SHARPNESS
from ..paths import atomic_write, display, make_way
from ..runs import Run, find_run, load_generator
from .directions import directions_of, is_colour
from .folding import layers_of

EXAMPLES = 512  # faces of the data whose attributes the page copies for whatever is not wished for
FILM_SIDE = 264  # pixels
MOST_BYTES = 16 << 20


def share_page(config: SharePageConfig, progress: bool = True) -> Path:
    """Write `faces.html` of a run; gives its path.

    Raises:
        ToonGANError: there is no such run, its generator is damaged, or the folder cannot be written to.
    """
    run = find_run(config.run)
    path = make_way(config.out or Run.named(config.run).generated / "faces.html", "out", "faces.html")
    text = page_of(run, progress)
    with atomic_write(path, len(text)) as part:
        part.write_text(text, encoding="utf-8")
    if progress:
        print(
            f"{display(path)}, {path.stat().st_size / 1e6:.2f} MB: open it with a double click, send it, or put it on any web site."
        )
    return path


def page_of(run: Run, progress: bool = False) -> str:
    generator = load_generator(run.generator_path)
    attributes = generator.attributes
    layers = layers_of(generator)
    directions = [] if attributes else directions_of(run, generator, progress)
    noise = generator.latent_dim - (attributes.length if attributes else 0)
    vectors = np.array([each.vector for each in directions], np.float32).reshape(-1, noise)
    palette = generator.palette and {"colours": generator.colours, "sharpness": SHARPNESS}
    numbers = [part for layer in layers for part in (layer.weight, layer.bias)]
    if palette:
        numbers += [part.numpy() for part in (generator.palette.colours.weight, generator.palette.colours.bias)]
    numbers.append(vectors)
    model = {
        "name": run.name,
        "size": generator.image_size,
        "channels": generator.channels,
        "latent": generator.latent_dim,
        "layers": [
            {"from": layer.weight.shape[0], "to": layer.weight.shape[1], "kernel": layer.weight.shape[2], "first": number == 0}
            for number, layer in enumerate(layers)
        ],
        "palette": palette,
        "directions": [{"name": each.name} for each in directions],
        "wishes": wishes_of(attributes) if attributes else None,
        "numbers": packed(numbers),
    }  # fmt: skip
    info = run.info()
    faces = f"Faces by {run.name}"
    parts = {
        "TITLE": html.escape(faces),
        "HEADING": html.escape(faces),
        "LEAD": "A small neural network inside this page generates these faces on your machine. Nothing is sent anywhere.",
        "ABOUT": about(run, info),
        "MODEL": json.dumps(model, separators=(",", ":")).replace("</", "<\\/"),
    }
    text = files(__package__).joinpath("page.html").read_text("utf-8")
    for name, value in parts.items():
        text = text.replace(f"@@{name}@@", value)
    return text


def packed(arrays: list[np.ndarray]) -> str:
    """Numbers as half-precision floats: all low bytes, then all high ones, which compress better; zlib, then base64."""
    halves = np.concatenate([array.ravel() for array in arrays]).astype("<f2")
    if not np.isfinite(halves).all():
        raise ToonGANError(
            "The generator has weights that are not numbers, or too large for half precision; train it again."
        )
    pairs = halves.view(np.uint8).reshape(-1, 2)
    return base64.b64encode(zlib.compress(pairs.T.tobytes(), 9)).decode()


def wishes_of(attributes) -> dict:
    values = list(attributes.values.values())
    return {
        "names": list(attributes.values),
        "values": values,
        "words": [[colour_word(value) if is_colour(value) else value or "none" for value in each] for each in values],
        "length": attributes.length,
        "examples": attributes.examples[:EXAMPLES].tolist(),
    }


COLOURS = {
    "black": "#1a1a1a", "dark grey": "#4d4d4d", "grey": "#8a8a8a", "light grey": "#c4c4c4", "white": "#ffffff",
    "dark brown": "#4a312c", "brown": "#8d5524", "light brown": "#b58143", "tan": "#d9a066", "cream": "#ffe5c4",
    "red": "#e0332e", "dark red": "#8b1a1a", "pink": "#ff9bb3", "light pink": "#ffd5dc", "orange": "#f58a2c",
    "yellow": "#f7d44c", "blond": "#e8c878", "light yellow": "#ffeeb0", "green": "#4caf50", "light green": "#b8e6a8",
    "dark green": "#1f6b3a", "teal": "#3aa6a0", "light blue": "#b6e3f4", "blue": "#4a90e2", "dark blue": "#25557c",
    "purple": "#8e5cc2", "lilac": "#c9b3ec", "magenta": "#e0479e",
}  # fmt: skip


def colour_word(colour: str) -> str:
    """The nearest of a few names, and the colour itself."""

    def rgb(text: str) -> np.ndarray:
        return np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)], float)

    here = rgb(colour)
    return f"{min(COLOURS, key=lambda name: ((rgb(COLOURS[name]) - here) ** 2).sum())} {colour}"


def about(run: Run, info: dict) -> str:
    """How the run was made, as a table, with its measures beside their floors, and its film."""
    settings, data = info.get("settings", {}), info.get("data", {})
    mixed = f", {settings['colours']} colours an image" if settings.get("colours") else ""
    rows = [
        ("Images", f"{trained_on(data)} of {named(settings.get('dataset', ''))}"),
        *credit_rows(settings.get("dataset", "")),
        ("Size", f"{settings.get('image_size', '?')} px, {settings.get('base_channels', '?')} base channels{mixed}"),
        ("Training", f"{info.get('kimg', 0):,.0f} thousand images in {info.get('seconds', 0) / 60:,.0f} minutes"),
        ("Machine", str(info.get("device", "?"))),
        ("Date, seed", f"{info.get('date', '?')}, {info.get('seed', '?')}"),
    ]
    rows += card_rows(run)
    body = "".join(
        f"<tr><th scope=row>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows
    )
    film = film_of(run)
    image = (
        f'<p><img src="{film}" alt="The same faces from the beginning of training to its end" width="{FILM_SIDE}"></p>'
        if film
        else ""
    )
    note = "The network is a DCGAN (Radford et al. 2015), trained with the notebook series ToonGAN. If you share a face, say that it is generated."
    return f"<table>{body}</table>{image}<p class=soft>{note}</p>"


def named(dataset: str) -> str:
    """The name of a data set for strangers, without the path of anybody's folder."""
    return (
        "the author's own images" if re.match("(folder|zip|tar|drive)(:|$)", dataset) else dataset or "an unknown set"
    )


def trained_on(data: dict) -> str:
    """How many images a run was trained on, as its `run.json` says."""
    count = data.get("trained_on") or data.get("count")
    return f"{count:,}" if isinstance(count, int) else "an unknown number"


def credit_rows(dataset: str) -> list[tuple[str, str]]:
    credit = credit_of(dataset)
    if credit is None:
        return []
    by = ", ".join(filter(None, (credit["title"], credit["creator"])))
    return [("Drawn by", by), ("Licence of the images", f"{credit['license']} {credit['license_url']}".strip())]


def card_rows(run: Run) -> list[tuple[str, str]]:
    """The main measures of a run's card, if its generator has been evaluated."""
    card = card_of(run)
    if card is None:
        return []
    figures = card["figures"]
    names = (
        ("frechet_distance", "Fréchet distance (MobileNetV2)", 1, ""),
        ("precision", "Precision", 100, " %"),
        ("recall", "Recall", 100, " %"),
    )
    rows = [
        (f"{title}, {card['count']:,} faces", f"{factor * figures[name]['generated']:.1f}{unit}; other real images: {factor * figures[name]['floor']:.1f}{unit}")
        for name, title, factor, unit in names
    ]  # fmt: skip
    return [("Compared with", compared_with(card)), *rows]


def compared_with(card: dict) -> str:
    """What a card compares generated images with, and whether the run has seen it."""
    against = card["compared_with"]
    images = f"{card['count']:,} images of {named(against['dataset'])}"
    if against["never_trained_on"]:
        return f"{images} that it was never trained on"
    return f"{images}; it may have been trained on some of them, and then the values flatter it"


def film_of(run: Run) -> str:
    """The film of a run, small, as a data address; empty if there is none."""
    grids = run.grids
    if not grids:
        return ""
    frames = []
    for path in grids[:: max(1, len(grids) // 12)] + [grids[-1]]:
        with Image.open(path) as grid:
            side = grid.height // 4
            frame = grid.convert("RGBA").crop((0, 0, min(grid.width, 2 * side), side))
        white = Image.new("RGBA", frame.size, "white")
        white.alpha_composite(frame)
        frames.append(white.convert("RGB").resize((FILM_SIDE, FILM_SIDE // 2), Image.Resampling.LANCZOS))
    buffer = io.BytesIO()
    first, *others = frames
    times = [400] * len(others) + [2000]
    first.save(buffer, "WEBP", save_all=True, append_images=others, duration=times, loop=0, quality=45, method=6)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
