"""Both nets and everything that trains them: one step, what it depends on, and how fast it is."""

import copy
import hashlib
import math
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations
from tqdm import tqdm

from ..conditional import ConditionalDiscriminator, Knowing, random_latent
from ..config import TrainConfig
from ..data import to_pixels
from ..devices import Machine, hardware
from ..devices.graphs import StepGraph
from ..models import Discriminator, Generator, init_weights
from ..training import RECIPES, Recipe, rate_factor, train_step, update_average
from .asking import Asked
from .augmenting import Augmented, chances_of, flipped
from .feeding import feed, images_of, order_of


class Trainer:
    """Both nets, their optimisers and every source of randomness, advanced step by step.

    Two trainers built from the same configuration and data make the same steps.

    Args:
        config: its `base_channels` and `batch_size` must be set.
        images: uint8 `(N, H, W, channels)`.
        machine: where and how to compute; all ranks of its world make each step together.
        rows: train on these images only.
        asked: what the generator learns to draw on request, and the attributes of the images.
    """

    def __init__(
        self,
        config: TrainConfig,
        images: torch.Tensor,
        machine: Machine,
        rows: torch.Tensor | None = None,
        asked: Asked | None = None,
    ):
        self.config, self.machine, self.world = config, machine, machine.world
        self.images, self.rows, self.asked = images, rows, asked
        self.recipe = RECIPES[config.recipe]
        self.loss = self.recipe.loss

        G, D = first_weights(self.make_nets, config.seed)
        self.G, self.D = map(machine.place, (G, freeze(D, config.freeze)))
        self.G.attributes = asked and asked.attributes
        self.average = copy.deepcopy(self.G) if self.recipe.average else None
        self.players = self.world.replica(self.G), self.world.replica(self.D)
        self.optimizer_g = self.adam(self.G, self.recipe.rate_g)
        self.optimizer_d = self.adam(self.D, self.recipe.rate_d)
        self.autocast, self.scaler = machine.autocast(), machine.scaler()

        self.chance = torch.Generator().manual_seed(config.seed)
        self.rate_scale = 1.0
        self.graphs, self.graph = machine.graphs, None
        self.stream = None
        self.go_to(0)

    def make_nets(self) -> tuple[Generator, Discriminator]:
        """Both nets, not yet initialised."""
        config, wishes = self.config, self.asked.attributes.length if self.asked else 0
        sizes = config.image_size, config.latent_dim, config.base_channels
        kinds = config.colours or 0, config.differences or False
        return make_nets(self.recipe, *sizes, wishes, self.images.shape[3], *kinds)

    def adam(self, net: torch.nn.Module, rate: float) -> torch.optim.Adam:
        return torch.optim.Adam(net.parameters(), betas=self.recipe.betas, **self.machine.adam_options(rate))

    def go_to(self, step: int) -> None:
        """Move the data stream to where it is before `step`; the order depends on the seed and nothing else."""
        if self.stream is not None:
            self.stream.close()
        config, count = self.config, len(self.images if self.rows is None else self.rows)
        order = partial(order_of, count, config.batch_size, config.seed, step, self.rows)
        self.stream = feed(self.images, config.batch_size, order(), self.machine)
        self.wishes = map(self.asked.wishes, order()) if self.asked else None

    def step(self, number: int, steps: int) -> torch.Tensor:
        """Make step `number` of `steps`; returns `(4,)` on the device: loss_d, loss_g, real_score, fake_score."""
        factor = rate_factor(number, steps, self.recipe.final_rate, self.recipe.warmup)
        self.set_rates(factor * self.rate_scale)
        batch, latent = next(self.stream), self.latent()
        values = self.graph(batch, latent) if self.graph else self.play(batch, latent)
        if self.graphs and self.graph is None:
            self.record(batch, latent)
        if self.average is not None:
            update_average(self.average, self.G, number, self.recipe.half_life)
        return self.world.mean(values)

    def latent(self) -> torch.Tensor:
        """The input of a step, on the device: latent vectors `(N, latent_dim)`, then wishes and random numbers, if any.

        The wishes are the attributes of the real images in the batch, so that both images of a pair have the same ones.
        """
        config, count = self.config, self.config.batch_size
        latent = torch.randn(count, config.latent_dim, generator=self.chance)
        if self.wishes is not None:
            latent = torch.cat([latent, next(self.wishes)], 1)
        if chances := chances_of(config.augment):
            latent = torch.cat([latent, torch.rand(count, chances, generator=self.chance)], 1)
        return self.machine.upload(self.world.share(latent))

    def latent_for(self, purpose: str, count: int) -> torch.Tensor:
        """Latent vectors to draw with, `(count, latent_dim)`: the same for each run of this seed, and never trained with."""
        return random_latent(self.G, count, seeded(self.config.seed, purpose))

    def play(self, batch: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        """The part of a step that can be recorded: gather the images of a batch, and alternate."""
        return self.alternate(images_of(self.images, batch), latent)

    def alternate(self, real: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        """(1) Update D on a real and a fake batch, (2) update G: the step of chapter 03."""
        G, D = self.players
        latent, chances = latent[:, : self.G.latent_dim], latent[:, self.G.latent_dim :]
        if self.asked:
            D = Knowing(D, latent[:, self.config.latent_dim :])
        if self.config.augment in ("flips", "both"):
            real, chances = flipped(real, chances[:, 0]), chances[:, 1:]
        if self.config.augment in ("diffaugment", "both"):
            D = Augmented(D, chances)
        optimizers = self.optimizer_g, self.optimizer_d
        return train_step(G, D, *optimizers, self.loss, real, latent, self.autocast, self.scaler)

    def record(self, batch: torch.Tensor, latent: torch.Tensor) -> None:
        """Record the step; the optimisers have made one before, and so have all their tensors."""
        scaler = self.scaler.state_dict()
        try:
            self.graph = StepGraph(self.play, self.tensors(), batch, latent)
        except RuntimeError as error:
            warnings.warn(f"No CUDA graph, so steps take a little longer: {error}", stacklevel=2)
            self.graphs = False
            # A step that broke off leaves unfinished work behind.
            self.D.requires_grad_(True)
            self.optimizer_g.zero_grad()
            self.optimizer_d.zero_grad()
            for optimizer in (self.optimizer_g, self.optimizer_d):  # the scaler set these, and multiplies by them
                optimizer.__dict__.pop("grad_scale", None)
                optimizer.__dict__.pop("found_inf", None)
            self.scaler = self.machine.scaler()
            if self.scaler.is_enabled():
                self.scaler.load_state_dict(scaler)

    def tensors(self) -> list[torch.Tensor]:
        """Everything that a step changes."""
        nets = [value for net in (self.G, self.D) for value in net.state_dict().values()]
        states = [state for each in (self.optimizer_g, self.optimizer_d) for state in each.state.values()]
        moments = [value for state in states for value in state.values() if isinstance(value, torch.Tensor)]
        scale = [self.scaler._scale, self.scaler._growth_tracker] if self.scaler.is_enabled() else []
        return nets + moments + scale

    def optimizers(self) -> tuple[tuple[torch.optim.Adam, float], ...]:
        """Both optimisers, each with its peak learning rate."""
        return (self.optimizer_g, self.recipe.rate_g), (self.optimizer_d, self.recipe.rate_d)

    def set_rates(self, factor: float) -> None:
        """Set both learning rates, as a fraction of their peaks."""
        for optimizer, peak in self.optimizers():
            for group in optimizer.param_groups:
                if isinstance(group["lr"], torch.Tensor):
                    group["lr"].fill_(peak * factor)
                else:
                    group["lr"] = peak * factor

    def state(self) -> dict:
        """Everything that decides the steps to come, except the place in the data, which the step's number gives."""
        parts = {name: getattr(self, name).state_dict() for name in self.parts()}
        return {**parts, "chance": self.chance.get_state(), "rate_scale": self.rate_scale}

    def restore(self, state: dict, step: int) -> None:
        """Go back to what `state()` returned before `step`."""
        for name in self.parts():
            if state[name] or name != "scaler":  # the scaler of another precision has an empty state
                getattr(self, name).load_state_dict(state[name])
        self.settle_optimizers()
        self.chance.set_state(state["chance"])
        self.rate_scale = state["rate_scale"]
        self.go_to(step)

    def settle_optimizers(self) -> None:
        """Prepare the optimisers after a load, which may come from another device."""
        self.graph = None  # it refers to the earlier tensors
        for optimizer, peak in self.optimizers():
            options = self.machine.adam_options(peak)
            for group in optimizer.param_groups:
                group.update(options)
            for each in optimizer.state.values():
                each["step"] = each["step"].to(self.machine.device if options["fused"] else "cpu")

    def parts(self) -> list[str]:
        average = [] if self.average is None else ["average"]
        return ["G", "D", *average, "optimizer_g", "optimizer_d", "scaler"]

    def is_finite(self) -> bool:
        """Whether every weight is still a number; waits once for the device."""
        values = [value for net in (self.G, self.D) for value in net.state_dict().values()]
        largest = torch._foreach_norm([value for value in values if value.is_floating_point()], math.inf)
        return bool(torch.stack(largest).isfinite().all())

    @property
    def generator(self) -> Generator:
        """The generator to draw with and to save: the moving average if the recipe keeps one."""
        return self.G if self.average is None else self.average


def make_nets(
    recipe: Recipe,
    image_size: int,
    latent_dim: int,
    base_channels: int,
    wishes: int = 0,
    channels: int = 3,
    colours: int = 0,
    differences: bool = False,
) -> tuple[Generator, Discriminator]:
    """Both nets of a recipe, not yet initialised. With wishes, G takes them after the latent vector."""
    G = Generator(image_size, latent_dim + wishes, base_channels, recipe.smooth, channels, colours)
    if wishes:
        return G, ConditionalDiscriminator(
            image_size, base_channels, recipe.norm, recipe.smooth, wishes, channels, differences
        )
    return G, Discriminator(image_size, base_channels, recipe.norm, recipe.smooth, channels, differences)


@torch.no_grad()
def freeze(D: Discriminator, layers: int) -> Discriminator:
    """Fix the weights of D's first layers, in place: Mo et al. 2020, section 3."""
    for conv in [each for each in D.main if isinstance(each, torch.nn.Conv2d)][:layers]:
        for name in ("weight", "bias"):
            value = getattr(conv, name)
            if is_parametrized(conv, name):
                remove_parametrizations(conv, name)
            delattr(conv, name)
            conv.register_buffer(name, None if value is None else value.detach().clone())
    return D


def first_weights(make: Callable[[], tuple[Generator, Discriminator]], seed: int) -> tuple[Generator, Discriminator]:
    """Both nets as a run with this seed begins with them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        G, D = map(init_weights, make())
    return G, D


def seeded(seed: int, purpose: str) -> torch.Generator:
    """A random number generator for one purpose: faces to show must not reuse latent vectors from training."""
    digest = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


@torch.no_grad()
def draw(generator: Generator, latent: torch.Tensor, batch: int = 64) -> np.ndarray:
    """Draw latent vectors `(N, latent_dim)` as uint8 pixels `(N, H, W, channels)`, in `eval` mode."""
    training = generator.training
    device = next(generator.parameters()).device
    generator.eval()
    pixels = [to_pixels(generator(part.to(device))).cpu().numpy() for part in latent.split(batch)]
    generator.train(training)
    return np.concatenate(pixels)


def measure_speed(trainer: Trainer, seconds: float = 4.0, progress: bool = False) -> float:
    """The training speed in images per second, measured on a trainer that is then thrown away."""
    bar = tqdm(
        total=seconds,
        desc="Measuring the speed",
        bar_format="{l_bar}{bar}| {elapsed}<{remaining}",
        file=sys.stdout,
        disable=not progress,
    )
    with bar:
        for number in range(10):  # the first steps are slow: memory is allocated, kernels are chosen
            trainer.step(number, 1000)
        hardware.synchronize(trainer.machine.device)
        start, done, elapsed = time.perf_counter(), 0, 0.0
        while trainer.world.agreed(lambda: elapsed < seconds):
            for _ in range(5):
                trainer.step(done, 1000)
                done += 1
            hardware.synchronize(trainer.machine.device)
            elapsed = time.perf_counter() - start
            bar.update(min(elapsed, seconds) - bar.n)
    return done * trainer.config.batch_size / elapsed
