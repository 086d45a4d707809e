"""The files of a run, written again from its checkpoints, which hold everything that the files are made from."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torch import nn

from ..data import tile, to_image
from ..devices import Machine
from ..errors import ToonGANError
from ..paths import HISTORY_COLUMNS, REPOSITORY, atomic_write, checkpoint_folder, display, unused
from ..system.locks import Taken
from ..system.signature import save_image
from ..training import RECIPES
from . import checkpoints
from .asking import from_plain
from .files import Run
from .plan import grids_of
from .record import EARLIER
from .state_dicts import load_state, save_state
from .trainer import draw, first_weights, freeze, make_nets


def find_run(*names: str) -> Run:
    """The first of these runs that has a generator; looks in TOONGAN_HOME, then among the bundled runs.

    If its files are missing or damaged, they are restored from its checkpoint.

    Raises:
        ToonGANError: none of the runs has one; says what to run.
    """
    for name in names:
        run = Run.named(name)
        mend(run)
        if run.generator_path.is_file():
            return run
    for name in names:
        run = Run(name, REPOSITORY / "checkpoints" / name, REPOSITORY / "generated" / name)
        if run.generator_path.is_file():
            return run
    folders = (checkpoint_folder(names[0]).parent, REPOSITORY / "checkpoints")
    others = ", ".join(sorted({path.parent.name for folder in folders for path in folder.glob("*/G.pth")}))
    raise ToonGANError(
        f"{' or '.join(names)} has no G.pth under {display(folders[0])}; "
        f"train it first: python -m toongan train --run {names[0]}"
        + (f"; or use one of these runs: {others}" if others else ""),
        "run",
    )


def mend(run: Run) -> None:
    """Restore missing or damaged files of a run, if it has a checkpoint and is not being trained."""
    if is_usable(run) or not any(run.checkpoints.glob("*.pt")):
        return
    with suppress(Taken), run.held():
        saved = None if is_usable(run) else checkpoints.load(run.checkpoints, say_aside)
        if saved is not None and saved["done"]:
            rebuild(run, saved, say_aside)


def say_aside(text: str) -> None:
    """Print on stderr, so that the output of the command stays clean."""
    print(text, file=sys.stderr, flush=True)


def is_usable(run: Run) -> bool:
    """Whether a run's files can draw and judge faces, even if the run did not write them."""
    try:
        run.info()
    except ToonGANError:
        return False
    return is_net(run.generator_path) and is_net(run.discriminator_path)


def is_net(path: Path) -> bool:
    try:
        load_state(path)
    except ToonGANError:
        return False
    return True


def lacks(run: Run, saved: dict) -> list[str]:
    """Which files of a finished run are missing, damaged, or not those of its checkpoint."""
    found = run.unsound()
    if run.best_path.name in found and best_of(run, saved) is None:
        found.remove(run.best_path.name)  # lost for good
    try:
        if len(run.history()["step"]) != len(saved["history"]):
            raise ToonGANError("cut short")
    except ToonGANError:
        found.append(run.history_path.name)
    steps, missing = grids_of(saved), missing_grids(run, saved)
    kept = {0, *(state["done"] for state in kept_states(run))} if missing else set()
    return found + [run.grid_path(number).name for number in missing if steps[number] in kept]


def best_of(run: Run, saved: dict) -> dict | None:
    """The checkpoint of the moment when samples were nearest to held-out images; None if there is none, or none is left."""
    step = (saved.get("best") or {}).get("step")
    kept = (saved, checkpoints.read(run.checkpoints / checkpoints.BEST))
    return next((state for state in kept if state is not None and state["done"] == step), None)


def rebuild(run: Run, saved: dict, say: Callable[[str], None]) -> None:
    """Write `G.pth`, `D.pth`, `G-best.pth`, `history.csv`, `run.json` and all possible grids again, from `saved`.

    Raises:
        ToonGANError: the disk is full, or the folder cannot be written to.
    """
    run.make()
    history = [dict(zip(HISTORY_COLUMNS, row, strict=True)) for row in saved["history"]]
    average, D = nets_of(saved)
    best = best_of(run, saved)
    with keeping_others(run, say):
        if best is not None:
            save_state(run.best_path, nets_of(best)[0])
        run.save(average, D, history, info_of(saved, run.name))
    say(f"Wrote {display(run.generator_path)} and the files that belong to it again, from the checkpoint.")
    redraw_grids(run, saved, say)


