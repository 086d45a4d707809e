"""Runs by name: the first one, those that ship, those for a GPU. `python -m toongan train --preset NAME`, and `make`, take them from here."""

from .config import TrainConfig, check_choice

# As they were trained: on a CPU.
SHIPPED = {"device": "cpu", "precision": "fp32"}
# Name of the run, and what differs from the defaults of `TrainConfig`.
PRESETS = {
    # make faces: five minutes on any machine
    "quickstart": {"minutes": 5.0},
    # the bundled runs
    "avatars-64": {"base_channels": 24, "kimg": 3200.0, **SHIPPED, "precision": "bf16"},
    "avatars-128": {"image_size": 128, "base_channels": 16, "kimg": 600.0, **SHIPPED},
    "adventurer-64": {"dataset": "avatars:adventurer", "base_channels": 16, "kimg": 1300.0, **SHIPPED},
    "on-request-64": {"ask": "all", "base_channels": 24, "kimg": 1150.0, **SHIPPED, "precision": "bf16"},
    # make gpu: one GPU
    "gpu-64": {"minutes": 10.0},
    "gpu-128": {"image_size": 128, "minutes": 10.0},
    # 25 epochs over as many images as the anime faces on Kaggle have
    "gpu-anime": {"count": 63_565, "kimg": 1589.0},
    # torchrun: eight GPUs of one machine
    "eight-gpus": {"batch_size": 1024, "minutes": 30.0},
}
LENGTHS = {"kimg", "minutes"}


def preset(name: str, **changes) -> TrainConfig:
    """The settings of a named run, some of them changed.

    Raises:
        ToonGANError: no such name, or a setting that is not usable.
    """
    settings = {"run": name, **PRESETS[check_choice(name, "preset", tuple(PRESETS))]}
    return TrainConfig(**without(settings, set(changes)), **changes)


def without(settings: dict, given: set[str]) -> dict:
    """Settings of a preset that are not given otherwise. A length is, by minutes or by images."""
    if given & LENGTHS:
        given = given | LENGTHS
    return {name: value for name, value in settings.items() if name not in given}
