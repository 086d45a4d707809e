"""Data sets by name, from their source to a packed folder."""

import dataclasses
import difflib
import hashlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from ..config import DataConfig, check_path
from ..errors import ToonGANError
from ..paths import data_folder, display, drive, home
from . import avatars
from .archives import ArchiveSource, is_archive, why_no_archive
from .avatars import AvatarsSource
from .downloads import Download
from .folders import FolderSource
from .members import UnusableArchive
from .outcomes import Form, Source
from .packed import PackedDataset, open_packed, read_meta
from .packing import MIN_IMAGES, TooFewImages, mend, only_one, pack

DEFAULT_AVATARS = 20_000
GOOGLE = "https://storage.googleapis.com/storage/v1/b/cartoonset_public_files/o/{file}?alt=media"
CARTOON_SET = {
    "title": "Cartoon Set",
    "creator": "Google",
    "source": "https://google.github.io/cartoonset/",
    "license": "CC BY 4.0",
    "license_url": "https://creativecommons.org/licenses/by/4.0/",
}
ANIME_FACES = {
    "title": "Anime Face Dataset",
    "creator": "collected from www.getchu.com by Brian Chao, on Kaggle by Spencer Churchill",
    "source": "https://www.kaggle.com/datasets/splcher/animefacedataset",
    "license": "none given: the artists hold the copyright",
    "license_url": "",
}
ANIME_NOTICE = (
    "anime-faces: these faces were collected from the web without the consent of the artists, who keep the copyright. "
    "Use them to learn, at home or in class; do not publish or sell the images or anything made from them."
)
KNOWN = (
    "avatars, avatars:STYLE, cartoonset10k, cartoonset100k, cartoon-faces, anime-faces, drive, "
    "folder:PATH, zip:PATH or tar:PATH"
)


@dataclass(frozen=True)
class DrawnSet:
    """Avatars of a style, as many as you like."""

    style: str
    endless = True

    @property
    def folder(self) -> str:
        return f"avatars-{self.style}"

    @property
    def credit(self) -> dict:
        return avatars.credit(self.style)

    def is_current(self, meta: dict, count: int | None) -> bool:
        """A larger copy serves a smaller count, if the current artwork would draw the same."""
        return meta["made_from"] == self.source(False).signature() and meta["count"] >= count

    def source(self, progress: bool) -> Source:
        return AvatarsSource(self.style)


@dataclass(frozen=True)
class OwnSet:
    """Images that are already on this machine, in a folder or an archive."""

    kind: str
    path: Path
    endless = False
    credit = {
        "title": "own images",
        "creator": "",
        "source": "",
        "license": "unknown; yours to check",
        "license_url": "",
    }

    @property
    def folder(self) -> str:
        """The digest of the whole path, since two folders of one name must not share a packed copy."""
        name = re.sub(r"[^\w.-]+", "-", self.path.name).strip("-.") or "images"
        return f"{self.kind}-{name[:40]}-{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:8]}"

    def is_current(self, meta: dict, count: int | None) -> bool:
        return not self.path.exists() or meta["made_from"] == self.source(False).signature()

    def missing(self) -> ToonGANError:
        return ToonGANError(f"{self.kind}:{self.path} is not there; check the path.", "dataset")

    def source(self, progress: bool) -> Source:
        if not self.path.exists():
            raise self.missing()
        if self.kind in ("folder", "drive"):
            if not self.path.is_dir():
                raise ToonGANError(
                    f"folder:{self.path} is a file; for an archive, use zip:PATH or tar:PATH.", "dataset"
                )
            return FolderSource(self.path)
        if self.path.is_dir():
            raise ToonGANError(f"{self.kind}:{self.path} is a folder; use folder:PATH.", "dataset")
        if not is_archive(self.path):
            raise ToonGANError(f"{self.kind}:{self.path} {why_no_archive(self.path)}", "dataset")
        return ArchiveSource(self.path)


