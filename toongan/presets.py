"""Named runs, for `train --preset NAME` and for `make`: the quickstart, the bundled runs, and those for GPUs."""

from .config import TrainConfig, check_choice

# The bundled runs were trained on a CPU, without the palette of chapter 02, which is younger.
SHIPPED = {"device": "cpu", "precision": "fp32", "colours": 0, "differences": False}
# The name of each run, and the settings that differ from the defaults of `TrainConfig`.
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
    # 25 epochs over as many images as the Kaggle set anime-faces has
    "gpu-anime": {"count": 63_565, "kimg": 1589.0},
    # torchrun: eight GPUs in one machine
    "eight-gpus": {"batch_size": 1024, "minutes": 30.0},
}
LENGTHS = {"kimg", "minutes"}


def preset(name: str, **changes) -> TrainConfig:
    """The settings of a named run, with changes.

    Raises:
        ToonGANError: the name is unknown, or a setting is not usable.
    """
    settings = {"run": name, **PRESETS[check_choice(name, "preset", tuple(PRESETS))]}
    return TrainConfig(**without(settings, set(changes)), **changes)


def without(settings: dict, given: set[str]) -> dict:
    """The settings of a preset that are not given. Minutes and kimg both count as the length."""
    if given & LENGTHS:
        given = given | LENGTHS
    return {name: value for name, value in settings.items() if name not in given}
