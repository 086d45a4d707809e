"""Runs: everything around the training step of chapter 03."""

import dataclasses
import math
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from . import avatars, checkpoints, datasets, distributed, doctor, hardware, mirror
from .beginning import extends, find_beginning, mirror_folder, settings_of, teller
from .config import DataConfig, GenerateConfig, TrainConfig
from .data import tile
from .distributed import World
from .errors import ToonGANError, out_of_memory
from .feeding import place
from .holdout import evenly, split
from .marked import check_place, check_side, save_picture
from .packed import PackedDataset
from .paths import atomic_write, display
from .plan import MIN_STEPS, extended, grid_steps, grids_of, row_steps, rows_of, steps_of
from .rebuild import find_run, lacks, rebuild, redraw_grids
from .results import make_gif, plot_losses, plot_quality, plot_scores, show_grid
from .runs import HISTORY_COLUMNS, Run, load_generator, save_state
from .trainer import Trainer, draw, measure_speed, seeded
from .training import RECIPES, rate_factor

DEFAULT_MINUTES = 5.0
GRID_FACES = 64
RESCUES = 3
BUSY = 0.85
VARIETY_PICTURES = 512
ASK_EVERY = 16
JUDGED = 256
JUDGED_KIMG = 20
JUDGED_SIDE = 128


def plan_steps(config: TrainConfig, make_trainer: Callable[[], Trainer], progress: bool) -> tuple[int, dict]:
    """How many steps the run takes, and how that number came about."""
    if config.kimg is not None:
        return steps_of(config.kimg, config.batch_size), {"from": "kimg"}
    minutes = config.minutes or DEFAULT_MINUTES
    return timed_steps(make_trainer(), minutes, minutes, 0, progress)


def timed_steps(trainer: Trainer, minutes: float, whole: float, done: int, progress: bool) -> tuple[int, dict]:
    """How many steps the run takes in all, if it trains `minutes` more after `done` steps, `whole` minutes in all."""
    rate = measure_speed(trainer, progress=progress)
    steps = done + max(MIN_STEPS, round(minutes * 60 * rate / trainer.config.batch_size))
    length = {"from": "minutes", "minutes": whole, "images_per_second": round(rate, 1)}
    return trainer.world.agreed(lambda: (steps, length))


@contextmanager
def interruptible(patient: bool = False) -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event that the loop looks at between two steps.

    A second Ctrl-C interrupts at once, unless `patient`. Outside the main thread signals are left alone.
    """
    stop = threading.Event()

    def on_signal(number, frame):
        if stop.is_set() and not patient:
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

    A run of this name that was stopped goes on, and ends with the same bytes as if it had not been. A finished one is
    given as it is, and what is missing of its files written again; with other settings it is set aside as NAME-previous
    first; with `extend` it goes on to a greater length.

    Args:
        progress: print progress bars and what happens.
        show: show the sample grid now and then, and the curves at the end (for notebooks).

    Raises:
        ToonGANError: a setting, the data or a folder is not usable, another process trains this run, or memory is
            short; says what to do.
    """
    try:
        return run_training(config, progress, show)
    except (MemoryError, RuntimeError) as error:
        if (problem := out_of_memory(error, config)) is not None:
            raise problem from error
        raise


def run_training(config: TrainConfig, progress: bool, show: bool) -> Run:
    device = distributed.local_device(hardware.choose_device(config.device))
    hardware.be_deterministic(device, config.deterministic)
    hardware.keep_memory()
    datasets.find(config.dataset)
    run = Run.named(config.run)
    with distributed.join(device) as world, ExitStack() as lock:
        check_share(config, world)
        progress, show = progress and world.leads, show and world.leads
        world.agreed(lambda: lock.enter_context(run.locked()))
        saved = world.agreed(lambda: find_beginning(config, run, progress))
        if saved is not None and saved["done"] == saved["steps"] and not extends(config, saved):
            if world.leads:
                show_finished(config, run, saved, progress, show)
            return run
        return Session(config, run, device, saved, progress, show, world).go()


