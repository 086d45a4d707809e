"""A run from beginning to end: open the data, plan, build, loop (draw, step, record, save), end."""

import math
import sys
import time
from contextlib import ExitStack, closing
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from ..config import TrainConfig
from ..datasets import find
from ..devices import Machine
from ..errors import ToonGANError, explaining_memory
from ..paths import HISTORY_COLUMNS, display
from ..results import show_grid
from ..system.interrupts import interruptible
from ..system.terminal import teller
from . import checkpoints, doctor, mirror
from .asking import asked_of
from .ending import end, end_again, report
from .feeding import open_data, place
from .files import Run
from .judge import Judge
from .length import longer, planned
from .plan import Plan
from .rebuild import redraw_grids
from .record import decided, kind_of, record_of, settings_on
from .resume import extends, find_beginning
from .start import begun_with, settled
from .trainer import Trainer, draw
from .writer import Writer

GRID_FACES = 64
RESCUES = 3
ASK_EVERY = 16


def train(config: TrainConfig, progress: bool = True, show: bool = False) -> Run:
    """Train both nets as `config` says; writes the run's files and returns the run.

    A stopped run of this name continues, and ends with the same bytes as if it had never stopped. A finished one is
    returned as it is, after missing files are written again; if its settings differ, it is first set aside as
    NAME-previous; with `extend` it is trained further.

    Args:
        progress: print progress bars and messages.
        show: show the sample grid now and then, and the curves at the end (for notebooks).

    Raises:
        ToonGANError: a setting, the data or a folder is not usable, another process trains this run, or memory is
            short; says what to do.
    """
    with explaining_memory(config), Machine.joined(config) as machine, ExitStack() as lock:
        return run_training(config, machine, lock, progress and machine.world.leads, show and machine.world.leads)


def run_training(config: TrainConfig, machine: Machine, lock: ExitStack, progress: bool, show: bool) -> Run:
    world, run = machine.world, Run.named(config.run)
    find(config.dataset)
    world.agreed(lambda: lock.enter_context(run.locked()))
    saved = world.agreed(lambda: find_beginning(config, run, progress))
    if saved is not None and saved["done"] == saved["steps"] and not extends(config, saved):
        if world.leads:
            end_again(config, run, saved, progress, show)
        return run
    Session(settled(config, saved), run, machine, saved, progress, show).go()
    if world.leads:
        end(run, show)
    if progress:
        report(run)
    return run


