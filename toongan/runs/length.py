"""The length of a run: a number of images, or minutes turned into one by measuring the speed."""

import time
from collections.abc import Callable

import torch

from ..config import TrainConfig
from ..devices import Machine
from ..paths import display
from ..system.terminal import teller
from ..training import RECIPES, rate_factor
from .files import Run
from .plan import MIN_STEPS, Plan, extended, steps_of
from .rebuild import lacks, rebuild
from .trainer import Trainer, measure_speed

DEFAULT_MINUTES = 5.0
BUSY = 0.85


def planned(config: TrainConfig, machine: Machine, new_trainer: Callable[[], Trainer], progress: bool) -> Plan:
    """Plan a new run, and print how long it is."""
    wall, used = time.perf_counter(), time.thread_time()
    if config.kimg is not None:
        steps, length = steps_of(config.kimg, config.batch_size), {"from": "kimg"}
    else:
        minutes = config.minutes or DEFAULT_MINUTES
        steps, length = timed_steps(new_trainer(), minutes, minutes, 0, progress)
    # The share of time that the main thread runs. It always has work; how busy the others are depends on their number.
    share = (time.thread_time() - used) / (time.perf_counter() - wall)
    say_plan(config, machine, steps, length, share, teller(progress))
    return Plan.new(steps, length)


def timed_steps(trainer: Trainer, minutes: float, whole: float, done: int, progress: bool) -> tuple[int, dict]:
    """The total number of steps if the run trains `minutes` more after `done` steps, and `whole` minutes in all."""
    rate = measure_speed(trainer, progress=progress)
    steps = done + max(MIN_STEPS, round(minutes * 60 * rate / trainer.config.batch_size))
    length = {"from": "minutes", "minutes": whole, "images_per_second": round(rate, 1)}
    return trainer.world.agreed(lambda: (steps, length))


def say_plan(
    config: TrainConfig, machine: Machine, steps: int, length: dict, share: float, say: Callable[[str], None]
) -> None:
    """Print how long the run will be and, on the CPU, what slows it: no GPU, or running only a `share` of the time."""
    speed, on_cpu = length.get("images_per_second"), machine.device.type == "cpu"
    say(
        f"{steps:,} steps of {config.batch_size} images"
        + (f" at {speed:,.0f} images a second" if speed else "")
        + f"; to repeat exactly: --kimg {steps * config.batch_size / 1000!r}"
    )
    if hint := machine.idle_gpus(config):
        say(hint)
    if on_cpu and config.device == "auto":
        lasts = f"training still takes about {length['minutes']:g} min" if speed else "the bar shows how long it takes"
        say(f"No GPU found: {lasts}, but a GPU would see many more images in that time.")
    if on_cpu and speed and share < BUSY:
        alone = ", or start over with OMP_NUM_THREADS=1: a single thread does not wait for others"
        say(
            f"Other programs keep this machine busy: training has to wait {1 - share:.0%} of the time. Close them"
            f"{alone if torch.get_num_threads() > 1 else ''}."
        )


def longer(
    config: TrainConfig,
    run: Run,
    saved: dict,
    new_trainer: Callable[[], Trainer],
    leads: bool,
    progress: bool,
) -> dict:
    """Plan more steps for a finished run, which the leading rank copies first; returns its checkpoint so planned."""
    done, batch, say = saved["done"], config.batch_size, teller(progress)
    if config.kimg is not None:
        steps, length = steps_of(config.kimg, batch), {"from": "kimg"}
    else:
        more = config.minutes - saved["seconds"] / 60
        steps, length = timed_steps(new_trainer(), more, config.minutes, done, progress)
    if leads:
        if lacks(run, saved):
            rebuild(run, saved, say)
        previous = run.keep_copy()
        recipe = RECIPES[config.recipe]
        first, last = (rate_factor(step, steps, recipe.final_rate, recipe.warmup) for step in (done, steps))
        say(
            f"Continuing from {done * batch / 1000:g} to {steps * batch / 1000:g} thousand images. "
            + (
                f"The learning rate continues at {first:.0%} of its peak and falls to {last:.0%} by the end. "
                if first != last
                else "The learning rate does not change. "
            )
            + f"The shorter run is kept as {display(previous)}; "
            + f"to repeat exactly: --extend --kimg {steps * batch / 1000!r}"
        )
    return extended(saved, steps, length)
