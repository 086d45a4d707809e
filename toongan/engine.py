"""Runs: everything around the training step of chapter 03."""

import copy
import dataclasses
import hashlib
import math
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from . import avatars, datasets, hardware
from .config import DataConfig, GenerateConfig, TrainConfig
from .data import tile, to_pixels
from .errors import ToonGANError
from .feeding import feed, place
from .models import Discriminator, Generator, init_weights
from .packed import PackedDataset
from .paths import atomic_write, display, writable_folder
from .results import make_gif, plot_losses, plot_scores, show_grid
from .runs import HISTORY_COLUMNS, Run, find_run, load_generator
from .training import RECIPES, rate_factor, train_step, update_average

DEFAULT_MINUTES = 5.0
GRIDS = 20
GRID_FACES = 64
HISTORY_ROWS = 200
MIN_STEPS = 20


class Trainer:
    """Both nets, their optimisers and every source of chance, advanced a step at a time.

    Two trainers built from the same config and data make the same steps.
    """

    def __init__(self, config: TrainConfig, images: torch.Tensor, device: torch.device, precision: str):
        self.config, self.device = config, device
        self.recipe = RECIPES[config.recipe]
        self.loss = self.recipe.loss
        self.context = hardware.autocast(device, precision)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.base_channels = config.base_channels or (16 if device.type == "cpu" else 64)

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            G = init_weights(Generator(config.image_size, config.latent_dim, self.base_channels))
            D = init_weights(Discriminator(config.image_size, self.base_channels, self.recipe.norm))
        self.G = G.to(device, memory_format=torch.channels_last)
        self.D = D.to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.G) if self.recipe.average else None

        def adam(net):
            fused = device.type in ("cpu", "cuda")
            return torch.optim.Adam(
                net.parameters(), self.recipe.learning_rate, self.recipe.betas, fused=fused
            )

        self.optimizer_g, self.optimizer_d = adam(self.G), adam(self.D)
        self.chance = torch.Generator().manual_seed(config.seed)
        self.stream = feed(images, config.batch_size, torch.Generator().manual_seed(config.seed), device)

    def step(self, number: int, steps: int) -> torch.Tensor:
        """Step `number` of `steps`: `(4,)` on the device, loss_d, loss_g, real_score, fake_score."""
        factor = rate_factor(number, steps, self.recipe.final_rate, self.recipe.warmup)
        for optimizer in (self.optimizer_g, self.optimizer_d):
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate * factor
        latent = torch.randn(self.config.batch_size, self.config.latent_dim, generator=self.chance)
        values = train_step(
            self.G,
            self.D,
            self.optimizer_g,
            self.optimizer_d,
            self.loss,
            next(self.stream),
            latent.to(self.device),
            self.context,
            self.scaler,
        )
        if self.average is not None:
            update_average(self.average, self.G, number)
        return values

    @property
    def generator(self) -> Generator:
        """The generator to draw and to save: the moving average where the recipe keeps one."""
        return self.G if self.average is None else self.average


def seeded(seed: int, purpose: str) -> torch.Generator:
    """A generator of random numbers for one purpose: faces to show must not repeat those trained on."""
    digest = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


@torch.no_grad()
def draw(generator: Generator, latent: torch.Tensor, batch: int = 64) -> np.ndarray:
    """Latent vectors `(N, latent_dim)` to uint8 pixels `(N, H, W, 3)`, in `eval` mode."""
    training = generator.training
    device = next(generator.parameters()).device
    generator.eval()
    pixels = [to_pixels(generator(part.to(device))).cpu().numpy() for part in latent.split(batch)]
    generator.train(training)
    return np.concatenate(pixels)


def measure_speed(trainer: Trainer, seconds: float = 5.0, progress: bool = False) -> float:
    """Training speed in images a second, measured on a trainer that is then thrown away."""
    bar = tqdm(
        total=seconds,
        desc="Measuring the speed",
        bar_format="{l_bar}{bar}| {elapsed}<{remaining}",
        file=sys.stdout,
        disable=not progress,
    )
    with bar:
        for number in range(10):  # the first steps are slow: memory is taken, kernels are chosen
            trainer.step(number, 1000)
        hardware.synchronize(trainer.device)
        start, done, elapsed = time.perf_counter(), 0, 0.0
        while elapsed < seconds or done < 5:
            trainer.step(done, 1000)
            done += 1
            if done % 10 == 0 or trainer.device.type == "cpu":
                hardware.synchronize(trainer.device)
            elapsed = time.perf_counter() - start
            bar.update(min(elapsed, seconds) - bar.n)
    return done * trainer.config.batch_size / elapsed


