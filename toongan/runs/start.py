"""Nets to start with: those of a trained run instead of random ones."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from ..config import TrainConfig, check_path
from ..errors import ToonGANError
from ..models import Discriminator, Generator, SmoothKernel, SpectralNorm
from . import checkpoints
from .rebuild import find_run
from .record import EARLIER
from .state_dicts import load_discriminator, load_generator, plain_state
from .trainer import Trainer

ROUNDS = 50  # rounds of power iteration, to find the singular values of weights that were just loaded


@dataclass(frozen=True)
class Start:
    """The files of a trained run's nets.

    Attributes:
        checkpoint: the content of the run's `last.pt`, if that exists and is usable.
    """

    generator: Path
    discriminator: Path
    checkpoint: dict | None


def find_start(text: str) -> Start:
    """
    Raises:
        ToonGANError: there are no such nets.
    """
    if "," in text:
        generator, discriminator = (check_path(part, "start") for part in text.split(","))
        return Start(generator, discriminator, None)
    folder = check_path(text, "start")
    if not folder.is_dir():
        if folder.suffix == ".pth":
            raise ToonGANError(
                f"is one file, {text}, but two nets are needed: give G.pth,D.pth, or their folder.", "start"
            )
        folder = find_run(text).checkpoints
    return Start(folder / "G.pth", folder / "D.pth", checkpoints.read(folder / checkpoints.LAST))


def settled(config: TrainConfig, saved: dict | None) -> TrainConfig:
    """The settings, with channels, colours, differences and width from the start if they are open. A run that continues has its own.

    Raises:
        ToonGANError: there is no such start.
    """
    if saved is not None:
        before = saved["settings"]
        return replace(config, **{name: before.get(name, value) for name, value in EARLIER.items()})
    if config.start is None:
        return config
    start = find_start(config.start)
    G, D = load_generator(start.generator), load_discriminator(start.discriminator)
    return replace(
        config,
        channels=config.channels or G.channels,
        colours=G.colours if config.colours is None else config.colours,
        differences=D.differences if config.differences is None else config.differences,
        base_channels=config.base_channels or G.base_channels,
    )


def begun_with(trainer: Trainer, saved: dict | None) -> dict | None:
    """What `run.json` says about the nets that a run started with; None if they were random.

    A new run gets the nets here; a run that continues has them in its checkpoint.
    """
    if saved is not None:
        return (saved.get("info") or {}).get("start")
    return begin_with(trainer) if trainer.config.start is not None else None


@torch.no_grad()
def begin_with(trainer: Trainer) -> dict:
    """Give both nets of a trainer the weights of a trained run; returns what `run.json` says about them.

    If the run's checkpoint exists and fits, its optimisers' moments come along. Otherwise both nets come from their
    files: smooth kernels are turned back into the small ones behind them, and D's spectral norm is computed again.

    Raises:
        ToonGANError: there are no such nets, or they have other sizes; names the option that fits.
    """
    start = find_start(trainer.config.start)
    G, D = load_generator(start.generator), load_discriminator(start.discriminator)
    check_fit(trainer, G, D)
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (start.generator, start.discriminator)
    }
    seen = sets_seen(start.generator.with_name("run.json"))
    about = {"from": trainer.config.start, "sha256": digests, "moments": False, "trained_on": seen}
    if start.checkpoint is not None and fits(trainer, start.checkpoint):
        state = start.checkpoint["trainer"]
        for name in ("G", "D", "optimizer_g", "optimizer_d"):
            getattr(trainer, name).load_state_dict(state[name])
        trainer.settle_optimizers()
        if trainer.average is not None:
            trainer.average.load_state_dict(state.get("average") or state["G"])
        return {**about, "moments": True}
    take_up(trainer.G, plain_state(G))
    take_up(trainer.D, plain_state(D))
    if trainer.average is not None:
        trainer.average.load_state_dict(trainer.G.state_dict())
    return about


def sets_seen(path: Path) -> list[str]:
    """The data sets that the nets beside a `run.json` were trained on, those of their start included; [] without it."""
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        return [info["settings"]["dataset"], *(info.get("start") or {}).get("trained_on", [])]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def check_fit(trainer: Trainer, G: Generator, D: Discriminator) -> None:
    """
    Raises:
        ToonGANError: this run cannot start with nets of these sizes.
    """
    wanted, asked = trainer.config, trainer.asked.attributes if trainer.asked else None
    if type(D) is not type(trainer.D):
        has, this = ("cannot be asked for anything", "can") if asked else ("can be asked for something", "cannot")
        raise ToonGANError(f"{has}, but this run {this}; change --ask, or give another start.", "start")
    if asked and G.attributes and G.attributes.values != asked.values:
        names = [
            name
            for name in {**G.attributes.values, **asked.values}
            if G.attributes.values.get(name) != asked.values.get(name)
        ]
        raise ToonGANError(
            f"can be asked for other things than this run: {', '.join(names)}; give the same --ask on the same kind of data, or another start.",
            "start",
        )
    wishes = asked.length if asked else 0
    for name, is_, want in (
        ("image_size", G.image_size, wanted.image_size),
        ("base_channels", G.base_channels, wanted.base_channels),
        ("latent_dim", G.latent_dim - wishes, wanted.latent_dim),
        ("image_size", D.image_size, wanted.image_size),
        ("base_channels", D.base_channels, wanted.base_channels),
        ("colours", G.colours, trainer.G.colours),
        ("channels", G.channels, trainer.G.channels),
        ("channels", D.channels, trainer.D.channels),
        ("differences", D.differences, trainer.D.differences),
    ):
        if is_ != want:
            raise ToonGANError(
                f"has {name} {is_}, but this run has {want}: give --{name.replace('_', '-')} {is_}, or another start.",
                "start",
            )
    if (D.norm == "batch") != (trainer.recipe.norm == "batch"):
        other = "classic" if D.norm == "batch" else "modern"
        raise ToonGANError(f"was trained with the {other} recipe: give --recipe {other}, or another start.", "start")


def fits(trainer: Trainer, saved: dict) -> bool:
    """Whether a checkpoint's nets have the shapes of this trainer's, parametrizations included, and learn as many weights."""
    state = saved.get("trainer") or {}
    return all(
        {key: value.shape for key, value in state.get(name, {}).items()}
        == {key: value.shape for key, value in getattr(trainer, name).state_dict().items()}
        for name in ("G", "D")
    ) and all(
        [len(group["params"]) for group in state[name]["param_groups"]]
        == [len(group["params"]) for group in getattr(trainer, name).param_groups]  # frozen weights are not among them
        for name in ("optimizer_g", "optimizer_d")
    )


def take_up(net: nn.Module, plain: dict[str, torch.Tensor]) -> None:
    """Load a plain state into a net whose weights may be parametrized."""
    own = net.state_dict()
    for key, value in plain.items():
        module, _, name = key.rpartition(".")
        layer = net.get_submodule(module)
        if not (name == "weight" and is_parametrized(layer, "weight")):
            own[key].copy_(value)
            continue
        chain = list(layer.parametrizations.weight)
        original = layer.parametrizations.weight.original
        original.copy_(small_kernel(value) if isinstance(chain[0], SmoothKernel) else value)
        for each in chain:
            if isinstance(each, SpectralNorm):
                rows = value.to(original.device).permute(0, 2, 3, 1).flatten(1)
                for _ in range(ROUNDS):
                    each.refine(rows)


def small_kernel(laid: torch.Tensor) -> torch.Tensor:
    """The kernel `(out, in, 3, 3)` behind a smooth one of `(out, in, 4, 4)` (chapter 02).

    In one dimension, three cells a, b, c become a, a + b, b + c, c.
    """
    back = torch.tensor([[1.0, 0, 0, 0], [-1, 1, 0, 0], [0, 0, 0, 1]], dtype=laid.dtype, device=laid.device)
    return torch.einsum("ih,oqhw,jw->oqij", back, laid, back)
