"""Runs: everything around the training step of chapter 03."""

import dataclasses
import math
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from . import avatars, checkpoints, datasets, distributed, doctor, hardware, mirror
from .config import DataConfig, GenerateConfig, TrainConfig
from .data import tile
from .distributed import World
from .errors import ToonGANError, out_of_memory
from .feeding import place
from .holdout import evenly, held_out_rows, training_rows
from .marked import check_place, check_side, save_picture
from .packed import PackedDataset
from .paths import atomic_write, display
from .results import make_gif, plot_losses, plot_quality, plot_scores, show_grid
from .runs import HISTORY_COLUMNS, Run, find_run, load_generator, save_state
from .trainer import Trainer, draw, measure_speed, seeded

DEFAULT_MINUTES = 5.0
GRIDS = 20
GRID_FACES = 64
HISTORY_ROWS = 200
MIN_STEPS = 20
RESCUES = 3
BUSY = 0.85
VARIETY_PICTURES = 512
ASK_EVERY = 16
JUDGED = 256
JUDGED_KIMG = 20
JUDGED_SIDE = 128
# Settings that may differ when a run goes on: they do not change what it computes, or are checked on their own.
FREE_SETTINGS = ("run", "restart", "save_seconds", "mirror", "minutes", "kimg", "device", "precision")


def plan_steps(config: TrainConfig, make_trainer: Callable[[], Trainer], progress: bool) -> tuple[int, dict]:
    """How many steps the run takes, and how that number came about."""
    if config.kimg is not None:
        return steps_of(config.kimg, config.batch_size), {"from": "kimg"}
    minutes = config.minutes or DEFAULT_MINUTES
    trainer = make_trainer()
    rate = measure_speed(trainer, progress=progress)
    steps = max(MIN_STEPS, round(minutes * 60 * rate / config.batch_size))
    length = {"from": "minutes", "minutes": minutes, "images_per_second": round(rate, 1)}
    return trainer.world.agreed(lambda: (steps, length))


def steps_of(kimg: float, batch_size: int) -> int:
    return max(MIN_STEPS, round(kimg * 1000 / batch_size))


def row_steps(steps: int) -> list[int]:
    """Steps after which `history.csv` gets a row: `HISTORY_ROWS` equal parts, or every step of a short run."""
    rows = min(steps, HISTORY_ROWS)
    return [round(steps * i / rows) for i in range(1, rows + 1)]


