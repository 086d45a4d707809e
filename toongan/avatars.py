"""Cartoon faces drawn on this machine: DiceBear composes them, resvg turns them into pixels.

Avatar number i of a style is the same drawing on every machine. Whose artwork it
is, and under which licence, is in ATTRIBUTION.md and in each `meta.json`.
"""

import io
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.resources import files

import numpy as np
import resvg_py
from dicebear import Avatar, Style
from PIL import Image

from .errors import ToonGANError

DEFAULT_STYLE = "avataaars"
# A component by one of these names makes a style a face.
FACE_PARTS = {"eyes", "face", "expression", "mood"}
BACKGROUNDS = (
    "#b6e3f4", "#8fc7d9", "#c0aede", "#ffd5dc", "#ffdfbf", "#ffe28a", "#c7e9c0", "#f2f2f2",
)  # fmt: skip
CHUNK = 64


@cache
def styles() -> tuple[str, ...]:
    """Names of the styles that draw faces."""
    names = []
    for file in files("dicebear_styles").iterdir():
        if file.name.endswith(".json"):
            components = json.loads(file.read_text("utf-8")).get("components", {})
            if FACE_PARTS & set(components):
                names.append(file.name.removesuffix(".json"))
    return tuple(sorted(names))


@cache
def load_style(name: str) -> Style:
    """A style by name.

    Raises:
        ToonGANError: there is no such style, or it draws no faces.
    """
    if name not in styles():
        raise ToonGANError(
            f"has no style {name!r}; choose one of: {', '.join(styles())}.", "dataset"
        )
    return Style(read_definition(name))


def read_definition(name: str) -> dict:
    return json.loads(files("dicebear_styles").joinpath(f"{name}.json").read_text("utf-8"))


def compose(style: str, number: int, background: bool = True) -> tuple[str, dict]:
    """Avatar `number` of a style as SVG text, and its attributes.

    Styles that bring no background of their own get one of `BACKGROUNDS`, or none.

    The attributes name the variant of every part that is drawn (`top: bob`) and every
    colour in use (`hair_color: #724133`).
    """
    definition = load_style(style)
    options = {"seed": f"toongan-{number}"}
    if background and "background" not in definition_colors(style):
        options["backgroundColor"] = list(BACKGROUNDS)
    drawn = Avatar(definition, options).to_json()
    return drawn["svg"], attributes(drawn["options"])


@cache
def definition_colors(style: str) -> frozenset[str]:
    return frozenset(read_definition(style).get("colors", {}))


def attributes(options: dict) -> dict:
    """The resolved options of an avatar, reduced to what one can see.

    `topVariant: bob` becomes `top: bob`; `hairColor: [#724133]` becomes `hair_color: #724133`.
    """
    seen = {}
    for key, value in options.items():
        if key.endswith("Variant"):
            seen[snake_case(key.removesuffix("Variant"))] = value
        elif key.endswith("Color") and value:
            seen[snake_case(key)] = value[0]
    return seen


def snake_case(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def draw(style: str, number: int, image_size: int) -> tuple[np.ndarray, dict]:
    """Avatar `number` of a style as uint8 `(image_size, image_size, 3)`, and its attributes."""
    svg, seen = compose(style, number)
    return rasterise(svg, image_size), seen


def rasterise(svg: str, image_size: int, background: str | None = "#ffffff") -> np.ndarray:
    """SVG text as uint8 pixels: `(H, W, 3)` on `background`, or `(H, W, 4)` with None."""
    png = resvg_py.svg_to_bytes(
        svg_string=svg,
        width=image_size,
        height=image_size,
        background=background,
        skip_system_fonts=True,
    )
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA" if background is None else "RGB"))


def draw_chunk(style: str, numbers: range, image_size: int) -> list[tuple[np.ndarray, dict]]:
    return [draw(style, number, image_size) for number in numbers]


def draw_many(style: str, count: int, image_size: int) -> Iterator[tuple[np.ndarray, dict]]:
    """Avatars 0 to `count` - 1 in order, drawn on all cores."""
    load_style(style)
    chunks = [range(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK)]
    workers = min(cores(), len(chunks))
    if workers == 1:
        for chunk in chunks:
            yield from draw_chunk(style, chunk, image_size)
        return
    # spawn: safe beside torch's threads, and the same on every system.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=leave_interrupts_to_parent)
    try:
        # A window of chunks in flight keeps memory flat for a million pictures.
        waiting = []
        for chunk in chunks:
            waiting.append(pool.submit(draw_chunk, style, chunk, image_size))
            if len(waiting) > 4 * workers:
                yield from waiting.pop(0).result()
        for future in waiting:
            yield from future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def cores() -> int:
    """Cores this process may use: fewer than the machine has, in a container or a batch job."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def leave_interrupts_to_parent() -> None:
    """Ctrl-C reaches every process of a terminal; the parent alone shall answer it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def credit(style: str) -> dict:
    """Who drew the style, and under which licence."""
    meta = read_definition(style).get("meta", {})
    return {
        "title": meta.get("source", {}).get("name", style),
        "creator": meta.get("creator", {}).get("name", "unknown"),
        "source": meta.get("source", {}).get("url", ""),
        "license": meta.get("license", {}).get("name", "unknown"),
        "license_url": meta.get("license", {}).get("url", ""),
    }
