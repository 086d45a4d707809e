"""What a generator can be asked for: taken from the labels of the data, and from a wish in words."""

import base64
import difflib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..conditional import Attributes
from ..config import TrainConfig
from ..datasets import PackedDataset, Split, evenly
from ..errors import ToonGANError

EXAMPLES = 4096  # real images whose attributes a run remembers, to draw like the data what is not asked for
NONE = "none"  # how a part that is absent is called in words


@dataclass(frozen=True)
class Asked:
    """What a generator learns to draw on request, and how the images have it.

    Attributes:
        numbers: attributes of all images `(N, attributes)`, as numbers of their values.
    """

    attributes: Attributes
    numbers: torch.Tensor

    def wishes(self, rows: torch.Tensor) -> torch.Tensor:
        """What some images have, as one asks for it: `(len(rows), attributes.length)`."""
        return self.attributes.one_hot(self.numbers[rows])


def asked_of(
    config: TrainConfig, data: PackedDataset, split: Split, saved: dict | None, say: Callable[[str], None]
) -> Asked | None:
    """What the run is to draw on request; None if nothing.

    Raises:
        ToonGANError: the images have no such attribute, or none that can be learned; names those that can.
    """
    if config.ask is None:
        return None
    if saved is not None:
        attributes = from_plain(saved["info"]["attributes"])
        return Asked(attributes, attributes.numbers(data.labels))
    from ..metrics import learnable  # its libraries take a while to load

    labels = [data.labels[row] for row in split.training]
    possible, there = learnable(labels), list(labels[0])
    if not possible:
        why = "are too rare or too many to learn" if there else "are missing"
        raise ToonGANError(f"needs labels, but those of {data.meta['dataset']} {why}; leave it out.", "ask")
    names = list(possible) if config.ask == "all" else config.ask.split(",")
    for name in names:
        if name not in possible and name in there:
            raise ToonGANError(
                f"names {name}, whose values are too rare, too many, or all the same; take some of {', '.join(possible)}.",
                "ask",
            )
        if name not in possible:
            raise ToonGANError(f"names {name}, which the images have not. {nearest(name, list(possible))}", "ask")
    if config.ask == "all" and (left := [name for name in there if name not in possible]):
        say(f"Cannot be asked for (values too rare, too many, or all the same): {', '.join(left)}.")
    for name in names:
        values = {row[name] for row in labels}
        if rare := sorted(values - set(possible[name])):
            some = ", ".join(value or NONE for value in rare[:5]) + (", …" if len(rare) > 5 else "")
            say(f"{name}: too rare to be asked for: {some}.")
    some = [data.labels[row] for row in evenly(split.training, EXAMPLES)]
    attributes = Attributes.of({name: possible[name] for name in names}, some)
    return Asked(attributes, attributes.numbers(data.labels))


def attributes_beside(path: Path) -> Attributes | None:
    """What the generator in a file can be asked for, as the `run.json` beside it says; None if it says nothing."""
    try:
        plain = json.loads((path.parent / "run.json").read_text(encoding="utf-8-sig")).get("attributes")
        return from_plain(plain) if plain else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError):  # one that somebody changed
        return None


def to_plain(attributes: Attributes) -> dict:
    """As `run.json` keeps them: the values by name, the examples as bytes in base 64, 255 for -1."""
    examples = attributes.examples.to(torch.uint8).numpy().tobytes()
    return {"values": attributes.values, "examples": base64.b64encode(examples).decode()}


def from_plain(plain: dict) -> Attributes:
    """The same, read back.

    Raises:
        KeyError, ValueError, TypeError, RuntimeError: it was changed.
    """
    examples = torch.frombuffer(bytearray(base64.b64decode(plain["examples"])), dtype=torch.uint8).long()
    examples[examples == 255] = -1
    return Attributes(plain["values"], examples.view(-1, len(plain["values"])))


def wanted(attributes: Attributes | None, wishes: tuple[str, ...], run: str) -> dict[str, str]:
    """Wishes such as `top=bun` as attribute to value.

    Raises:
        ToonGANError: there is no such attribute or value, or nothing can be asked for; names what can.
    """
    found = {}
    if wishes and attributes is None:
        raise ToonGANError(
            f"asks for something, and {run} draws what it likes; train a run with --ask all, or take one that was.",
            "want",
        )
    for wish in wishes:
        name, _, value = wish.partition("=")
        if name not in attributes.values:
            raise ToonGANError(
                f"names {name}, which {run} cannot be asked for. {nearest(name, list(attributes.values))}", "want"
            )
        values = attributes.values[name]
        value = "" if value == NONE and NONE not in values else value
        if value not in values:
            raise ToonGANError(
                f"wants {name}={value}, which {run} does not know. {nearest(value, [each or NONE for each in values])}",
                "want",
            )
        found[name] = value
    return found


def nearest(name: str, known: list[str]) -> str:
    """What was meant, perhaps, and all that there is."""
    near = difflib.get_close_matches(name, known, 1)
    return (f"Did you mean {near[0]}? " if near else "") + f"There are: {', '.join(sorted(known))}."
