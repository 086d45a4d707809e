"""Directions in a generator's latent space that change one thing, in words: glasses, lighter hair."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass

import numpy as np
import torch

from ..config import data_of
from ..datasets import at_hand, prepare, split
from ..devices import hardware
from ..errors import ToonGANError
from ..evaluation.measure import Part
from ..features import AttributeReader, learnable
from ..models import Generator
from ..paths import atomic_write
from ..results import direction_of
from ..runs import Run, draw, seeded

SAMPLES, TESTED = 4000, 256
PUSH = 3.0  # how far a slider goes when it is tested
MOVES = 0.35  # by how much, at least, that must change how many faces are read to have it
MOST, LIKE_ANOTHER = 10, 0.75
STRONGEST = 8
FILE = "directions.json"
# What attributes of the drawn styles and of Cartoon Set are called, where their own name would say too little.
WORDS = {
    "accessories": "glasses", "facial_hair": "beard", "top": "hair", "clothes_graphic": "print on the shirt",
    "eyebrows": "eyebrows", "hair_accessories": "hair accessories",
}  # fmt: skip


@dataclass(frozen=True)
class Direction:
    """A direction of length 1 in the latent space, and what it changes."""

    name: str
    vector: list[float]


def directions_of(run: Run, generator: Generator, progress: bool) -> list[Direction]:
    """The directions of a run's generator: those that the labels of its data give, or else the strongest of its first layer.

    They are kept in a file beside the generator and read from there the next time.
    """
    digest = hashlib.sha256(run.generator_path.read_bytes()).hexdigest()
    path = run.checkpoints / FILE
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["sha256"] == digest:
            return [Direction(**each) for each in kept["directions"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    labelled_ones = labelled(run, generator, progress)
    found = labelled_ones or strongest(generator)
    if labelled_ones is None:  # perhaps the data comes back
        return found
    try:
        with atomic_write(path) as part:
            part.write_text(json.dumps({"sha256": digest, "directions": [asdict(each) for each in found]}))
    except ToonGANError:  # a folder that cannot be written to: they are found anew the next time
        pass
    return found


def strongest(generator: Generator, count: int = STRONGEST) -> list[Direction]:
    """The directions that change the first feature maps most (Shen and Zhou 2021, section 3.2)."""
    weight = generator.main[0].weight.detach().flatten(1)  # (latent_dim, rest)
    _, _, vectors = torch.linalg.svd(weight.T.double(), full_matrices=False)
    return [Direction(f"direction {number}", rounded(each)) for number, each in enumerate(vectors[:count], 1)]


def labelled(run: Run, generator: Generator, progress: bool) -> list[Direction] | None:
    """Directions by attribute, each tested to change what its name says. None where the data is not at hand."""
    wanted = data_of({**run.info().get("settings", {}), "image_size": generator.image_size})
    if not at_hand(wanted):
        return None
    try:
        data = prepare(wanted, progress=progress)
    except ToonGANError:  # a folder that has been emptied
        return None
    training = split(data.hashes).training
    labels = [data.labels[row] for row in training]
    if not learnable(labels):
        return []
    device = hardware.choose_device("auto")
    text = "Learning to read attributes" if progress else None
    reader = AttributeReader(Part(data.images, training), labels, 0, device, progress=text)
    generator = generator.to(device)
    latent = torch.randn(SAMPLES, generator.latent_dim, generator=seeded(0, "directions"))
    read = reader.read(draw(generator, latent))
    fresh = torch.randn(TESTED, generator.latent_dim, generator=seeded(0, "directions tested"))

    found = []
    for attribute, name, has, reads in candidates(reader, read):
        vector = direction_of(latent, has)
        shares = [reads(reader.read(draw(generator, fresh + push * vector))).float().mean() for push in (-PUSH, PUSH)]
        found.append((float(shares[1] - shares[0]), attribute, name, vector))
    generator.cpu()
    chosen = {}  # of each attribute the one that moves most
    for moves, attribute, name, vector in sorted(found, key=lambda each: -each[0]):
        alike = any(abs(float(torch.dot(vector, other))) > LIKE_ANOTHER for _, other in chosen.values())
        if moves >= MOVES and not alike and attribute not in chosen and len(chosen) < MOST:
            chosen[attribute] = name, vector
    return [Direction(name, rounded(vector)) for name, vector in sorted(chosen.values(), key=lambda each: each[0])]


def candidates(reader: AttributeReader, read: torch.Tensor):
    """What a face may have more or less of: attribute, name, which samples have it `(N,)`, and a function that reads it."""
    for column, (attribute, values) in enumerate(reader.values.items()):
        word = WORDS.get(attribute, attribute.replace("_", " "))
        numbers = read[:, column]
        groups = {}
        if "" in values:
            groups[word.removesuffix(" color")] = [i for i, value in enumerate(values) if value]
        if any(values) and all(is_colour(value) for value in values if value):
            levels = {i: lightness(value) for i, value in enumerate(values) if value}
            middle = float(np.median(list(levels.values())))
            groups[f"lighter {word.removesuffix(' color')}"] = [i for i, level in levels.items() if level > middle]
        else:
            for ending in ("long", "short"):
                some = [i for i, value in enumerate(values) if ending in value.lower()]
                if some and len(some) < len(values):
                    groups[f"{ending} {word}"] = some
            for i, value in enumerate(values[:6]):
                if value and "" not in values:
                    groups[f"{word}: {spoken(value)}"] = [i]
        for name, members in groups.items():
            wanted = torch.tensor(members)
            has = torch.isin(numbers, wanted)
            if 0.02 < has.float().mean() < 0.98:
                yield (
                    attribute,
                    name,
                    has,
                    lambda seen, wanted=wanted, column=column: torch.isin(seen[:, column], wanted),
                )


def is_colour(value: str) -> bool:
    """Whether a label is a colour, `#4a312c`; a folder of images may be called `#1`."""
    return re.fullmatch("#[0-9a-fA-F]{6}", value) is not None


def lightness(colour: str) -> float:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue


def spoken(value: str) -> str:
    """`sadConcernedNatural` as `sad concerned natural`."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in value).strip()


def rounded(vector: torch.Tensor) -> list[float]:
    return [round(float(value), 4) for value in vector]
