"""What a user reads when something goes wrong."""

import os

import numpy as np
import pytest
import torch

from toongan import EvaluateConfig, GenerateConfig, ToonGANError, TrainConfig
from toongan.errors import legible, out_of_memory


def caught(cause) -> Exception:
    with pytest.raises(Exception) as found:
        cause()
    return found.value


def too_large_for_torch():
    torch.empty(2**58)


def too_large_for_numpy():
    np.empty(2**58)


def too_many_processes():
    raise OSError(12, "Cannot allocate memory")


def on_a_gpu():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def in_a_library():
    raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")


@pytest.mark.parametrize(
    "cause, where",
    [
        (too_many_processes, "machine"),
        (too_large_for_torch, "machine"),
        (too_large_for_numpy, "machine"),
        (on_a_gpu, "GPU"),
        (in_a_library, "GPU"),
    ],
)
def test_out_of_memory_names_half(monkeypatch, cause, where):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    error = caught(cause)
    assert str(out_of_memory(error, TrainConfig(batch_size=64))) == (
        f"batch_size 64 is too much for the memory of this {where}; try 32. A run that has begun keeps its settings, "
        "so add --restart or give another --run."
    )
    says = out_of_memory(error, GenerateConfig(count=5000)).for_command_line()
    assert says == f"--count 5000 is too much for the memory of this {where}; try 2500."
    assert str(out_of_memory(error, EvaluateConfig(count=9))).endswith("try 8.")
    assert str(out_of_memory(error, EvaluateConfig(count=8))).endswith("close other programs and try again.")
    assert isinstance(out_of_memory(error, None), ToonGANError)


def test_out_of_memory_proposes_what_all_gpus_can_share(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "6")
    assert "try 30." in str(out_of_memory(MemoryError(), TrainConfig(batch_size=66)))
    assert str(out_of_memory(MemoryError(), TrainConfig(batch_size=12))).startswith("base_channels must be lower")


def test_other_errors_are_not_about_memory():
    for error in (
        ValueError("not enough memory"),
        RuntimeError("shapes differ"),
        OSError(28, "No space left"),
    ):
        assert out_of_memory(error, TrainConfig()) is None


def test_sentences_stay_on_one_line_and_can_be_sent_to_any_page():
    name = os.fsdecode(b"a\xe9\nb\x1b[31m") + "é\u2028\ud800"
    text = str(ToonGANError(f"{name} is not there."))
    assert text == r"a\xe9\nb\x1b[31mé\u2028\ud800 is not there."
    text.encode("utf-8")
    assert legible("plain — ünïcode 漢字") == "plain — ünïcode 漢字"