@dataclass(frozen=True)
class RemoteSet:
    """An archive that is downloaded once, unless it is already in Google Drive."""

    name: str
    credit: dict
    address: str
    """A URL, or the Kaggle data set `OWNER/NAME`."""
    suffix: str
    images: int | None = None
    notice: str = ""
    endless = False

    @property
    def folder(self) -> str:
        return self.name

    @property
    def archive(self) -> Path:
        return data_folder("downloads") / f"{self.name}{self.suffix}"

    def is_current(self, meta: dict, count: int | None) -> bool:
        return True

    def source(self, progress: bool) -> Source:
        if self.notice:
            print(self.notice, flush=True)
        made_from = {"dataset": self.name}
        for path in self.in_drive():
            if path.exists():
                print(f"Found {path} in Google Drive; packing it into {display(data_folder(self.name))}.", flush=True)
                if path.is_dir():
                    return FolderSource(path, label_folders=False)
                return ArchiveSource(path, label_folders=False, made_from=made_from, images=self.images)
        if not self.archive.exists():
            with only_one(self.archive, progress):
                if not self.archive.exists():  # another process may have fetched it meanwhile
                    self.download(progress)
        return ArchiveSource(self.archive, label_folders=False, made_from=made_from, images=self.images)

    def check_number(self, data: PackedDataset) -> None:
        """Print a warning if a set has fewer images than it is known to have."""
        found = len(data) + sum(data.left_out.values())
        if self.images and found < self.images:
            print(
                f"{self.name} should hold {self.images:,} images, but {found:,} were found: is this copy complete?",
                flush=True,
            )

    def in_drive(self) -> list[Path]:
        names = [f"{self.name}{self.suffix}", f"{self.name}.zip", f"{self.name}.tar", self.name]
        if not self.address.startswith("http"):
            names.insert(0, f"{self.address.partition('/')[2]}.zip")
        return [place / name for place in (drive(), drive() / "data") for name in names]

    def download(self, progress: bool) -> None:
        mirror = os.environ.get("TOONGAN_MIRROR", "").rstrip("/")
        if mirror:
            if not mirror.startswith(("http://", "https://")):
                raise ToonGANError(f"TOONGAN_MIRROR must begin with http:// or https://, not {mirror!r}.")
            missing = f"put {self.archive.name} on the mirror, or unset TOONGAN_MIRROR to fetch it from its source"
            Download(f"{mirror}/{self.archive.name}", self.archive, progress, missing).run()
        elif self.address.startswith("http"):
            Download(self.address, self.archive, progress).run()
        else:
            from .kaggle import fetch

            fetch(self.address, self.archive, progress)


REMOTE = {
    one.name: one
    for one in (
        RemoteSet("cartoonset10k", CARTOON_SET, GOOGLE.format(file="cartoonset10k.tgz"), ".tgz", 10_000),
        RemoteSet("cartoonset100k", CARTOON_SET, GOOGLE.format(file="cartoonset100k.tgz"), ".tgz", 100_000),
        RemoteSet("cartoon-faces", CARTOON_SET, "brendanartley/cartoon-faces-googles-cartoon-set", ".zip"),
        RemoteSet("anime-faces", ANIME_FACES, "splcher/animefacedataset", ".zip", notice=ANIME_NOTICE),
    )
}

DataSet = DrawnSet | OwnSet | RemoteSet


def find(dataset: str) -> DataSet:
    """The data set that a name stands for. Neither downloads nor reads it.

    Raises:
        ToonGANError: there is no such data set, style, file or folder.
    """
    kind, colon, rest = dataset.partition(":")
    if kind == "avatars" and (rest or not colon):
        style = rest or avatars.DEFAULT_STYLE
        avatars.check_style(style)
        return DrawnSet(style)
    if dataset in REMOTE:
        return REMOTE[dataset]
    if kind in ("folder", "zip", "tar") and rest:
        own = OwnSet(kind, resolve(rest))
        if not own.path.exists() and not data_folder(own.folder).is_dir():  # the packed copy outlives its source
            raise own.missing()
        return own
    if kind == "drive":
        if not drive().is_dir():
            raise ToonGANError(
                f"is drive, but there is no folder {drive()}; in Colab, mount Google Drive first.", "dataset"
            )
        return OwnSet("drive", drive() / rest)
    raise ToonGANError(f"{dataset!r} is not known; {suggestion(dataset)}use {KNOWN}.", "dataset")


