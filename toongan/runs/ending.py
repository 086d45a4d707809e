"""The end of a run: draw its curves and its film, and list its files. Asking for a finished run does this again."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ..config import TrainConfig
from ..errors import to_continue
from ..paths import display
from ..results import make_gif, plot_losses, plot_quality, plot_scores, show_grid
from ..system.terminal import teller
from . import checkpoints, mirror
from .files import Run
from .plan import grids_of
from .rebuild import lacks, rebuild, redraw_grids


def end(run: Run, show: bool) -> None:
    """Draw the curves and the film of a run from its files."""
    plot_losses(run, show=show)
    plot_scores(run, show=show)
    plot_quality(run, show=show)
    if run.grids:
        make_gif(run)
    if show and run.grids:
        show_grid(run.grids[-1], "at the end")


def report(run: Run) -> None:
    """Print how a run ended, and list its files."""
    info, grids = run.info(), run.grids
    done, steps = info["done"], info["steps"]
    if done < steps:
        again = to_continue("run the same command again to continue", info["settings"].get("restart", False))
        print(f"Stopped after {done:,} of {steps:,} steps. Everything is saved; {again}.")
    rate = done * info["settings"]["batch_size"] / max(info["seconds"], 1e-9)
    print(f"{info['kimg']:g} thousand images in {info['seconds'] / 60:.1f} minutes, {rate:,.0f} a second")
    print("Files:")
    for path in run.files():
        if path not in grids:
            print(f"  {display(path)}")
    if grids:
        print(f"  {display(grids[0])} ... {grids[-1].name}: {len(grids)} sample grids")


def end_again(config: TrainConfig, run: Run, saved: dict, progress: bool, show: bool) -> None:
    """End a finished run once more, after writing missing or damaged files again."""
    say = teller(progress)
    if "trainer" in saved:  # otherwise only its other files are left, and they are whole
        if missing := lacks(run, saved):
            say(f"Missing or damaged: {', '.join(missing[:4])}{' …' if len(missing) > 4 else ''}.")
            if all(name.startswith("samples-") for name in missing):
                redraw_grids(run, saved, say)
            else:
                rebuild(run, saved, say)
        if config.mirror is not None:
            catch_up(mirror.folder_of(config), run, saved, say)
    end(run, show)
    if progress:
        report(run)


def catch_up(folder: Path, run: Run, saved: dict, say: Callable[[str], None]) -> None:
    """Copy the end of a run to a mirror that is new, or failed before."""
    held = mirror.copies(folder)
    if held and mirror.step_of(held[0]) == saved["done"]:
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
