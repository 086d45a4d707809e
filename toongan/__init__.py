"""A notebook series that teaches a DCGAN to draw cartoon faces

Modules:

- `toongan.archives`: Zip and tar archives, read member by member, in flat memory.
- `toongan.avatars`: Cartoon faces drawn on this machine: DiceBear composes them, resvg turns them into pixels.
- `toongan.checkpoints`: Everything a run needs to go on as if it had never stopped, in one file that is whole or not used.
- `toongan.config`: Settings of the four jobs: get data, train, generate, evaluate.
- `toongan.distributed`: One run on several GPUs or machines: `torchrun --nproc-per-node N -m toongan -- train ...`, on torch.distributed.
- `toongan.features`: Features of pictures: MobileNetV2 with its ImageNet weights, which come with this package.
- `toongan.holdout`: Which pictures are kept back for judging: chosen by their own content, wherever they lie and whatever they are called.
- `toongan.kaggle_sets`: Data sets on Kaggle, through Kaggle's own client.
- `toongan.locks`: One process at a time: locks that no killed process leaves behind, on disks with locks of their own and without.
- `toongan.mirror`: A second copy of a run, made in the background: training never waits for it, nor stops for it.
- `toongan.packed`: One data set as one array on disk.
- `toongan.packing`: Turn a source into a packed folder: on all cores, in flat memory, resumable.
- `toongan.sources`: Where pictures come from: a folder, an archive, or this machine's own drawing.
- `toongan.workers`: A pool of processes that notices when one of them dies."""

from importlib import import_module

__version__ = "0.1.0"

_EXPORTS = {
    "DataConfig": "config",
    "Discriminator": "models",
    "EvaluateConfig": "config",
    "GenerateConfig": "config",
    "Generator": "models",
    "PackedDataset": "packed",
    "Run": "runs",
    "ToonGANError": "errors",
    "TrainConfig": "config",
    "evaluate": "evaluation",
    "find_run": "rebuild",
    "generate": "engine",
    "load_discriminator": "runs",
    "load_generator": "runs",
    "prepare": "datasets",
    "train": "engine",
}
__all__ = list(_EXPORTS)


def __getattr__(name: str):
    """Import on first use: the workers that draw avatars never load torch."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_EXPORTS[name]}", __name__), name)


def __dir__() -> list[str]:
    """What a notebook offers as one types."""
    return sorted([*globals(), *__all__])