def grid_steps(steps: int) -> list[int]:
    """Steps before which a sample grid is drawn: dense at first, when most changes, and always where a row ends."""
    ends = [0, *row_steps(steps)]
    return sorted({ends[math.ceil((len(ends) - 1) * (i / (GRIDS - 1)) ** 2)] for i in range(GRIDS)})


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
    given as it is; with other settings it is set aside as NAME-previous first.

    Args:
        progress: print progress bars and what happens.
        show: show the sample grid now and then, and the curves at the end (for notebooks).

    Raises:
        ToonGANError: a setting, the data or a folder is not usable; says what to do.
    """
    device = distributed.local_device(hardware.choose_device(config.device))
    hardware.be_deterministic(device, config.deterministic)
    hardware.keep_memory()
    datasets.find(config.dataset)
    run = Run.named(config.run)
    with distributed.join(device) as world:
        check_share(config, world)
        progress, show = progress and world.leads, show and world.leads
        saved = world.agreed(lambda: find_beginning(config, run, teller(progress)))
        if saved is not None and saved["done"] == saved["steps"]:
            if world.leads:
                show_finished(run, progress, show)
            return run
        return Session(config, run, device, saved, progress, show, world).go()


def check_share(config: TrainConfig, world: World) -> None:
    if config.batch_size % world.size or config.batch_size < 2 * world.size:
        raise ToonGANError(
            f"is {config.batch_size} for all {world.size} processes together, which share it evenly; "
            f"try {64 * world.size}.",
            "batch_size",
        )


def find_beginning(config: TrainConfig, run: Run, say: Callable[[str], None]) -> dict | None:
    """The checkpoint to go on from, or that of the finished run to give as it is; None to begin anew.

    Raises:
        ToonGANError: it was made with other settings.
    """
    run.make()
    if config.restart and not distributed.restarted():
        return None
    saved = find_checkpoint(config, run, say)
    if saved is not None and saved["done"] == saved["steps"]:
        if changes(config, saved) or not run.generator_path.is_file():
            return None
        say(f"{run.name} is finished already: --restart trains it anew, another --run keeps both.")
    if saved is not None and (changed := changes(config, saved)):
        raise ToonGANError(
            f"{run.name} was begun with other settings: {'; '.join(changed)}. Give the same ones to go on with it, "
            "another --run to keep both, or --restart to begin anew."
        )
    return saved


def teller(progress: bool) -> Callable[[str], None]:
    """Prints a line without tearing a progress bar, or keeps quiet."""
    return (lambda text: tqdm.write(text, file=sys.stdout)) if progress else (lambda text: None)


def find_checkpoint(config: TrainConfig, run: Run, say: Callable[[str], None]) -> dict | None:
    """The newest usable checkpoint of a run, from its folder or else from the mirror."""
    saved = checkpoints.load(run.checkpoints, say)
    if saved is None and config.mirror is not None:
        saved = mirror.newest(mirror_folder(config), say)
        if saved is not None:
            say(f"Found {run.name} in the mirror, after {saved['done']:,} of {saved['steps']:,} steps.")
    return saved


def mirror_folder(config: TrainConfig) -> Path:
    return Path(config.mirror).expanduser() / config.run


def settings_of(config: TrainConfig) -> dict:
    """A configuration as plain values, for `run.json` and checkpoints."""
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in dataclasses.asdict(config).items()
    }


def changes(config: TrainConfig, saved: dict) -> list[str]:
    """In which settings `config` differs from those that a checkpoint was made with, in words."""
    before, now = saved["settings"], settings_of(config)
    found = []
    for name, value in now.items():
        automatic = name == "base_channels" and value is None
        if name not in FREE_SETTINGS and not automatic and value != before[name]:
            found.append(f"--{name.replace('_', '-')} was {before[name]} and is now {value}")
    if config.kimg is not None and steps_of(config.kimg, config.batch_size) != saved["steps"]:
        found.append(f"--kimg was {saved['steps'] * before['batch_size'] / 1000:g} and is now {config.kimg:g}")
    if config.minutes is not None and config.minutes != saved["length"].get("minutes"):
        found.append(f"--minutes was {saved['length'].get('minutes')} and is now {config.minutes:g}")
    return found


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
        rows, images = torch.from_numpy(training_rows(len(self.data))), place(self.data.images, device)

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
        else:
            self.steps, self.length = saved["steps"], saved["length"]
        self.trainer = make_trainer()
        self.config = dataclasses.replace(config, base_channels=self.trainer.base_channels)
        self.mirror = None
        if config.mirror is not None and world.leads:
            self.mirror = mirror.Mirror(mirror_folder(config), self.say)
        self.fixed = torch.randn(GRID_FACES, config.latent_dim, generator=seeded(config.seed, "sample grid"))
        self.to_record, self.to_draw = set(row_steps(self.steps)), grid_steps(self.steps)
        self.to_show = set(self.to_draw[:: len(self.to_draw) // 4][1:]) if show else set()
        self.data_look = doctor.look(self.some_data())
        self.history, self.pending, self.findings = [], [], []
        self.done = self.rescues = 0
        self.seconds, self.variety_share = 0.0, None
        self.best: dict | None = None
        self.judged, self.quality = 0.0, None
        if saved is not None:
            self.restore(saved)
            self.say(f"Going on after {self.done:,} of {self.steps:,} steps.")

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
        left = len(training_rows(len(data)))
        if config.batch_size > left:
            raise ToonGANError(
                f"is {config.batch_size}, more than the {left} pictures to train on ({len(data) - left} "
                "are held back to judge by); try 32.",
                "batch_size",
            )
        return data

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
            if self.done == 0:
                self.checkpoint()
            self.mark = self.last_save = time.perf_counter()
            while self.done < self.steps and not self.stopped(stop):
                if self.done in self.to_draw:
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
        number = self.to_draw.index(self.done)
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
        drawn = sum(number < self.done for number in self.to_draw)
        samples = self.save_grid(drawn if self.done < self.steps else len(self.to_draw) - 1)
        if self.done == self.steps:
            self.judge(samples)
        self.checkpoint()
        self.export()

    # --- what is kept ---------------------------------------------------------------------

    def state(self) -> dict:
        return {
            "settings": {**settings_of(self.config), "device": self.device.type, "precision": self.precision},
            "steps": self.steps,
            "length": self.length,
            "fingerprint": self.data.fingerprint,
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
        samples = draw(self.trainer.generator, self.fixed)
        with atomic_write(self.run.grid_path(number)) as part:
            Image.fromarray(tile(samples)).save(part)
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
            self.best = {"step": self.done, "distance": distance, "floor": round(self.floor, 3)}
            checkpoints.save_best(self.run.checkpoints, self.state())
            save_state(self.run.best_path, self.trainer.generator)

    def measure(self) -> float:
        """How far G's pictures are from those held back: a Fréchet distance on few and small pictures."""
        if self.quality is None:
            from .metrics import QuickDistance  # its libraries take a while to load

            held_out, training = (
                np.asarray(self.data.images[evenly(rows, JUDGED)])
                for rows in (held_out_rows(len(self.data)), training_rows(len(self.data)))
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
    packages = ("torch", "numpy", "pillow")
    return {
        "run": config.run,
        "settings": {**settings_of(config), "precision": session.precision, "device": session.device.type},
        "seed": config.seed,
        "steps": session.steps,
        "length": session.length,
        "data": {
            "dataset": config.dataset,
            "count": len(session.data),
            "trained_on": len(session.trainer.rows),
            "held_out": True,
            "fingerprint": session.data.fingerprint,
        },
        "device": session.machine,
        "processes": session.world.size,
        "versions": {
            "python": platform.python_version(),
            "toongan": __import__("toongan").__version__,
            **{name: version(name) for name in packages},
            **avatars.versions(),
        },
        "date": time.strftime("%Y-%m-%d"),
        "done": session.done,
        "kimg": session.done * config.batch_size / 1000,
        "finished": session.done == session.steps,
        "seconds": round(session.seconds, 1),
        "findings": session.findings,
        "rescues": session.rescues,
        "best": session.best,
    }


def show_finished(run: Run, progress: bool, show: bool) -> Run:
    """Give a finished run as if it had just ended."""
    finish(run, show)
    if progress:
        info = run.info()
        report(run, info["done"], info["steps"])
    return run


def finish(run: Run, show: bool = False) -> None:
    """Draw the curves and the film of a run from its files."""
    plot_losses(run, show=show)
    plot_scores(run, show=show)
    plot_quality(run, show=show)
    make_gif(run)
    if show:
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
    print(f"  {display(grids[0])} ... {grids[-1].name}")


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
