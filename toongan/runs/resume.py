"""Where a run begins: from nothing, from a checkpoint here or in the mirror, or at its end if it is finished."""

from collections.abc import Callable
from pathlib import Path

from ..config import TrainConfig, data_of
from ..datasets import catalogue as datasets
from ..devices import distributed
from ..errors import ToonGANError
from ..paths import display
from ..system.terminal import teller
from . import checkpoints, mirror
from .files import Run
from .plan import steps_of
from .rebuild import rebuild
from .record import EARLIER, settings_of

# Settings that may differ when a run continues: they do not change what it computes, or are checked separately.
FREE_SETTINGS = (
    "run", "restart", "extend", "save_seconds", "mirror", "log", "minutes", "kimg", "device", "precision",
)  # fmt: skip
# Settings that are decided if they are not given.
AUTOMATIC = ("base_channels", "batch_size", "channels", "colours", "differences")
# The settings of earlier versions that their checkpoints do not record.
UNKNOWN_TO_EARLIER = {**settings_of(TrainConfig()), **EARLIER}
# These say where the images are; the fingerprint says which images they are.
WHERE = ("dataset", "count")


def find_beginning(config: TrainConfig, run: Run, progress: bool) -> dict | None:
    """The checkpoint to continue from, which may be that of a finished run; None to start from nothing.

    Raises:
        ToonGANError: it was made with other settings.
    """
    say = teller(progress)
    run.make()
    run.sweep()
    if config.restart and not distributed.restarted():
        return None
    check_mirror(config, run)
    saved, other = find_checkpoint(config, run, say)
    if config.extend and (saved is None or "trainer" not in saved):
        raise ToonGANError(
            f"continues from a run's checkpoint, {checkpoints.LAST}, but {run.name} has none; leave it out, or use "
            "another --run.",
            "extend",
        )
    if saved is None:
        return None
    changed = changes(config, saved, progress)
    if config.extend:
        check_extension(config, run, saved, changed)
    elif saved["done"] == saved["steps"]:
        if changed:
            say(
                f"{run.name} is finished, but with other settings ({'; '.join(changed)}), so it is trained again. "
                f"To continue the earlier run instead: --run {next(run.earlier_names(taken=False)).name} --extend, "
                "with a greater --kimg or --minutes."
            )
            return None
        say(f"{run.name} is finished: --restart trains it again, another --run keeps both, --extend trains it further.")
    elif changed:
        raise ToonGANError(
            f"{run.name} was begun with other settings: {'; '.join(changed)}. Give the same settings to continue it, "
            "another --run to keep both, or --restart to start over."
        )
    if saved.pop("mirrored", False):
        if other is not None and not same_run(other, saved) and (previous := run.set_aside()):
            say(f"The run of this name on this machine has other settings; it is now {display(previous)}")
        mirror.bring_home(mirror.folder_of(config), run, saved)
        if saved["done"] == saved["steps"]:
            rebuild(run, saved, quietly)
    return saved


def quietly(text: str) -> None:
    """Print nothing."""


def check_mirror(config: TrainConfig, run: Run) -> None:
    """
    Raises:
        ToonGANError: the mirror is the folder of the run itself.
    """
    if config.mirror == Path("."):
        raise ToonGANError("is empty, or the folder that you are in; give another one, such as ./mirror.", "mirror")
    if config.mirror is not None and mirror.folder_of(config).resolve() == run.checkpoints.resolve():
        raise ToonGANError("is the folder of the run itself; give a folder on another disk.", "mirror")


def check_extension(config: TrainConfig, run: Run, saved: dict, changed: list[str]) -> None:
    """
    Raises:
        ToonGANError: the run cannot be extended like this: no length, too short a length, or other settings.
    """
    had = f"{saved['done'] * saved['settings']['batch_size'] / 1000:g} thousand images, {saved['seconds'] / 60:.1f} minutes"
    if config.kimg is None and config.minutes is None:
        raise ToonGANError(
            f"needs the length of the whole run, --kimg or --minutes; {run.name} has {had} so far.", "extend"
        )
    others = [text for text in changed if not text.startswith(("--kimg", "--minutes"))]
    if others:
        raise ToonGANError(f"continues with the same settings, but {'; '.join(others)}.", "extend")
    if not changed:  # it was already extended to this very length
        return
    too_short = config.kimg is not None and steps_of(config.kimg, saved["settings"]["batch_size"]) <= saved["done"]
    if too_short or config.minutes is not None and config.minutes * 60 <= saved["seconds"]:
        raise ToonGANError(f"needs the length of the whole run; {run.name} has {had} so far, so give more.", "extend")


def extends(config: TrainConfig, saved: dict) -> bool:
    """Whether `config` asks for more steps than a checkpoint was planned for."""
    return config.extend and bool(changes_of_length(config, saved))


