"""Data sets: from a name to one packed array of images.

In: a `DataConfig`, for `avatars`, `cartoonset10k`, `folder:my-drawings` …
Out: a `PackedDataset`: the images, an index with their labels, and which of them are held out for measuring.
Imported by: `runs`, `evaluation` and the command line. It imports lessons, plain modules and `system`.
"""

from importlib import import_module

_EXPORTS = {
    "REMOTE": "catalogue",
    "at_hand": "catalogue",
    "find": "catalogue",
    "prepare": "catalogue",
    "same_set": "catalogue",
    "Split": "holdout",
    "evenly": "holdout",
    "split": "holdout",
    "PackedDataset": "packed",
    "flatness": "packed",
    "open_packed": "packed",
}
__all__ = list(_EXPORTS)


def __getattr__(name: str):
    """Import on first use, since a worker process that draws avatars needs none of these."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_EXPORTS[name]}", __name__), name)
