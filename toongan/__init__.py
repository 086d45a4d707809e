"""A notebook series that teaches a DCGAN to draw cartoon faces.

The lessons, exported from the chapters: `data`, `models`, `training`, `results`, `metrics`, `variants`, `conditional`.
Plain modules, which any other may import: `config`, `presets`, `errors`, `paths`, and `features`.
Folders, each of which imports only those before it: `system`; `datasets` and `devices`; `runs`; `evaluation`;
`sharing`. Then `cli`.
"""

from importlib import import_module

from . import _moved  # noqa: F401  lets earlier import paths work

__version__ = "0.1.0"

_EXPORTS = {
    "DataConfig": "config",
    "Discriminator": "models",
    "EvaluateConfig": "config",
    "GenerateConfig": "config",
    "Generator": "models",
    "PackedDataset": "datasets.packed",
    "Run": "runs.files",
    "ToonGANError": "errors",
    "TrainConfig": "config",
    "evaluate": "evaluation.measure",
    "find_run": "runs.rebuild",
    "generate": "runs.generate",
    "load_discriminator": "runs.state_dicts",
    "load_generator": "runs.state_dicts",
    "prepare": "datasets.catalogue",
    "preset": "presets",
    "train": "runs.training_loop",
}
__all__ = list(_EXPORTS)


def __getattr__(name: str):
    """Import on first use, so that the workers that draw avatars never load torch."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_EXPORTS[name]}", __name__), name)


def __dir__() -> list[str]:
    """The names that a notebook offers for completion."""
    return sorted([*globals(), *__all__])
