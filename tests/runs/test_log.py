"""What TensorBoard shows of a run."""

import dataclasses
import sys

import pytest
from conftest import TINY, stopping_at

import toongan
from toongan import ToonGANError, TrainConfig


def curves(run: toongan.Run) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run.checkpoints / "log"), {"scalars": 0, "images": 0})
    found.Reload()
    scalars = {name: [(event.step, event.value) for event in found.Scalars(name)] for name in found.Tags()["scalars"]}
    return {**scalars, "samples": [event.step for event in found.Images("samples")]}


def test_the_curves_of_a_stopped_run_have_no_jump(few_faces, home):
    config = TrainConfig(run="r", kimg=0.64, device="cpu", log="tensorboard", save_seconds=0, **TINY)
    with stopping_at(21):
        run = toongan.train(config, progress=False)
    before = curves(run)
    assert 0 < len(before["loss_d"]) < 40
    run = toongan.train(config, progress=False)
    found, history = curves(run), run.history()
    for name in ("loss_d", "loss_g", "real_score", "fake_score"):
        steps = [step for step, _ in found[name]]
        assert steps == sorted(set(steps)) == [round(1000 * kimg) for kimg in history["kimg"]]
        assert [value for _, value in found[name]] == pytest.approx(history[name], abs=1e-5)
    assert found["samples"] == sorted(set(found["samples"])) and len(found["samples"]) == len(run.grids)
    plain = toongan.train(dataclasses.replace(config, run="plain", log="none"), progress=False)
    assert (
        plain.generator_path.read_bytes() == run.generator_path.read_bytes()
        and not (plain.checkpoints / "log").exists()
    )


def test_without_the_package(few_faces, home, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(
        ToonGANError,
        match="tensorboard is needed for this, and not installed; first run: .* -m pip install tensorboard",
    ):
        toongan.train(TrainConfig(run="r", kimg=0.4, device="cpu", log="tensorboard", **TINY), progress=False)
