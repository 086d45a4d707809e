"""Does a generator draw what it is asked for, and does it leave the rest of the face alone?"""

import numpy as np
import torch

from ..conditional import change, like_the_data
from ..features import AttributeReader
from ..models import Generator
from ..runs import draw, seeded

EACH = 16  # images for each value of each attribute
FACES = 256  # images in which one attribute is changed, for each attribute
LEAST = 5  # held-out images that a value needs before we say how often it is read right


def obedience(
    generator: Generator,
    reader: AttributeReader,
    held_out: np.ndarray,
    truth: list[dict[str, str]],
    seed: int = 0,
) -> dict[str, dict]:
    """How often the reader finds a wish in the image drawn for it, attribute by attribute; all values count alike.

    Args:
        generator: one that can be asked for something.
        reader: reads attributes from images; attributes that it cannot read are left out.
        held_out: real images, uint8 `(N, H, W, 3)`; `truth` are their labels.

    Returns:
        for each attribute: values, how many; obeyed; ceiling, the same for real images; unasked, the same for images
        asked for another value; by_value, obeyed for each value; moves, how often each other attribute is read
        differently after this one is changed; stays, how often it is not, on average.
    """
    attributes, chance = generator.attributes, seeded(seed, "obedience")
    names = [name for name in attributes.values if name in reader.values]
    right, known = reader.read(held_out), reader.targets(truth)
    found = {}
    for name in names:
        place, values = list(reader.values).index(name), attributes.values[name]
        numbers = torch.cat([like_the_data(attributes, EACH, chance, {name: value}) for value in values])
        wished = torch.arange(len(values)).repeat_interleave(EACH)
        read = read_by(reader, name, values, asked(generator, numbers, noise_for(generator, len(numbers), chance)))
        each = torch.arange(len(values))
        hits = (read[:, None] == each).float()
        mine, others = (
            torch.stack([hits[rows, value].mean() for value, rows in zip(each, sides)])
            for sides in (wished == each[:, None], wished != each[:, None])
        )
        of_value = (
            known[:, place] == reader.values[name].index(value) for value in values if value in reader.values[name]
        )
        ceiling = [
            float((right[rows, place] == known[rows, place]).float().mean()) for rows in of_value if rows.sum() >= LEAST
        ]
        found[name] = {
            "values": len(values),
            "obeyed": float(mine.mean()),
            "ceiling": float(np.mean(ceiling)) if ceiling else 1.0,
            "unasked": float(others.mean()),
            "by_value": mine.tolist(),
        }
    for name, shares in moved(generator, reader, names, chance).items():
        found[name]["stays"] = 1 - float(np.mean(list(shares.values()))) if shares else 1.0
        found[name]["moves"] = shares
    return found


def moved(
    generator: Generator, reader: AttributeReader, names: list[str], chance: torch.Generator
) -> dict[str, dict[str, float]]:
    """For each attribute, how often each other one is read differently after this one is changed.

    What has to change with it is changed too: a face that is given a colour of glasses is given glasses.
    """
    attributes = generator.attributes
    numbers, noise = like_the_data(attributes, FACES, chance), noise_for(generator, FACES, chance)
    before = reader.read(asked(generator, numbers, noise))
    found = {}
    for name in names:
        place, values = list(attributes.values).index(name), attributes.values[name]
        steps = torch.randint(1, len(values), (FACES,), generator=chance)
        others = (numbers[:, place].clamp(min=0) + steps) % len(values)
        rows = [(others == value).nonzero()[:, 0] for value in range(len(values))]
        changed = torch.empty_like(numbers)
        for value, those in zip(values, rows):
            changed[those] = change(attributes, numbers[those], name, value)
        differ = (reader.read(asked(generator, changed, noise)) != before).float().mean(0).tolist()
        found[name] = {other: share for other, share in zip(reader.values, differ) if other != name}
    return found


def noise_for(generator: Generator, count: int, chance: torch.Generator) -> torch.Tensor:
    return torch.randn(count, generator.latent_dim - generator.attributes.length, generator=chance)


def asked(generator: Generator, numbers: torch.Tensor, noise: torch.Tensor) -> np.ndarray:
    """Images, uint8 `(N, H, W, 3)`, drawn from that noise and asked for these attributes."""
    return draw(generator, torch.cat([noise, generator.attributes.one_hot(numbers)], 1))


def read_by(reader: AttributeReader, name: str, values: list[str], faces: np.ndarray) -> torch.Tensor:
    """What a reader sees of one attribute, as numbers of `values`; -1 for any other."""
    place = list(reader.values).index(name)
    find = torch.tensor([values.index(value) if value in values else -1 for value in reader.values[name]])
    return find[reader.read(faces)[:, place]]
