"""Settings given from a notebook: of any type, used or refused with a sentence."""

from pathlib import Path

import numpy as np
import pytest

from toongan import DataConfig, EvaluateConfig, GenerateConfig, ToonGANError, TrainConfig
from toongan.config import check_parameters


@pytest.mark.parametrize(
    "kind, values, says",
    [
        (TrainConfig, {"run": 2024}, 'run must be text in quotes, not 2024; write "2024".'),
        (TrainConfig, {"run": Path("mine")}, "run must be text in quotes, not PosixPath('mine')."),
        (TrainConfig, {"run": None}, "run must be text in quotes, not None."),
        (TrainConfig, {"kimg": "5"}, "kimg must be a number, not '5'; leave out the quotes."),
        (TrainConfig, {"kimg": True}, "kimg must be a number, not True."),
        (TrainConfig, {"kimg": 1e306}, "kimg must be 1,000,000,000 at most, not 1e+306; try 5."),
        (TrainConfig, {"kimg": 10**5000}, "kimg must be 1,000,000,000 at most, not inf; try 5."),
        (TrainConfig, {"minutes": float("nan")}, "minutes must be more than 0, not nan; try 5."),
        (TrainConfig, {"minutes": -float("inf")}, "minutes must be more than 0, not -inf; try 5."),
        (TrainConfig, {"minutes": 1e300}, "minutes must be 1,000,000 at most, not 1e+300; try 5."),
        (TrainConfig, {"minutes": 1j}, "minutes must be a number, not 1j."),
        (TrainConfig, {"save_seconds": float("nan")}, "save_seconds must be 0 or more, not nan; try 60."),
        (TrainConfig, {"save_seconds": np.inf}, "save_seconds must be 0 or more, not inf; try 60."),
        (TrainConfig, {"save_seconds": -1}, "save_seconds must be 0 or more, not -1; try 60."),
        (TrainConfig, {"save_seconds": None}, "save_seconds must be a number, not None."),
        (TrainConfig, {"image_size": "64"}, "image_size must be 32, 64, 128 or 256, not '64'; leave out the quotes."),
        (TrainConfig, {"image_size": 64.0}, "image_size must be 32, 64, 128 or 256, not 64."),
        (TrainConfig, {"image_size": np.zeros(2)}, "image_size must be 32, 64, 128 or 256, not array([0., 0.])."),
        (TrainConfig, {"seed": 1.5}, "seed must be a whole number from 0 to 9,223,372,036,854,775,807, not 1.5."),
        (TrainConfig, {"seed": 10**5000}, "not something too long to show."),
        (TrainConfig, {"base_channels": np.zeros(2)}, "base_channels must be a whole number from 4 to 512, not array"),
        (TrainConfig, {"colours": 1}, "colours must be 0, or at least 2: with one colour, every image is a single area."),
        (TrainConfig, {"colours": 65}, "colours must be a whole number from 0 to 64, not 65."),
        (TrainConfig, {"restart": "no"}, "restart must be True or False, not 'no'; leave out the quotes."),
        (TrainConfig, {"deterministic": 1}, "deterministic must be True or False, not 1."),
        (TrainConfig, {"device": None}, "device must be one of auto, cpu, cuda, mps, not None."),
        (TrainConfig, {"recipe": ["modern"]}, "recipe must be one of modern, classic, not ['modern']."),
        (TrainConfig, {"mirror": 5}, "mirror must be a path in quotes, not 5."),
        (TrainConfig, {"mirror": ""}, "mirror must be a path in quotes, not ''."),
        (TrainConfig, {"mirror": "~nobody-of-that-name/x"}, "mirror names the home folder of a user whom this machine does not know"),
        (TrainConfig, {"dataset": Path("faces")}, "dataset must be text in quotes, not PosixPath('faces')."),
        (DataConfig, {"dataset": None}, "dataset must be text in quotes, not None."),
        (DataConfig, {"dataset": "folder:a\0b"}, r"dataset contains a zero byte, which no name can: 'folder:a\x00b'."),
        (DataConfig, {"count": "all"}, "count must be a whole number from 64 to 1,000,000, not 'all'"),
        (EvaluateConfig, {"count": None}, "count must be a whole number from 8 to 2,500, not None."),
        (EvaluateConfig, {"dataset": 3}, "dataset must be text in quotes, not 3."),
        (EvaluateConfig, {"inception": None}, "inception must be True or False, not None."),
        (GenerateConfig, {"out": None}, "out must be a path in quotes, not None."),
        (GenerateConfig, {"out": b"a.png"}, "out must be a path in quotes, not b'a.png'."),
        (GenerateConfig, {"out": "a\0.png"}, "out contains a zero byte"),
        (GenerateConfig, {"out": "x" * 252 + ".png"}, "out has a file name of 256 bytes, and 255 is the limit;"),
        (GenerateConfig, {"count": list(range(10**5))}, "count must be a whole number from 1 to 10,000, not [0, 1, 2"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used(kind, values, says):
    with pytest.raises(ToonGANError) as caught:
        kind(**values)
    assert says in str(caught.value) and len(str(caught.value)) < 250


@pytest.mark.parametrize("name", ["con", "NUL", "aux.v1", "com1", "Lpt9.a.b", "prn"])
def test_a_name_that_windows_keeps_for_a_device(name):
    for kind in (TrainConfig, GenerateConfig, EvaluateConfig):
        with pytest.raises(ToonGANError, match=f"run must not be '{name}', which Windows reserves .* try 'my-{name}'"):
            kind(run=name)
    assert TrainConfig(run=f"my-{name}") and TrainConfig(run="console") and TrainConfig(run="com10")


@pytest.mark.parametrize("name", ["a.", "a ", " a", "a\n", "-a", ".a", "", "ä", "a/b", "a\\b", "c:"])
def test_a_name_that_is_not_plain(name):
    with pytest.raises(ToonGANError, match="run must be a plain name of letters, digits"):
        TrainConfig(run=name)


def test_a_name_has_room_for_what_is_made_from_it():
    with pytest.raises(ToonGANError, match="run must have at most 50 characters, not 51; shorten 'xxx"):
        TrainConfig(run="x" * 51)
    aside = TrainConfig(run="x" * 50).run + "-previous-999"
    assert GenerateConfig(run=aside) and EvaluateConfig(run=aside), "a run that was set aside can be used"
    with pytest.raises(ToonGANError, match="run must have at most 64 characters"):
        GenerateConfig(run="x" * 65)


def test_numbers_of_numpy_become_plain_ones():
    """A checkpoint holds the settings, and is read without NumPy's classes."""
    config = TrainConfig(
        run=np.str_("mine"), image_size=np.int64(32), count=np.uint16(100), kimg=np.float32(0.5),
        seed=np.uint64(2**63 - 1), save_seconds=np.int8(3), restart=np.True_, recipe=np.str_("classic"),
        batch_size=np.int32(8),
    )  # fmt: skip
    assert config == TrainConfig(
        run="mine", image_size=32, count=100, kimg=0.5, seed=2**63 - 1, save_seconds=3, restart=True, recipe="classic",
        batch_size=8,
    )  # fmt: skip
    assert {type(value).__module__ for value in vars(config).values()} == {"builtins"}


def test_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert GenerateConfig(out="~/x.PNG").out == tmp_path / "x.PNG"
    assert TrainConfig(mirror="~/copies").mirror == tmp_path / "copies" == TrainConfig(mirror=Path("~/copies")).mirror
    (tmp_path / "faces").mkdir()
    with pytest.raises(ToonGANError, match=r"it is a folder, so try '.*faces/grid\.png'"):
        GenerateConfig(out="~/faces")


def test_parameters_of_a_chapter():
    check_parameters(MINUTES=np.float64(2), IMAGE_SIZE=32, SEED=np.int64(3))
    for values, says in (
        ({"MINUTES": "5"}, "MINUTES must be a number, not '5'; leave out the quotes."),
        ({"MINUTES": 1e9}, "MINUTES must be 1,000,000 at most, not 1e\\+09; try 5."),
        ({"SEED": None}, "SEED must be a whole number from 0"),
        ({"IMAGE_SIZE": None}, "IMAGE_SIZE must be 32, 64, 128 or 256, not None."),
    ):
        with pytest.raises(ToonGANError, match=says):
            check_parameters(**values)