def same_set(one: str, other: str) -> bool:
    """Whether two names stand for the same data set, whatever the count."""
    try:
        return find(one) == find(other)
    except ToonGANError:  # a folder on another machine
        return one == other


def credit_of(dataset: str) -> dict | None:
    """Who made the images of a data set, and under which licence; None if the name is not known here."""
    try:
        return find(dataset).credit
    except ToonGANError:  # a folder on another machine
        return None


def drawn_alike(one: tuple[str, int | None], other: tuple[str, int | None]) -> bool | None:
    """Whether two names of drawn sets, each with a count, mean the same images; None if one is not a drawn set."""
    try:
        sets = [find(name) for name, _ in (one, other)]
    except ToonGANError:  # a folder on another machine
        return None
    if not all(isinstance(each, DrawnSet) for each in sets):
        return None
    counts = {count or DEFAULT_AVATARS for _, count in (one, other)}
    return sets[0] == sets[1] and len(counts) == 1


def suggestion(dataset: str) -> str:
    """What the user probably meant, in words; an empty string if we cannot tell."""
    path = resolve(dataset)
    if path.is_dir():
        return f"perhaps folder:{dataset}? Else "
    if path.is_file():
        return f"perhaps zip:{dataset} or tar:{dataset}? Else "
    names = [*REMOTE, "avatars", *(f"avatars:{style}" for style in avatars.styles())]
    known = {name.removeprefix("avatars:"): name for name in names}
    near = difflib.get_close_matches(dataset.lower().removeprefix("avatars:"), known, n=1, cutoff=0.7)
    return f"perhaps {known[near[0]]}? Else " if near else ""


def resolve(path: str) -> Path:
    """A path as given, from the working folder or from the folder that holds data/."""
    here = check_path(path, "dataset").absolute()
    there = home() / path
    return (there if not here.exists() and there.exists() else here).resolve()


def at_hand(config: DataConfig) -> bool:
    """Whether a data set is available without a download."""
    try:
        dataset = find(config.dataset)
    except ToonGANError:
        return False
    form = Form(config.image_size, config.fit, config.channels or 3, config.frames)
    return not isinstance(dataset, RemoteSet) or read_meta(data_folder(dataset.folder) / folder_name(form)) is not None


def prepare(config: DataConfig, progress: bool = True) -> PackedDataset:
    """The data set that `config` describes; it is drawn or downloaded, and packed, if it is not there yet.

    Raises:
        ToonGANError: an unknown name, too few usable images, or a full disk; says what to do.
    """
    dataset = find(config.dataset)
    if config.channels == 1:
        whole = prepare(dataclasses.replace(config, channels=None), progress)
        if whole.is_grey:
            return whole.in_grey()
    form = Form(config.image_size, config.fit, config.channels or 3, config.frames)
    folder = data_folder(dataset.folder) / folder_name(form)
    count = config.count or (DEFAULT_AVATARS if dataset.endless else None)
    mend(folder)
    pack_unless_current(dataset, config.dataset, form, folder, count, progress)
    return chosen(dataset, config, folder, count, progress)