class Session:
    """One call of `train`: from where the run begins or continues to where it ends or is stopped.

    Args:
        machine: where and how to compute. Only the leading rank of its world writes.
        saved: a checkpoint to continue from.

    Attributes:
        done: the number of finished steps.
        history: the rows of `history.csv`.
        pending: the values since the last row, still on the device.
    """

    def __init__(self, config: TrainConfig, run: Run, machine: Machine, saved: dict | None, progress: bool, show: bool):
        self.run, self.machine, self.world = run, machine, machine.world
        self.progress, self.show, self.say = progress, show, teller(progress)

        # The data.
        self.data, self.split = open_data(config, self.world, saved, progress)
        images, rows = place(self.data.images, machine.device), torch.from_numpy(self.split.training)

        # The plan.
        config = self.config = decided(config, machine, saved, self.data, len(rows))
        asked = asked_of(config, self.data, self.split, saved, self.say)
        new_trainer = partial(Trainer, config, images, machine, rows, asked)
        self.say(f"Training {run.name} on {machine}, {machine.precision}, {kind_of(config)}")
        with explaining_memory(config):
            if saved is None:
                self.plan = planned(config, machine, new_trainer, progress)
            else:
                if extends(config, saved):
                    saved = longer(config, run, saved, new_trainer, self.world.leads, progress)
                self.plan = Plan.of(saved)

            # The nets, and everything that watches them.
            self.trainer = new_trainer()
        self.start = begun_with(self.trainer, saved)
        if saved is None:
            self.world.agreed(self.set_earlier_aside)
        self.judge = Judge(config, self.data, self.split, machine, self.plan.steps)
        mirrored = mirror.folder_of(config) if config.mirror is not None and self.world.leads else None
        self.write = Writer(run, mirrored, self.say, config.log != "none" and self.world.leads)
        self.fixed = self.trainer.latent_for("sample grid", GRID_FACES)
        self.history, self.pending, self.findings = [], [], []
        self.done, self.rescues, self.seconds = 0, 0, 0.0
        if saved is not None:
            self.restore(saved)
            self.say(f"Continuing after {self.done:,} of {self.plan.steps:,} steps.")
            if self.world.leads:
                redraw_grids(run, saved, self.say)

    def set_earlier_aside(self) -> None:
        """Rename an earlier run of this name, here and in the mirror."""
        if previous := self.run.set_aside():
            self.say(f"The earlier run of this name is now {display(previous)}")
        if self.config.mirror is not None:
            mirror.set_aside(mirror.folder_of(self.config), self.say)

    # --- the loop -------------------------------------------------------------------------

    def go(self) -> None:
        plan, batch = self.plan, self.config.batch_size
        to_record, to_draw = set(plan.rows), set(plan.grids)
        shown = {"desc": "Training", "unit": " images", "unit_scale": True, "mininterval": 2.0 if self.show else 0.5}
        images = {"total": plan.steps * batch, "initial": self.done * batch}
        self.bar = tqdm(**images, **shown, file=sys.stdout, disable=not self.progress)
        memory = explaining_memory(self.config)
        with memory, interruptible(patient=self.world.size > 1) as stop, self.bar, closing(self):
            if self.done == 0 or plan.extensions and plan.extensions[-1]["at"] == self.done:
                self.save()
            self.mark = self.last_save = time.perf_counter()
            while self.done < plan.steps and not self.stopped(stop.is_set()):
                if self.done in to_draw:
                    self.draw()
                self.pending.append(self.trainer.step(self.done, plan.steps))
                self.done += 1
                self.bar.update(batch)
                if self.done in to_record:
                    self.record()
                if time.perf_counter() - self.last_save >= self.config.save_seconds:
                    self.save()
            self.end()

    def stopped(self, asked: bool) -> bool:
        """Whether to stop before the next step. Ranks check only now and then: each time, all wait for the slowest."""
        if self.world.size > 1 and self.done % ASK_EVERY:
            return False
        return self.world.any(asked)

    def draw(self) -> None:
        """Draw the sample grid, judge it, and write `G.pth`, `D.pth` and the history."""
        if not self.world.leads:
            return
        number = self.plan.grids.index(self.done)
        samples = self.draw_grid(number)
        if self.show and number and number % max(1, len(self.plan.grids) // 4) == 0:
            self.bar.clear()
            show_grid(self.run.grid_path(number), f"after {self.done * self.config.batch_size:,} images")
        if self.done:
            self.judge_samples(samples)
            self.export()

    def record(self) -> None:
        """Read the values since the last row, the only wait in the loop; go back if they are not numbers any more."""
        means = torch.stack(self.pending).cpu().double().mean(0).tolist()
        self.pending = []
        now = time.perf_counter()
        self.seconds, self.mark = self.seconds + now - self.mark, now
        if self.world.any(not all(map(math.isfinite, means)) or not self.trainer.is_finite()):
            self.rescue()
            return
        row = [self.done, round(self.kimg, 3), round(self.seconds, 3), *(round(value, 6) for value in means), None]
        self.history.append(dict(zip(HISTORY_COLUMNS, row, strict=True)))
        self.bar.set_postfix_str(f"real {means[2]:.2f} fake {means[3]:.2f}", refresh=False)
        finding = doctor.diagnose(self.history, self.judge.variety_share, self.judge.weave_excess)
        if finding is not None and finding.name not in self.findings:
            self.findings.append(finding.name)
            self.say(f"After {self.history[-1]['kimg']:g} thousand images: {finding.text}")

    def save(self) -> None:
        """Save everything, unless a weight is not a number; then `record` will notice and go back."""
        if self.world.leads and self.trainer.is_finite():
            self.write.checkpoint(self.state())
        self.last_save = time.perf_counter()

    def end(self) -> None:
        """Write everything as it is now, finished or interrupted."""
        if not self.world.leads:
            return
        samples = self.draw_grid(sum(step < self.done for step in self.plan.grids))
        if self.done == self.plan.steps:
            self.judge_samples(samples)
        self.save()
        self.export()
        self.write.finish()

    # --- what the loop calls --------------------------------------------------------------

    @property
    def kimg(self) -> float:
        """Thousand images seen."""
        return self.done * self.config.batch_size / 1000

    def draw_grid(self, number: int) -> np.ndarray:
        samples = draw(self.trainer.generator, self.fixed)
        self.write.grid(number, self.done, samples)
        return samples

    def judge_samples(self, samples: np.ndarray) -> None:
        """Check whether G repeats itself, and whether this is the best generator so far."""
        if self.done > self.plan.steps / 4:  # earlier, it is fog
            self.judge.look(samples)
        if not self.judge.is_due(self.kimg):
            return
        distance = self.judge.measure(self.trainer.generator, self.kimg)
        self.history[-1]["distance"] = distance
        if self.judge.is_best(distance):
            self.judge.keep(self.done, distance, self.write.best_generator(self.trainer.generator))
            self.write.best_checkpoint(self.state())

    def export(self) -> None:
        """Write `G.pth`, `D.pth`, `history.csv` and `run.json`."""
        self.run.save(self.trainer.generator, self.trainer.D, self.history, self.info())
        self.write.curves(self.history, self.plan, self.config.batch_size)

    def rescue(self) -> None:
        """Go back to the last good checkpoint with half the learning rate; three times at most."""
        step, rescues = self.done, self.rescues + 1
        if rescues > RESCUES:
            raise ToonGANError(
                f"The loss is no longer a number after step {step:,}, for the {rescues}th time. Everything saved "
                "before is kept; train again with --precision fp32 or another --seed."
            )
        scale = self.trainer.rate_scale
        self.restore(self.world.agreed(lambda: checkpoints.load(self.run.checkpoints, self.say)))
        self.rescues, self.trainer.rate_scale = rescues, min(scale, self.trainer.rate_scale) / 2
        self.bar.update(self.done * self.config.batch_size - self.bar.n)
        self.say(
            f"The loss is no longer a number after step {step:,}: back to step {self.done:,} with half the learning "
            f"rate ({rescues} of at most {RESCUES} times)."
        )
        self.save()

    # --- what is kept ----------------------------------------------------------------------

    def info(self) -> dict:
        """What `run.json` says."""
        return record_of(self.config, self.machine, self.data, self.split, self.plan, self)

    def state(self) -> dict:
        """A checkpoint: everything that decides how the run continues."""
        return {
            "settings": settings_on(self.config, self.machine),
            **self.plan.state(),
            "fingerprint": self.data.fingerprint,
            "held_out": self.split.record(self.data.identity),
            "info": self.info(),
            "done": self.done,
            "seconds": self.seconds,
            "history": [[row[name] for name in HISTORY_COLUMNS] for row in self.history],
            "pending": torch.stack(self.pending).cpu() if self.pending else torch.empty(0, 4),
            "fixed": self.fixed,
            "findings": self.findings,
            "rescues": self.rescues,
            **self.judge.state(),
            "trainer": self.trainer.state(),
        }

    def restore(self, saved: dict) -> None:
        self.done, self.seconds, self.rescues = saved["done"], saved["seconds"], saved["rescues"]
        self.history = [dict(zip(HISTORY_COLUMNS, row, strict=True)) for row in saved["history"]]
        self.pending = list(saved["pending"].to(self.machine.device))
        self.findings, self.fixed = saved["findings"], saved["fixed"]
        self.judge.restore(saved)
        self.trainer.restore(saved["trainer"], self.done)

    def close(self) -> None:
        """Stop the threads that fetch images and copy checkpoints."""
        self.trainer.stream.close()
        self.write.close()