def find_checkpoint(config: TrainConfig, run: Run, say: Callable[[str], None]) -> tuple[dict | None, dict | None]:
    """The most advanced usable checkpoint of a run, from its folder or the mirror, and the other one.

    One from the mirror is marked `mirrored`. A finished run whose checkpoint is lost is recognised by its other files.
    """
    mirrored = None if config.mirror is None else mirror.newest(mirror.folder_of(config), say)
    here = find_here(config, run, say, mirrored is not None)
    if mirrored is None:
        return here, None
    if here is None or goes_before(mirrored, here, config):
        say(f"Found {run.name} in the mirror, after {so_far(mirrored)}.")
        if here is not None and same_run(here, mirrored):
            say(f"It is ahead of the checkpoint here, {so_far(here)}, which stays as {checkpoints.PREVIOUS}.")
        return {**mirrored, "mirrored": True}, here
    if not same_run(mirrored, here):
        mirror.set_aside(mirror.folder_of(config), say)
    elif mirrored["done"] != here["done"]:
        say(f"The checkpoint here is ahead of the one in the mirror ({so_far(here)}, {so_far(mirrored)}) and is used.")
    return here, mirrored


def find_here(config: TrainConfig, run: Run, say: Callable[[str], None], elsewhere: bool) -> dict | None:
    """The newest usable checkpoint in the run's folder, or the state that its files record, if that is further on."""
    notes = []
    files = finished_without_checkpoint(run)
    try:
        saved = checkpoints.load(run.checkpoints, notes.append)
    except ToonGANError as error:
        if files is None and not elsewhere:
            raise
        notes.append(f"{error.message.partition('. No usable')[0]}.")
        saved = None
    if files is not None and (saved is None or saved["done"] < files["done"]):
        say(f"{checkpoints.LAST} of {run.name} is missing or damaged, but not needed: the other files are whole.")
        return files
    for note in notes:
        say(note)
    return saved


def same_run(earlier: dict, later: dict) -> bool:
    """Whether two checkpoints belong to the same run, at two moments or before and after it was made longer."""
    free = {*FREE_SETTINGS, *WHERE}
    one, other = (
        {name: value for name, value in saved["settings"].items() if name not in free} for saved in (earlier, later)
    )
    lengths = [
        {saved["steps"], *(each["from"] for each in saved.get("extensions") or [])} for saved in (earlier, later)
    ]
    return one == other and earlier["fingerprint"] == later["fingerprint"] and bool(lengths[0] & lengths[1])


def finished_without_checkpoint(run: Run) -> dict | None:
    """What the files of a finished run record, in case its checkpoint is lost; None if some are missing."""
    if set(run.unsound()) - {run.best_path.name}:  # which no run needs, and bundled runs come without
        return None
    info = run.info()
    try:
        known = {name: info[name] for name in ("settings", "steps", "length", "done", "seconds")}
        known |= {
            "fingerprint": info["data"]["fingerprint"],
            "best": info.get("best"),
            "history": run.history()["step"],
        }
    except (KeyError, TypeError, ToonGANError):
        return None
    return known if info.get("finished") else None


def goes_before(mirrored: dict, here: dict, config: TrainConfig) -> bool:
    """Whether to use a mirrored checkpoint: it fits the settings and is further on, or is the only one that fits."""
    fits = [not changes_of_settings(config, saved) for saved in (mirrored, here)]
    if fits[0] != fits[1]:
        return fits[0]
    return mirrored["done"] > here["done"]


def so_far(saved: dict) -> str:
    return f"{saved['done']:,} of {saved['steps']:,} steps"


def changes(config: TrainConfig, saved: dict, progress: bool = False) -> list[str]:
    """The differences, in words, between `config` and the settings of a checkpoint."""
    settings, where = changes_of_settings(config, saved), changes_of_place(config, saved)
    if where and not settings and has_images_of(config, saved, progress):
        where = []
    return settings + changes_of_length(config, saved) + where


def changes_of_settings(config: TrainConfig, saved: dict) -> list[str]:
    before, found = {**UNKNOWN_TO_EARLIER, **saved["settings"]}, []
    for name, value in settings_of(config).items():
        automatic = name in AUTOMATIC and value is None
        if name not in (*FREE_SETTINGS, *WHERE) and not automatic and value != before.get(name):
            found.append(f"--{name.replace('_', '-')} was {before.get(name)} and is now {value}")
    return found


def changes_of_length(config: TrainConfig, saved: dict) -> list[str]:
    found, batch = [], saved["settings"]["batch_size"]
    if config.kimg is not None and steps_of(config.kimg, batch) != saved["steps"]:
        kimg = saved["steps"] * batch / 1000
        found.append(f"--kimg was {kimg:g} and is now {config.kimg:g}")
    if config.minutes is not None and config.minutes != saved["length"].get("minutes"):
        found.append(f"--minutes was {saved['length'].get('minutes')} and is now {config.minutes:g}")
    return found


def changes_of_place(config: TrainConfig, saved: dict) -> list[str]:
    before, now = saved["settings"], settings_of(config)
    return [f"--{name} was {before[name]} and is now {now[name]}" for name in WHERE if before[name] != now[name]]


def has_images_of(config: TrainConfig, saved: dict, progress: bool) -> bool:
    """Whether `config` names the images of a checkpoint, under another name or in another place."""
    before = saved["settings"]
    alike = datasets.drawn_alike((before["dataset"], before["count"]), (config.dataset, config.count))
    if alike is not None:
        return alike
    data = datasets.prepare(
        data_of({**saved["settings"], "dataset": config.dataset, "count": config.count}), progress=progress
    )
    return data.fingerprint == saved["fingerprint"]