def pack_unless_current(
    dataset: DrawnSet | RemoteSet | OwnSet, name: str, form: Form, folder: Path, count: int | None, progress: bool
) -> None:
    """Pack a data set into `folder`, unless it is there, as it should be today, and large enough."""

    def is_current() -> bool:
        meta = read_meta(folder)
        return meta is not None and dataset.is_current(meta, count)

    def look(part: Path) -> None:
        if not dataset.endless:
            from .look import FOUND, look_at  # imported late: its libraries load slowly

            (part / FOUND).unlink(missing_ok=True)  # left by an attempt that was stopped
            look_at(open_packed(part), progress)

    if is_current():
        return
    if progress and not dataset.endless and read_meta(folder) is not None:
        print(f"{name} has changed since it was packed.", flush=True)
    source, start = dataset.source(progress), time.perf_counter()
    meta = {
        "dataset": name,
        "license": dataset.credit["license"],
        "credit": dataset.credit,
        "packed": time.strftime("%Y-%m-%d"),
    }
    limit, shown = (count, dataset.style) if dataset.endless else (None, name)
    try:
        new = pack(source, folder, form, meta, limit, progress, is_current, shown, look)
    except (UnusableArchive, TooFewImages) as error:
        if isinstance(dataset, RemoteSet) and source.path == dataset.archive:
            dataset.archive.unlink(missing_ok=True)
            what = f"it is {error.what}" if isinstance(error, UnusableArchive) else error.message.rstrip(".")
            raise ToonGANError(
                f"The downloaded {dataset.archive.name} is of no use: {what}. It was deleted; "
                "run the same command to download it again."
            ) from error
        raise
    if progress and new:
        report(open_packed(folder), new, time.perf_counter() - start, not dataset.endless)
        if isinstance(dataset, RemoteSet):
            dataset.check_number(open_packed(folder))


def chosen(
    dataset: DrawnSet | RemoteSet | OwnSet, config: DataConfig, folder: Path, count: int | None, progress: bool
) -> PackedDataset:
    """Of a packed set, as many images as are asked for, near-duplicates left out if that is.

    Raises:
        ToonGANError: too few are left.
    """
    among = None
    if config.skip_alike:
        from .look import others_than_alike

        among = others_than_alike(open_packed(folder, count if dataset.endless else None))
        if len(among) < MIN_IMAGES:
            raise ToonGANError(
                f"leaves {len(among)} of {config.dataset}'s images, and {MIN_IMAGES} are needed; leave it out.",
                "skip_alike",
            )
    if count is not None:
        held = len(open_packed(folder) if among is None else among)
        if held < count and progress and config.count and not dataset.endless:
            print(f"{config.dataset} holds {held:,} images; all of them are used.", flush=True)
        count = min(count, held)
    return open_packed(folder, count, not dataset.endless, among)


def folder_name(form: Form) -> str:
    """The name of the packed copy in this form: `64px`, `128px-pad-4ch`."""
    parts = [f"{form.image_size}px"]
    if form.fit != "crop":
        parts.append(form.fit)
    if form.channels != 3:
        parts.append(f"{form.channels}ch")
    if form.frames:
        parts.append("frames")
    return "-".join(parts)


def report(data: PackedDataset, new: int, seconds: float, looked_at: bool) -> None:
    """Print what was packed, what was left out and, if the set is `looked_at`, what the look found."""
    print(
        f"Packed {new:,} in {seconds:,.0f} s, {new / seconds:,.0f} a second: {display(data.folder / 'preview.png')}",
        flush=True,
    )
    if data.meta["enlarged"]:
        size = data.meta["image_size"]
        print(f"{data.meta['enlarged']:,} images were smaller than {size} px and had to be enlarged.", flush=True)
    if data.left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in data.left_out.items())
        where = display(data.folder / "left-out.csv")
        number = sum(data.left_out.values())
        files, they = ("files", "They are") if number > 1 else ("file", "It is")
        print(f"Left out {number:,} {files}: {reasons}. {they} listed in {where}.", flush=True)
    if data.meta["channels"] == 4 and not data.meta["transparent"]:
        print("No image has a transparent pixel: --channels 3 gives the same faces faster.", flush=True)
    if looked_at:
        from .look import look_at, sentences

        for sentence in sentences(data, look_at(data)):
            print(sentence, flush=True)