def check_share(config: TrainConfig, world: World) -> None:
    if config.batch_size % world.size or config.batch_size < 2 * world.size:
        raise ToonGANError(
            f"is {config.batch_size} for all {world.size} processes together, which share it evenly; "
            f"try {64 * world.size}.",
            "batch_size",
        )


class Session:
    """One call of `train`: a trainer, the run's files, and what has happened so far.

    Args:
        saved: a checkpoint to go on from.
        world: the ranks that train together; only the one that leads writes.

    Attributes:
        done: steps behind us.
        history: the rows of `history.csv`.
        pending: what the device gathered since the last row, still on the device.
    """

    def __init__(
        self,
        config: TrainConfig,
        run: Run,
        device: torch.device,
        saved: dict | None,
        progress: bool,
        show: bool,
        world: World = World(),
    ):
        self.run, self.device, self.progress, self.show, self.say = run, device, progress, show, teller(progress)
        self.world = world
        self.precision = hardware.choose_precision(config.precision, device)
        self.data = self.open_data(config, saved)
        if saved is not None:
            config = dataclasses.replace(config, base_channels=saved["settings"]["base_channels"])
        rows, images = torch.from_numpy(self.split.training), place(self.data.images, device)

        def make_trainer() -> Trainer:
            return Trainer(config, images, device, self.precision, world, rows)

        self.machine = (f"{world.size} × " if world.size > 1 else "") + hardware.describe(device)
        self.say(f"Training {run.name} on {self.machine}, {self.precision}, {config.recipe} recipe")
        if saved is None:
            wall, used = time.perf_counter(), time.thread_time()
            self.steps, self.length = plan_steps(config, make_trainer, progress)
            # Of the one thread that is never without work: how busy the others are depends on their number.
            self.say_plan(config, (time.thread_time() - used) / (time.perf_counter() - wall))
            if world.leads:
                self.set_aside(config)
            self.rows, self.grids, self.extensions = row_steps(self.steps), grid_steps(self.steps), []
        else:
            if extends(config, saved):
                saved = self.extend(config, saved, make_trainer)
            self.steps, self.length = saved["steps"], saved["length"]
            self.rows, self.grids, self.extensions = rows_of(saved), grids_of(saved), saved.get("extensions", [])
        self.trainer = make_trainer()
        self.config = dataclasses.replace(config, base_channels=self.trainer.base_channels)
        self.mirror = None
        if config.mirror is not None and world.leads:
            self.mirror = mirror.Mirror(mirror_folder(config), self.say)
        self.fixed = torch.randn(GRID_FACES, config.latent_dim, generator=seeded(config.seed, "sample grid"))
        self.to_record = set(self.rows)
        self.to_show = set(self.grids[:: max(1, len(self.grids) // 4)][1:]) if show else set()
        self.data_look = doctor.look(self.some_data())
        self.history, self.pending, self.findings = [], [], []
        self.done = self.rescues = 0
        self.seconds, self.variety_share = 0.0, None
        self.best: dict | None = None
        self.judged, self.quality = 0.0, None
        if saved is not None:
            self.restore(saved)
            self.say(f"Going on after {self.done:,} of {self.steps:,} steps.")
            if world.leads:
                redraw_grids(run, saved, self.say)

    def open_data(self, config: TrainConfig, saved: dict | None) -> PackedDataset:
        """The pictures to train on and to judge by: the same on every rank, the same as before, and enough of them."""
        data = datasets.prepare(DataConfig(config.dataset, config.count, config.image_size), progress=self.progress)
        if data.fingerprint != self.world.agreed(lambda: data.fingerprint):
            raise ToonGANError(
                f"The pictures of {data.meta['dataset']} on this machine are not those on the first one; "
                "copy its data folder here."
            )
        if saved is not None and saved["fingerprint"] != data.fingerprint:
            raise ToonGANError(
                f"The pictures of {data.meta['dataset']} are not those that {self.run.name} was begun with "
                f"(fingerprint {saved['fingerprint'][:12]}, now {data.fingerprint[:12]}). "
                "Bring the earlier ones back, or begin anew with --restart."
            )
        self.split = split(data.hashes, None if saved is None else saved.get("held_out", True))
        left = len(self.split.training)
        if config.batch_size > left:
            raise ToonGANError(
                f"is {config.batch_size}, more than the {left} pictures to train on ({len(data) - left} "
                "are held back to judge by); try 32.",
                "batch_size",
            )
        return data

    def extend(self, config: TrainConfig, saved: dict, make_trainer: Callable[[], Trainer]) -> dict:
        """The plan of a checkpoint made longer, once the run as it was has been copied."""
        done, batch = saved["done"], config.batch_size
        if config.kimg is not None:
            steps, length = steps_of(config.kimg, batch), {"from": "kimg"}
        else:
            more = config.minutes - saved["seconds"] / 60
            steps, length = timed_steps(make_trainer(), more, config.minutes, done, self.progress)
        longer = {**extended(saved, steps), "length": length}
        if self.world.leads:
            if lacks(self.run, saved):
                rebuild(self.run, saved, self.say)
            previous = self.run.keep_copy()
            recipe = RECIPES[config.recipe]
            first, last = (rate_factor(step, steps, recipe.final_rate, recipe.warmup) for step in (done, steps))
            self.say(
                f"Going on from {done * batch / 1000:g} to {steps * batch / 1000:g} thousand images. "
                + (
                    f"The learning rate goes on at {first:.0%} of its peak and falls to {last:.0%} by the end. "
                    if first != last
                    else "The learning rate stays as it is. "
                )
                + f"The run as it was is kept as {display(previous)}; to repeat exactly: --extend --kimg {steps * batch / 1000!r}"
            )
        return longer

    def say_plan(self, config: TrainConfig, share: float) -> None:
        """How long the run will be; on the CPU also what makes it slow: no GPU, or running only a `share` of the time."""
        speed = self.length.get("images_per_second")
        self.say(
            f"{self.steps:,} steps of {config.batch_size} images"
            + (f" at {speed:,.0f} images a second" if speed else "")
            + f"; to repeat exactly: --kimg {self.steps * config.batch_size / 1000!r}"
        )
        if self.device.type == "cpu" and config.device == "auto":
            lasts = (
                f"it takes about {self.length['minutes']:g} min all the same"
                if speed
                else "the bar shows how long it takes"
            )
            self.say(f"No GPU found: {lasts}, and a GPU would see many more pictures in that time.")
        if self.device.type == "cpu" and speed and share < BUSY:
            self.say(
                f"Other programs keep this machine busy: training has to wait {1 - share:.0%} of the time. Close them, or begin "
                "anew with OMP_NUM_THREADS=1 set: one thread need not wait for others."
            )

    def some_data(self) -> np.ndarray:
        return np.asarray(self.data.images[evenly(np.arange(len(self.data)), VARIETY_PICTURES)])

    def set_aside(self, config: TrainConfig) -> None:
        previous = self.run.set_aside()
        if previous:
            self.say(f"The earlier run of this name is now {display(previous)}")
        if config.mirror is not None:
            mirror.set_aside(mirror_folder(config), self.say)

    # --- the loop -------------------------------------------------------------------------

    def go(self) -> Run:
        batch = self.config.batch_size
        self.bar = tqdm(
            total=self.steps * batch,
            initial=self.done * batch,
            desc="Training",
            unit=" images",
            unit_scale=True,
            file=sys.stdout,
            disable=not self.progress,
            mininterval=2.0 if self.show else 0.5,
        )
        with interruptible(patient=self.world.size > 1) as stop, self.bar, closing(self):
            if self.done == 0 or self.extensions and self.extensions[-1]["at"] == self.done:
                self.checkpoint()
            self.mark = self.last_save = time.perf_counter()
            while self.done < self.steps and not self.stopped(stop):
                if self.done in self.grids:
                    self.milestone()
                self.pending.append(self.trainer.step(self.done, self.steps))
                self.done += 1
                self.bar.update(batch)
                if self.done in self.to_record:
                    self.record()
                if time.perf_counter() - self.last_save >= self.config.save_seconds:
                    self.checkpoint()
            self.end()
            if self.mirror is not None:
                self.mirror.finish()
        if self.world.leads:
            finish(self.run, self.show)
        if self.progress:
            report(self.run, self.done, self.steps)
        return self.run

    def stopped(self, stop: threading.Event) -> bool:
        """Whether to stop before the next step. Ranks ask one another only now and then: each time, all wait for the slowest."""
        if self.world.size > 1 and self.done % ASK_EVERY:
            return False
        return self.world.any(stop.is_set())

    def close(self) -> None:
        """End the threads that fetch pictures and copy checkpoints."""
        self.trainer.stream.close()
        if self.mirror is not None:
            self.mirror.close()

    def milestone(self) -> None:
        """Draw the sample grid, judge it, and write `G.pth`, `D.pth` and the history."""
        if not self.world.leads:
            return
        number = self.grids.index(self.done)
        samples = self.save_grid(number)
        if self.done in self.to_show:
            self.bar.clear()
            show_grid(self.run.grid_path(number), f"after {self.done * self.config.batch_size:,} images")
        if self.done:
            self.judge(samples)
            self.export()

    def end(self) -> None:
        """Leave everything as it is now, finished or interrupted."""
        if not self.world.leads:
            return
        drawn = sum(number < self.done for number in self.grids)
        samples = self.save_grid(drawn if self.done < self.steps else len(self.grids) - 1)
        if self.done == self.steps:
            self.judge(samples)
        self.checkpoint()
        self.export()

    # --- what is kept ---------------------------------------------------------------------

    def state(self) -> dict:
        return {
            "settings": {**settings_of(self.config), "device": self.device.type, "precision": self.precision},
            "steps": self.steps,
            "rows": self.rows,
            "grids": self.grids,
            "extensions": self.extensions,
            "length": self.length,
            "fingerprint": self.data.fingerprint,
            "held_out": self.split.record(self.data.identity),
            "info": describe_run(self),
            "done": self.done,
            "seconds": self.seconds,
            "history": [[row[name] for name in HISTORY_COLUMNS] for row in self.history],
            "pending": torch.stack(self.pending).cpu() if self.pending else torch.empty(0, 4),
            "fixed": self.fixed,
            "findings": self.findings,
            "rescues": self.rescues,
            "variety_share": self.variety_share,
            "best": self.best,
            "judged": self.judged,
            "trainer": self.trainer.state(),
        }

    def restore(self, saved: dict) -> None:
        self.done, self.seconds, self.rescues = saved["done"], saved["seconds"], saved["rescues"]
        self.history = [dict(zip(HISTORY_COLUMNS, row, strict=True)) for row in saved["history"]]
        self.pending = list(saved["pending"].to(self.device))
        self.findings, self.best, self.fixed = saved["findings"], saved["best"], saved["fixed"]
        self.variety_share, self.judged = saved["variety_share"], saved["judged"]
        self.trainer.restore(saved["trainer"], self.done)

    def checkpoint(self) -> None:
        """Save everything, unless it is sick: then `record` will find that out, and go back."""
        if self.world.leads and self.trainer.is_finite():
            data = checkpoints.save(self.run.checkpoints, self.state())
            if self.mirror is not None:
                self.mirror.put(self.done, data)
        self.last_save = time.perf_counter()

    def export(self) -> None:
        """Write `G.pth`, `D.pth`, `history.csv` and `run.json`."""
        info = describe_run(self)
        self.run.save(self.trainer.generator, self.trainer.D, self.history, info)

    def save_grid(self, number: int) -> np.ndarray:
        samples, path = draw(self.trainer.generator, self.fixed), self.run.grid_path(number)
        with atomic_write(path) as part:
            save_picture(Image.fromarray(tile(samples)), part)
            data = part.read_bytes()
        if self.mirror is not None:
            self.mirror.put_grid(number, self.done, data)
        return samples

    # --- watching over it -----------------------------------------------------------------

    def record(self) -> None:
        """Read what the device gathered since the last row, the only wait in the loop; go back if it is no number any more."""
        means = torch.stack(self.pending).cpu().double().mean(0).tolist()
        self.pending = []
        now = time.perf_counter()
        self.seconds, self.mark = self.seconds + now - self.mark, now
        if self.world.any(not all(map(math.isfinite, means)) or not self.trainer.is_finite()):
            self.rescue()
            return
        kimg = self.done * self.config.batch_size / 1000
        row = [self.done, round(kimg, 3), round(self.seconds, 3), *(round(value, 6) for value in means), None]
        self.history.append(dict(zip(HISTORY_COLUMNS, row, strict=True)))
        self.bar.set_postfix_str(f"real {means[2]:.2f} fake {means[3]:.2f}", refresh=False)
        self.tell(doctor.diagnose(self.history, self.variety_share))

    def judge(self, samples: np.ndarray) -> None:
        """Compare samples with the data: does G repeat itself, and is this the best so far?"""
        if self.done > self.steps / 4:  # before that, fog
            self.variety_share = doctor.variety(doctor.look(samples)) / max(doctor.variety(self.data_look), 1e-9)
        kimg = self.done * self.config.batch_size / 1000
        # Ten times a run at most, and never in one too short to have faces.
        wait = max(JUDGED_KIMG, self.steps * self.config.batch_size / 10_000)
        if kimg - self.judged < wait and not (self.done == self.steps and kimg >= JUDGED_KIMG):
            return
        self.judged, distance = kimg, round(self.measure(), 3)
        self.history[-1]["distance"] = distance
        if self.best is None or distance < self.best["distance"]:
            digest = save_state(self.run.best_path, self.trainer.generator)
            self.best = {"step": self.done, "distance": distance, "floor": round(self.floor, 3), "sha256": digest}
            data = checkpoints.save_best(self.run.checkpoints, self.state())
            if self.mirror is not None:
                self.mirror.put_best(self.done, data)

    def measure(self) -> float:
        """How far G's pictures are from those held back: a Fréchet distance on few and small pictures."""
        if self.quality is None:
            from .metrics import QuickDistance  # its libraries take a while to load

            held_out, training = (
                np.asarray(self.data.images[evenly(rows, JUDGED)])
                for rows in (self.split.held_out, self.split.training)
            )
            self.quality = QuickDistance(held_out, self.device, JUDGED_SIDE)
            self.floor = self.quality.distance(training)
        latent = torch.randn(JUDGED, self.config.latent_dim, generator=seeded(self.config.seed, "judge"))
        return self.quality.distance(draw(self.trainer.generator, latent))

    def tell(self, finding: doctor.Finding | None) -> None:
        """Say what the doctor found, once."""
        if finding is not None and finding.name not in self.findings:
            self.findings.append(finding.name)
            self.say(f"After {self.history[-1]['kimg']:g} thousand images: {finding.text}")

    def rescue(self) -> None:
        """Back to the last good checkpoint with half the learning rate; three times at most."""
        step, rescues = self.done, self.rescues + 1
        if rescues > RESCUES:
            raise ToonGANError(
                f"The loss is no longer a number after step {step:,}, for the {rescues}th time. Whatever was saved "
                "before is kept; train again with --precision fp32, or another --seed."
            )
        scale = self.trainer.rate_scale
        self.restore(self.world.agreed(lambda: checkpoints.load(self.run.checkpoints, self.say)))
        self.rescues, self.trainer.rate_scale = rescues, min(scale, self.trainer.rate_scale) / 2
        self.bar.update(self.done * self.config.batch_size - self.bar.n)
        self.say(
            f"The loss is no longer a number after step {step:,}: back to step {self.done:,} with half the learning "
            f"rate ({rescues} of at most {RESCUES} times)."
        )
        self.checkpoint()


def describe_run(session: Session) -> dict:
    """What `run.json` records of a run, as far as it has come."""
    config = session.config
    return {
        "run": config.run,
        "settings": {**settings_of(config), "precision": session.precision, "device": session.device.type},
        "seed": config.seed,
        "steps": session.steps,
        "grids": session.grids,
        "extensions": session.extensions,
        "length": session.length,
        "data": {
            "dataset": config.dataset,
            "count": len(session.data),
            "trained_on": len(session.split.training),
            "held_out": session.split.record(session.data.identity),
            "fingerprint": session.data.fingerprint,
        },
        "device": session.machine,
        "processes": session.world.size,
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
        "done": session.done,
        "kimg": session.done * config.batch_size / 1000,
        "finished": session.done == session.steps,
        "seconds": round(session.seconds, 1),
        "findings": session.findings,
        "rescues": session.rescues,
        "best": session.best,
    }


@cache
def versions() -> dict[str, str]:
    """Of everything that a run's bytes depend on."""
    return {
        "python": platform.python_version(),
        "toongan": __import__("toongan").__version__,
        **{name: version(name) for name in ("torch", "numpy", "pillow")},
        **avatars.versions(),
    }


def show_finished(config: TrainConfig, run: Run, saved: dict, progress: bool, show: bool) -> Run:
    """Give a finished run as if it had just ended, and write again what is missing or damaged."""
    say = teller(progress)
    if "trainer" in saved:  # else only its other files are left, and whole
        if missing := lacks(run, saved):
            say(f"Missing or damaged: {', '.join(missing[:4])}{' …' if len(missing) > 4 else ''}.")
            if all(name.startswith("samples-") for name in missing):
                redraw_grids(run, saved, say)
            else:
                rebuild(run, saved, say)
        if config.mirror is not None:
            catch_up(mirror_folder(config), run, saved, say)
    finish(run, show)
    if progress:
        info = run.info()
        report(run, info["done"], info["steps"])
    return run


def catch_up(folder: Path, run: Run, saved: dict, say: Callable[[str], None]) -> None:
    """Give a mirror the end of a run, where it failed before or is a new one."""
    held = mirror.copies(folder)
    if held and held[0].name == f"checkpoint-{saved['done']:09d}.pt":
        return
    copier = mirror.Mirror(folder, say)
    with closing(copier):
        for number, step in enumerate(grids_of(saved)):
            if run.grid_path(number).is_file():
                copier.put_grid(number, step, run.grid_path(number).read_bytes())
        if (run.checkpoints / checkpoints.BEST).is_file():
            copier.put_best(saved["best"]["step"], (run.checkpoints / checkpoints.BEST).read_bytes())
        copier.put(saved["done"], (run.checkpoints / checkpoints.LAST).read_bytes())
        copier.finish()


def finish(run: Run, show: bool = False) -> None:
    """Draw the curves and the film of a run from its files."""
    plot_losses(run, show=show)
    plot_scores(run, show=show)
    plot_quality(run, show=show)
    if run.grids:
        make_gif(run)
    if show and run.grids:
        show_grid(run.grids[-1], "at the end")


def report(run: Run, done: int, steps: int) -> None:
    """Say how the run ended, and name its files."""
    info = run.info()
    if done < steps:
        print(f"Stopped after {done:,} of {steps:,} steps. Everything is saved: the same command goes on from there.")
    rate = done * info["settings"]["batch_size"] / max(info["seconds"], 1e-9)
    print(f"{info['kimg']:g} thousand images in {info['seconds'] / 60:.1f} minutes, {rate:,.0f} a second")
    grids = run.grids
    print("Files:")
    for path in run.files():
        if path not in grids:
            print(f"  {display(path)}")
    if grids:
        print(f"  {display(grids[0])} ... {grids[-1].name}: {len(grids)} sample grids")


def generate(config: GenerateConfig) -> Path:
    """Draw `config.count` new faces with a run's generator into one picture; gives its path.

    Raises:
        ToonGANError: the run has no usable generator, or the picture cannot be written.
    """
    check_place(config.out)
    generator = load_generator(find_run(config.run).generator_path)
    columns = math.ceil(math.sqrt(config.count))
    check_side(config, columns, generator.image_size)
    latent = torch.randn(config.count, generator.latent_dim, generator=seeded(config.seed, "generate"))
    try:
        sheet = tile(draw(generator, latent), columns)
        with atomic_write(config.out) as part:
            save_picture(Image.fromarray(sheet), part)
    except (MemoryError, RuntimeError) as error:
        if (sentence := out_of_memory(error, config)) is None:
            raise
        raise sentence from error
    return config.out
