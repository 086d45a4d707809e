"""What a generator can be asked for: attributes from the labels of the data, and wishes in words."""

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

EXAMPLES = 4096  # real images whose attributes a run remembers, so that what is not asked for is drawn as in the data
NONE = "none"  # the word for an absent part


@dataclass(frozen=True)
class Asked:
    """What a generator learns to draw on request, and the attributes of the images.

    Attributes:
        numbers: the attributes of all images, `(N, attributes)`, each as the number of its value.
    """

    attributes: Attributes
    numbers: torch.Tensor

    def wishes(self, rows: torch.Tensor) -> torch.Tensor:
        """The attributes of some images, as wishes `(len(rows), attributes.length)`."""
        return self.attributes.one_hot(self.numbers[rows])


def asked_of(
    config: TrainConfig, data: PackedDataset, split: Split, saved: dict | None, say: Callable[[str], None]
) -> Asked | None:
    """What the run learns to draw on request; None if nothing.

    Raises:
        ToonGANError: the images lack the attribute, or it cannot be learned; names those that can.
    """
    if config.ask is None:
        return None
    if saved is not None:
        attributes = from_plain(saved["info"]["attributes"])
        return Asked(attributes, attributes.numbers(data.labels))
    from ..features import learnable  # imported late: its libraries load slowly

    labels = [data.labels[row] for row in split.training]
    possible, there = learnable(labels), list(labels[0])
    if not possible:
        why = "are too rare or too many to learn" if there else "are missing"
        raise ToonGANError(f"needs labels, but those of {data.meta['dataset']} {why}; leave it out.", "ask")
    names = list(possible) if config.ask == "all" else config.ask.split(",")
    for name in names:
        if name not in possible and name in there:
            raise ToonGANError(
                f"names {name}, whose values are too rare, too many or all the same; "
                f"choose from {', '.join(possible)}.",
                "ask",
            )
        if name not in possible:
            raise ToonGANError(f"names {name}, which the images do not have. {nearest(name, list(possible))}", "ask")
    if config.ask == "all" and (left := [name for name in there if name not in possible]):
        say(f"Cannot be asked for (values too rare, too many or all the same): {', '.join(left)}.")
    for name in names:
        values = {row[name] for row in labels}
        if rare := sorted(values - set(possible[name])):
            some = ", ".join(value or NONE for value in rare[:5]) + (", …" if len(rare) > 5 else "")
            say(f"{name}: too rare to be asked for: {some}.")
    some = [data.labels[row] for row in evenly(split.training, EXAMPLES)]
    attributes = Attributes.of({name: possible[name] for name in names}, some)
    return Asked(attributes, attributes.numbers(data.labels))


def attributes_beside(path: Path) -> Attributes | None:
    """What the generator in a file can be asked for, from the `run.json` beside it; None if that says nothing."""
    try:
        plain = json.loads((path.parent / "run.json").read_text(encoding="utf-8-sig")).get("attributes")
        return from_plain(plain) if plain else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError):  # a file that somebody changed
        return None


def to_plain(attributes: Attributes) -> dict:
    """The attributes as `run.json` keeps them: values by name, examples as bytes in base64, with 255 for -1."""
    examples = attributes.examples.to(torch.uint8).numpy().tobytes()
    return {"values": attributes.values, "examples": base64.b64encode(examples).decode()}


def from_plain(plain: dict) -> Attributes:
    """The attributes, read back.

    Raises:
        KeyError, ValueError, TypeError, RuntimeError: somebody changed them.
    """
    examples = torch.frombuffer(bytearray(base64.b64decode(plain["examples"])), dtype=torch.uint8).long()
    examples[examples == 255] = -1
    return Attributes(plain["values"], examples.view(-1, len(plain["values"])))


def wanted(attributes: Attributes | None, wishes: tuple[str, ...], run: str) -> dict[str, str]:
    """Wishes such as `top=bun`, as a dictionary from attribute to value.

    Raises:
        ToonGANError: there is no such attribute or value, or nothing can be asked for; lists what can.
    """
    found = {}
    if wishes and attributes is None:
        raise ToonGANError(
            f"asks for something, but {run} draws what it likes; train a run with --ask all, or use one that was.",
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
    """What the user perhaps meant, and all that is known."""
    near = difflib.get_close_matches(name, known, 1)
    return (f"Did you mean {near[0]}? " if near else "") + f"Choose from: {', '.join(sorted(known))}."
