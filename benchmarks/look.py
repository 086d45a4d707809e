"""How well the look before training sees: `python -m benchmarks.look`, two minutes.

Drawn faces of seven styles, 400 of each, 256 px as drawn and 64 as packed; some of them copied as people copy images, some
moved or made smaller. It prints
what share of those is found, and what share of the others is taken for it.
"""

import argparse
import io

import numpy as np
from PIL import Image, ImageEnhance

from toongan.data import to_square
from toongan.datasets import avatars, look

STYLES = ("avataaars", "adventurer", "toon-head", "big-smile", "micah", "notionists", "pixel-art")
CHANGED = 20  # of each kind
DRAWN, PACKED = 256, 64  # pixels


def jpeg(quality: int):
    def copy(face: Image.Image) -> Image.Image:
        data = io.BytesIO()
        face.save(data, "JPEG", quality=quality)
        return Image.open(data).convert("RGB")

    return copy


def smaller(face: Image.Image) -> Image.Image:
    return face.resize((face.width * 6 // 10,) * 2, Image.Resampling.LANCZOS).resize(
        face.size, Image.Resampling.LANCZOS
    )


def trimmed(face: Image.Image) -> Image.Image:
    edge = max(1, face.width // 50)
    return face.crop((edge, edge, face.width, face.height)).resize(face.size, Image.Resampling.LANCZOS)


def brighter(face: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(face).enhance(1.1)


COPIES = {
    "JPEG, quality 60": jpeg(60), "JPEG, quality 30": jpeg(30), "resized to 60 % and back": smaller,
    "trimmed by 2 %": trimmed, "10 % brighter": brighter,
}  # fmt: skip


def packed(faces: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(to_square(face, PACKED)) for face in faces])


def on_paper(face: Image.Image, size: int, left: int, top: int) -> Image.Image:
    paper = Image.new("RGB", face.size, face.getpixel((0, 0)))
    paper.paste(face.resize((size, size), Image.Resampling.LANCZOS), (left, top))
    return paper


def places(side: int) -> dict:
    chance = np.random.default_rng(0)

    def moved(face: Image.Image) -> Image.Image:
        right, down = chance.choice([-1, 1], 2) * chance.integers(side // 6, side // 3, 2)
        return on_paper(face, side, int(right), int(down))

    return {
        "moved by a sixth or more": moved,
        "half as large": lambda face: on_paper(face, side // 2, side // 4, side // 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=400)
    options = parser.parse_args()
    found = {name: [] for name in (*COPIES, *places(DRAWN))}
    false = {"nearly repeats": [], "elsewhere or unlike": []}
    for style in STYLES:
        faces = [Image.fromarray(avatars.draw(style, number, DRAWN)[0]) for number in range(options.faces)]
        drawn = packed(faces)
        for name, copy in COPIES.items():
            both = np.concatenate([drawn, packed([copy(face) for face in faces[:CHANGED]])])
            repeats = {row for row, _ in look.alike(both, look.shrunk(both, look.SIDE))}
            found[name].append(np.mean([row in repeats for row in range(len(drawn), len(both))]))
        false["nearly repeats"].append(len(look.alike(drawn, look.shrunk(drawn, look.SIDE))) / len(drawn))
        for name, change in places(DRAWN).items():
            some = np.concatenate([packed([change(face) for face in faces[:CHANGED]]), drawn[CHANGED:]])
            elsewhere, unlike = look.places(look.shrunk(some, look.SIDE))
            odd = {row for row, *_ in elsewhere} | set(unlike)
            found[name].append(np.mean([row in odd for row in range(CHANGED)]))
        elsewhere, unlike = look.places(look.shrunk(drawn, look.SIDE))
        false["elsewhere or unlike"].append((len(elsewhere) + len(unlike)) / len(drawn))
    width = max(map(len, (*found, *false)))
    print(f"{'found (%)':{width}} ", *(f"{style:>11}" for style in STYLES))
    for name, shares in found.items():
        print(f"{name:{width}} ", *(f"{100 * share:11.0f}" for share in shares))
    print(f"{'taken for it (%)':{width}}")
    for name, shares in false.items():
        print(f"{name:{width}} ", *(f"{100 * share:11.1f}" for share in shares))


if __name__ == "__main__":
    main()