def plan_steps(
    config: TrainConfig, images: torch.Tensor, device: torch.device, precision: str, progress: bool
) -> tuple[int, dict]:
    """How many steps the run takes, and how that number came about."""
    if config.kimg is not None:
        return max(MIN_STEPS, round(config.kimg * 1000 / config.batch_size)), {"from": "kimg"}
    minutes = config.minutes or DEFAULT_MINUTES
    rate = measure_speed(Trainer(config, images, device, precision), progress=progress)
    steps = max(MIN_STEPS, round(minutes * 60 * rate / config.batch_size))
    return steps, {"from": "minutes", "minutes": minutes, "images_per_second": round(rate, 1)}


def grid_steps(steps: int, grids: int = GRIDS) -> list[int]:
    """Steps before which a sample grid is drawn: dense at first, when most changes."""
    return sorted({round(steps * (i / (grids - 1)) ** 2) for i in range(grids)})


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event that the loop looks at between two steps.

    A second Ctrl-C interrupts at once. Outside the main thread signals are left alone.
    """
    stop = threading.Event()

    def on_signal(number, frame):
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(config: TrainConfig, progress: bool = True, show: bool = False) -> Run:
    """Train both nets as `config` says; leaves the run's files and gives the run.

    Args:
        progress: print progress bars and what happens.
        show: show the sample grid now and then, and the curves at the end (for notebooks).

    Raises:
        ToonGANError: a setting, the data or a folder is not usable; says what to do.
    """
    device = hardware.choose_device(config.device)
    precision = hardware.choose_precision(config.precision, device)
    datasets.find(config.dataset)
    run = Run.named(config.run).make()
    data = datasets.prepare(
        DataConfig(config.dataset, config.count, config.image_size), progress=progress
    )
    images = place(data.images, device)
    if progress:
        print(f"Training {run.name} on {hardware.describe(device)}, {precision}, {config.recipe} recipe")
        if device.type == "cpu" and config.device == "auto":
            print("No GPU found: a GPU would train on many times more pictures in the same time.")
    steps, plan = plan_steps(config, images, device, precision, progress)
    kimg = steps * config.batch_size / 1000
    if progress:
        speed = f" at {plan['images_per_second']:,.0f} images a second" if "images_per_second" in plan else ""
        print(f"{steps:,} steps of {config.batch_size} images{speed}; to repeat exactly: --kimg {kimg!r}", flush=True)

    previous = run.set_aside()
    if previous and progress:
        print(f"The earlier run of this name is now {display(previous)}", flush=True)
    trainer = Trainer(config, images, device, precision)
    info = describe_run(config, trainer, data, device, precision, steps, plan)
    fixed = torch.randn(GRID_FACES, config.latent_dim, generator=seeded(config.seed, "sample grid"))
    history, seconds, done = [], 0.0, 0
    pending = []
    every = max(1, steps // HISTORY_ROWS)
    to_draw = grid_steps(steps)
    to_show = set(to_draw[:: len(to_draw) // 4][1:]) if show else set()

    def save_all() -> None:
        info.update(done=done, kimg=done * config.batch_size / 1000, finished=done == steps, seconds=round(seconds, 1))
        run.save(trainer.generator, trainer.D, history, info)

    def save_grid(number: int) -> None:
        sheet = tile(draw(trainer.generator, fixed))
        with atomic_write(run.grid_path(number)) as part:
            Image.fromarray(sheet).save(part)

    def record() -> None:
        """Read what the device gathered since the last row: the only wait in the loop."""
        nonlocal seconds, mark
        means = torch.stack(pending).cpu().double().mean(0).tolist()
        pending.clear()
        seconds, mark = seconds + time.perf_counter() - mark, time.perf_counter()
        kimg = done * config.batch_size / 1000
        row = [done, round(kimg, 3), round(seconds, 3), *(round(value, 6) for value in means)]
        history.append(dict(zip(HISTORY_COLUMNS, row, strict=True)))
        check_finite(means, done)
        bar.set_postfix_str(f"real {means[2]:.2f} fake {means[3]:.2f}", refresh=False)

    bar = tqdm(
        total=steps * config.batch_size,
        desc="Training",
        unit=" images",
        unit_scale=True,
        file=sys.stdout,
        disable=not progress,
        mininterval=2.0 if show else 0.5,
    )
    with interruptible() as stop, bar:
        mark = time.perf_counter()
        for number in range(steps):
            if number in to_draw:
                if pending:
                    record()
                save_grid(to_draw.index(number))
                if number in to_show:
                    bar.clear()
                    show_grid(run.grid_path(to_draw.index(number)), f"after {done * config.batch_size:,} images")
                if number:
                    save_all()
            pending.append(trainer.step(number, steps))
            done = number + 1
            bar.update(config.batch_size)
            if done % every == 0 or done == steps:
                record()
            if stop.is_set():
                break
        if pending:
            record()
        grids_drawn = sum(number < done for number in to_draw)
        save_grid(grids_drawn if done < steps else len(to_draw) - 1)
        save_all()
    finish(run, show)
    if progress:
        report(run, done, steps)
    return run


def check_finite(means: list[float], step: int) -> None:
    if not all(map(math.isfinite, means)):
        raise ToonGANError(
            f"The loss is no longer a number after step {step:,}. Whatever was saved before is kept; "
            "train again with --precision fp32, or another --seed."
        )


def describe_run(
    config: TrainConfig,
    trainer: Trainer,
    data: PackedDataset,
    device: torch.device,
    precision: str,
    steps: int,
    plan: dict,
) -> dict:
    """What `run.json` records of a run before it starts."""
    packages = ("torch", "numpy", "pillow")
    return {
        "run": config.run,
        "settings": {
            **dataclasses.asdict(config),
            "base_channels": trainer.base_channels,
            "precision": precision,
            "device": device.type,
        },
        "seed": config.seed,
        "steps": steps,
        "length": plan,
        "data": {"dataset": config.dataset, "count": len(data), "fingerprint": data.fingerprint},
        "device": hardware.describe(device),
        "versions": {
            "python": platform.python_version(),
            "toongan": __import__("toongan").__version__,
            **{name: version(name) for name in packages},
            **avatars.versions(),
        },
        "date": time.strftime("%Y-%m-%d"),
    }


def finish(run: Run, show: bool = False) -> None:
    """Draw the curves and the film of a run from its files."""
    plot_losses(run, show=show)
    plot_scores(run, show=show)
    make_gif(run)
    if show:
        show_grid(run.grids[-1], "at the end")


def report(run: Run, done: int, steps: int) -> None:
    """Say how the run ended, and name its files."""
    info = run.info()
    if done < steps:
        print(f"Stopped after {done:,} of {steps:,} steps; everything so far is saved.")
    rate = done * info["settings"]["batch_size"] / max(info["seconds"], 1e-9)
    print(f"{info['kimg']:g} thousand images in {info['seconds'] / 60:.1f} minutes, {rate:,.0f} a second")
    grids = run.grids
    print("Files:")
    for path in run.files():
        if path not in grids:
            print(f"  {display(path)}")
    print(f"  {display(grids[0])} ... {grids[-1].name}")


def generate(config: GenerateConfig) -> Path:
    """Draw `config.count` new faces with a run's generator into one picture; gives its path.

    Raises:
        ToonGANError: the run has no usable generator, or the picture cannot be written.
    """
    generator = load_generator(find_run(config.run).generator_path)
    writable_folder(config.out.absolute().parent)
    latent = torch.randn(config.count, generator.latent_dim, generator=seeded(config.seed, "generate"))
    sheet = tile(draw(generator, latent), columns=math.ceil(math.sqrt(config.count)))
    with atomic_write(config.out) as part:
        Image.fromarray(sheet).save(part)
    return config.out
