"""Cartoon faces drawn on this machine: DiceBear composes them, resvg turns them into pixels.

Avatar number i of a style is the same drawing on every machine. ATTRIBUTION.md and
each `meta.json` name the artist and the licence.
"""

import difflib
import hashlib
import io
import itertools
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import numpy as np
import resvg_py
from PIL import Image

from ..data import to_array, to_channels
from ..errors import ToonGANError
from .outcomes import Form, Outcome, Task, Usable

CHUNK = 64
DEFAULT_STYLE = "avataaars"
# A style with a component of one of these names draws faces.
FACE_PARTS = {"eyes", "face", "expression", "mood"}
BACKGROUNDS = (
    "#b6e3f4", "#8fc7d9", "#c0aede", "#ffd5dc", "#ffdfbf", "#ffe28a", "#c7e9c0", "#f2f2f2",
)  # fmt: skip
# The clip to the canvas, which the image clips anyway; drawing it costs a layer.
CANVAS_CLIP = re.compile(r'<g clip-path="url\(#clip-[0-9a-f]+\)">')


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


def near(name: str) -> str:
    found = difflib.get_close_matches(name.lower(), styles(), n=1)
    return f"perhaps {found[0]}? Else " if found else ""


def check_style(name: str) -> None:
    """
    Raises:
        ToonGANError: there is no such style, or it draws no faces.
    """
    if name not in styles():
        raise ToonGANError(f"has no style {name!r}; {near(name)}choose one of: {', '.join(styles())}.", "dataset")


@cache
def load_style(name: str, background: bool = True) -> Any:
    """A style by name. With `background`, a style that has no background gets `BACKGROUNDS`."""
    definition = read_definition(name)
    if background:
        definition.setdefault("colors", {}).setdefault("background", {"values": list(BACKGROUNDS)})
    return dicebear().Style(definition)


@cache
def dicebear():
    """The library, imported on first use, without the part that makes the import slow.

    jsonschema, which it uses, compiles a grammar of internet addresses if it finds the package for it. That takes
    1.6 seconds per process, for a check that no drawing needs.
    """
    grammar = "rfc3987_syntax"
    hidden = grammar not in sys.modules
    if hidden:
        sys.modules[grammar] = None
    try:
        return import_module("dicebear")
    finally:
        if hidden:
            del sys.modules[grammar]


def read_definition(name: str) -> dict:
    return json.loads(files("dicebear_styles").joinpath(f"{name}.json").read_text("utf-8"))


def compose(style: str, number: int, background: bool = True) -> tuple[str, dict]:
    """Avatar `number` of a style as SVG text, and its attributes.

    Styles without a background get one of `BACKGROUNDS`, or none.

    The attributes name the variant of every part that is drawn (`top: bob`) and every
    colour in use (`hair_color: #724133`).
    """
    drawn = dicebear().Avatar(load_style(style, background), {"seed": f"toongan-{number}"}).to_json()
    return CANVAS_CLIP.sub("<g>", drawn["svg"], count=1), attributes(drawn["options"])


def attributes(options: dict) -> dict:
    """The resolved options of an avatar, reduced to what is visible.

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


def versions() -> dict[str, str]:
    """The versions that a drawing depends on; others may draw avatar number i differently."""
    return {name: version(name) for name in ("dicebear-core", "dicebear-styles", "resvg_py")}


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


@dataclass(frozen=True)
class AvatarsTask:
    """Avatars of a style, by number."""

    style: str
    numbers: range

    @property
    def size(self) -> int:
        return len(self.numbers)

    @property
    def work(self) -> int:
        return len(self.numbers)

    def run(self, form: Form) -> list[Outcome]:
        outcomes, clear = [], form.channels == 4
        for number in self.numbers:
            svg, seen = compose(self.style, number, background=not clear)
            pixels = rasterise(svg, form.image_size, None if clear else "#ffffff")
            if form.channels != 3:
                pixels = to_array(to_channels(Image.fromarray(pixels), form.channels))
            outcomes.append(Usable(f"{self.style}-{number}", hashlib.sha256(svg.encode()).digest(), pixels, seen))
        return outcomes


@dataclass(frozen=True)
class AvatarsSource:
    """Avatars of one style, without end: each number is another drawing."""

    style: str
    unit = "faces"

    def signature(self) -> dict:
        return {"style": self.style, **versions()}

    def amount(self, signature: dict) -> None:
        return None

    def tasks(self, skip: int) -> Iterator[Task]:
        for start in itertools.count(skip, CHUNK):
            yield AvatarsTask(self.style, range(start, start + CHUNK))
