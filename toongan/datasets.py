"""Data sets by name: `avatars`, `avatars:STYLE`."""

import json
import sys
import time
from importlib.metadata import version

from tqdm import tqdm

from . import avatars
from .config import DataConfig
from .errors import ToonGANError
from .packed import PackedDataset, open_packed, write_packed
from .paths import data_folder, display

KNOWN = "avatars, or avatars:STYLE as in avatars:adventurer"


def parse_name(dataset: str) -> str:
    """The avatar style that `dataset` names.

    Raises:
        ToonGANError: no such data set, or no such style.
    """
    source, _, style = dataset.partition(":")
    if source != "avatars" or dataset.endswith(":"):
        raise ToonGANError(f"{dataset!r} is not known; use {KNOWN}.", "dataset")
    style = style or avatars.DEFAULT_STYLE
    avatars.load_style(style)
    return style


def prepare(config: DataConfig, progress: bool = True) -> PackedDataset:
    """The data set that `config` describes, drawn if it is not there yet.

    A larger packed copy serves a smaller count: avatar i is the same drawing in both.

    Raises:
        ToonGANError: unknown name or style, or the folder cannot be written.
    """
    style = parse_name(config.dataset)
    folder = data_folder(f"avatars-{style}") / f"{config.image_size}px"
    if packed_count(folder, config.image_size) < config.count:
        draw_avatars(style, config.count, config.image_size, folder, progress)
    return open_packed(folder, config.count)


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("dicebear-core", "dicebear-styles", "resvg_py")}


def packed_count(folder, image_size: int) -> int:
    """Pictures in a packed copy that today's artwork would draw the same; 0 if there is none."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        same = meta["drawn_with"] == versions() and meta["image_size"] == image_size
        return int(meta["count"]) if same and (folder / "images.npy").exists() else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def draw_avatars(style: str, count: int, image_size: int, folder, progress: bool) -> None:
    bar = tqdm(
        total=count,
        desc=f"Drawing {style}",
        unit=" faces",
        file=sys.stdout,
        disable=not progress,
        mininterval=0.5,
    )

    def pictures():
        for number, (pixels, labels) in enumerate(avatars.draw_many(style, count, image_size)):
            bar.update()
            yield pixels, f"{style}-{number}", labels

    start = time.perf_counter()
    with bar:
        meta = {"dataset": f"avatars:{style}", "credit": avatars.credit(style), "drawn_with": versions()}
        write_packed(folder, count, image_size, pictures(), meta)
    if progress:
        rate = count / (time.perf_counter() - start)
        print(f"{count:,} faces in {display(folder)} ({rate:,.0f} a second)", flush=True)