@contextmanager
def keeping_others(run: Run, say: Callable[[str], None]) -> Iterator[None]:
    """Keep an intact net that the run did not write under another name, since the user put it there."""
    paths = (run.generator_path, run.discriminator_path, run.best_path)
    strange = set(run.unsound())
    nobody_knows = run.info_path.name in strange
    before = {path: path.read_bytes() for path in paths if (nobody_knows or path.name in strange) and is_net(path)}
    yield
    for path, data in before.items():
        if path.read_bytes() != data:
            aside = path.with_name(unused(f"{path.stem}-other", path.parent, ending=path.suffix) + path.suffix)
            with atomic_write(aside) as part:
                part.write_bytes(data)
            say(f"{path.name} was not written by this run; it is kept as {display(aside)}.")


def nets_of(saved: dict) -> tuple[nn.Module, nn.Module]:
    """The generator to draw with and the discriminator of a checkpoint, on the CPU."""
    G, D = unfilled(saved)
    state = saved["trainer"]
    G.load_state_dict(state.get("average") or state["G"])
    D.load_state_dict(state["D"])
    return G, D


def unfilled(saved: dict) -> tuple[nn.Module, nn.Module]:
    names, settings = ("image_size", "latent_dim", "base_channels"), saved["settings"]
    plain = (saved.get("info") or {}).get("attributes")
    wishes = from_plain(plain).length if plain else 0
    kinds = {name: settings.get(name, value) for name, value in EARLIER.items()}
    G, D = make_nets(RECIPES[settings["recipe"]], *(settings[name] for name in names), wishes, **kinds)
    return G, freeze(D, settings.get("freeze", 0))


def info_of(saved: dict, name: str) -> dict:
    """The content of `run.json`, from a checkpoint."""
    if saved.get("info"):
        return {**saved["info"], "run": name}
    settings = saved["settings"]  # a checkpoint of an earlier version
    return {
        "run": name,
        "settings": settings,
        "seed": settings["seed"],
        "steps": saved["steps"],
        "length": saved["length"],
        "data": {"dataset": settings["dataset"], "held_out": True, "fingerprint": saved["fingerprint"]},
        "done": saved["done"],
        "kimg": saved["done"] * settings["batch_size"] / 1000,
        "finished": saved["done"] == saved["steps"],
        "seconds": round(saved["seconds"], 1),
        "findings": saved["findings"],
        "rescues": saved["rescues"],
        "best": saved["best"],
    }


def missing_grids(run: Run, saved: dict) -> list[int]:
    """Numbers of the sample grids that should exist by now but are missing or damaged."""
    due = [number for number, step in enumerate(grids_of(saved)) if step < saved["done"] or step == saved["steps"]]
    return [number for number in due if not is_image(run.grid_path(number))]


def kept_states(run: Run) -> list[dict]:
    """The readable checkpoints of a run."""
    names = (checkpoints.PREVIOUS, checkpoints.BEST, checkpoints.LAST)
    return list(filter(None, (checkpoints.read(run.checkpoints / name) for name in names)))


def redraw_grids(run: Run, saved: dict, say: Callable[[str], None]) -> None:
    """Draw the missing grids again that we can: the first, and those of moments that a checkpoint kept."""
    missing, steps, settings = missing_grids(run, saved), grids_of(saved), saved["settings"]
    if not missing:
        return
    at = {state["done"]: state for state in kept_states(run)}
    first = set() if settings.get("start") else {0}  # the nets of a start are not known any more
    drawn = [number for number in missing if steps[number] in first | set(at)]
    for number in missing:
        run.grid_path(number).unlink(missing_ok=True)  # a damaged one
    for number in drawn:
        if steps[number] in at:
            generator = nets_of(at[steps[number]])[0]
        else:
            generator = first_weights(lambda: unfilled(saved), settings["seed"])[0]
        generator.to(memory_format=Machine.memory_format)  # as in training: other orders round differently
        with atomic_write(run.grid_path(number)) as part:
            save_image(to_image(tile(draw(generator, saved["fixed"]))), part)
    if drawn:
        lost = len(missing) - len(drawn)
        rest = f"; no checkpoint kept the moments of the other {lost}." if lost else "."
        say(f"Drew {len(drawn)} of {len(missing)} missing sample grids again{rest}")


def is_image(path: Path) -> bool:
    """Whether an image file exists and is whole."""
    try:
        with Image.open(path) as image:
            image.load()
        return True
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError):
        return False
