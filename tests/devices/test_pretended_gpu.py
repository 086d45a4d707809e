"""CUDA's rules, kept by a pretended GPU: a T4 and an H100 that compute on the CPU."""

import functools
import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from conftest import TINY
from pretend_gpu import GPU_NOW, OnGPU, WrongDevice, pretended

import toongan
import toongan.evaluation.measure
from toongan.conditional import Attributes
from toongan.devices import Machine, graphs, hardware
from toongan.runs import checkpoints
from toongan.runs.asking import Asked
from toongan.runs.feeding import place
from toongan.runs.trainer import Trainer

CARDS = {"Tesla T4": (7, 5), "NVIDIA H100 80GB HBM3": (9, 0)}
PRECISION = {"Tesla T4": "fp16", "NVIDIA H100 80GB HBM3": "bf16"}
STEPS = 40
CONFIG = toongan.TrainConfig(run="r", kimg=STEPS * TINY["batch_size"] / 1000, save_seconds=0, **TINY)


def trainer_on(
    device: torch.device,
    precision: str = "fp32",
    recipe: str = "modern",
    asked: Asked | None = None,
    augment: str = "none",
    **options,
) -> Trainer:
    images = np.random.default_rng(0).integers(0, 256, (128, 32, 32, 3), np.uint8)
    machine = Machine.on(device, precision, **options)
    config = toongan.TrainConfig(recipe=recipe, augment=augment, colours=3, **TINY)
    return Trainer(config, place(images, machine.device), machine, asked=asked)


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    nets = {"G": trainer.G, "D": trainer.D, "average": trainer.average}
    return {
        f"{name} {key}": value.cpu() for name, net in nets.items() if net for key, value in net.state_dict().items()
    }


def assert_close(one: Trainer, other: Trainer, tolerance: float) -> None:
    mine, theirs = weights_of(one), weights_of(other)
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        apart = float((value.double() - theirs[name].double()).norm() / theirs[name].double().norm().clamp_min(1e-6))
        assert apart < tolerance, (name, apart)


# --- the GPU that is pretended keeps CUDA's rules -----------------------------------------------


def test_tensors_of_two_devices_do_not_mix():
    with pretended():
        there, here = torch.ones(3, device="cuda"), torch.ones(3)
        with pytest.raises(WrongDevice, match="same device"):
            there + here
        with pytest.raises(WrongDevice, match="generator"):
            torch.randn(3, device="cuda", generator=torch.Generator())
        with pytest.raises(TypeError, match="convert cuda:0"):
            there.numpy()
        assert (there + here.sum()).tolist() == [4, 4, 4], "a single number may be anywhere"
        assert (
            isinstance(there, OnGPU) and there.device == torch.device("cuda", 0) and not isinstance(there.cpu(), OnGPU)
        )


def test_waits_are_noticed():
    with pretended() as gpu:
        there = torch.ones(3).to("cuda")
        assert gpu.waits.total() == 1
        gpu.reset()
        torch.ones(3).pin_memory().to("cuda", non_blocking=True)
        assert not gpu.waits
        torch.ones(3).to("cuda", non_blocking=True)
        assert gpu.waits.total() == 1, "memory that is not pinned makes the host wait, whatever it asks for"
        there.sum().item()
        there[there > 0]
        assert gpu.waits.total() == 3


def test_a_number_that_python_baked_into_a_recording_shows():
    with pretended():
        value, factor, graph = torch.ones(3, device="cuda"), 2.0, torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            value.mul_(factor)
        assert value.tolist() == [1, 1, 1], "recorded, not computed"
        factor = 5.0
        graph.replay()
        graph.replay()
        assert value.tolist() == [4, 4, 4] and factor == 5.0


# --- training -----------------------------------------------------------------------------------


KINDS = torch.arange(128).view(-1, 1) % 3
ASKED = Asked(Attributes({"kind": ["a", "b", "c"]}, KINDS), KINDS)


@pytest.mark.parametrize(
    "precision, recipe, more",
    [
        *((precision, recipe, {}) for precision in ("fp32", "bf16", "fp16") for recipe in ("modern", "classic")),
        pytest.param("fp32", "modern", {"asked": ASKED}, id="on-request-fp32"),
        pytest.param("fp16", "modern", {"asked": ASKED, "augment": "both"}, id="on-request-augmented-fp16"),
    ],
)
def test_a_recorded_run_is_the_run_itself_and_never_waits(recipe, precision, more):
    with pretended() as gpu:
        recorded = trainer_on(torch.device("cuda", 0), precision, recipe, **more)
        plain = trainer_on(torch.device("cuda", 0), precision, recipe, **more)
        plain.graphs = False
        for trainer in (plain, recorded):
            for number in range(20):
                if number == 1:  # the first one takes its memory, and is recorded
                    gpu.reset()
                trainer.step(number, 40)
            assert not gpu.waits, gpu.waits
        assert plain.graph is None and recorded.graph is not None
        assert gpu.operations["replay"] == 19 and gpu.captured == []
        launched = gpu.launches - gpu.operations["detach"]
        assert launched <= 19 * 10, "two rates, two uploads, two copies, the graph, its losses, the average"
        assert_close(recorded, plain, 1e-6)
        if precision == "fp32":
            here = trainer_on(torch.device("cpu"), precision, recipe, **more)
            for number in range(20):
                here.step(number, 40)
            assert_close(here, plain, 1e-2)  # its rate is a number of 64 bits, a recorded one's of 32


def test_a_recorded_step_in_half_precision_skips_what_overflows(monkeypatch):
    """A scale that is far too large: steps are left out until it has fallen, recorded or not."""
    scaler = functools.partial(torch.amp.GradScaler, "cuda", init_scale=2.0**22, growth_interval=3)
    monkeypatch.setattr(Machine, "scaler", lambda self: scaler())
    with pretended():
        sides = [trainer_on(torch.device("cuda", 0), "fp16", deterministic=plain) for plain in (False, True)]
        scales = []
        for number in range(8):
            for side in sides:
                side.step(number, 40)
            scales.append([side.scaler.get_scale() for side in sides])
        assert sides[0].graph is not None and sides[1].graph is None
        assert all(one == other for one, other in scales) and scales[-1][0] < 2.0**22, scales
        assert_close(*sides, 1e-5)


@pytest.mark.parametrize("every", [37, pytest.param(1, marks=pytest.mark.soak)])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_recording_that_fails_anywhere_changes_nothing(precision, every):
    """At every operation of a step: training goes on without, and with the very numbers of a run that never recorded."""
    with pretended("NVIDIA H100 80GB HBM3", (9, 0)) as gpu:
        device = torch.device("cuda", 0)
        plain = trainer_on(device, precision, deterministic=True)
        values = [plain.step(number, 40).tolist() for number in range(3)]
        whole = trainer_on(device, precision)
        whole.step(0, 40)
        names = [name for name, *_ in whole.graph.graph.calls]
        of_optimizers = [at for at, name in enumerate(names) if "adam" in name or "amp" in name or "foreach" in name]
        for at in sorted({*range(0, len(names), every), *of_optimizers[:: 1 if precision == "fp16" else 4]}):
            gpu.fail_at, gpu.captured = at, []
            trainer = trainer_on(device, precision)
            stream = torch.cuda.current_stream()
            with pytest.warns(UserWarning, match="No CUDA graph"):
                found = [trainer.step(0, 40).tolist()]
            gpu.fail_at = None
            assert torch.cuda.current_stream() is stream and gpu.captured
            found += [trainer.step(number, 40).tolist() for number in (1, 2)]
            assert found == values, at
            assert_close(trainer, plain, 1e-6)


def test_no_other_thread_waits_while_a_step_is_recorded(monkeypatch):
    held = []
    with pretended() as gpu:
        monkeypatch.setattr(
            gpu, "keep", lambda tensor, keep=gpu.keep: (held.append(graphs.quiet.locked()), keep(tensor))
        )
        gpu.memory = 1000  # so that images are fetched by a thread
        trainer = trainer_on(torch.device("cuda", 0), "fp16")
        trainer.step(0, 10)
        assert trainer.graph is not None and held and all(held)
        trainer.stream.close()


@pytest.mark.parametrize("card, recipe", list(zip(CARDS, ["modern", "classic"])))
def test_trained_stopped_resumed_judged_and_drawn(home, few_faces, card, recipe):
    """The same files as a run that was never stopped, but for what rounding does."""
    with pretended(card, CARDS[card]):
        config = toongan.TrainConfig(**{**vars(CONFIG), "recipe": recipe})
        stop = toongan.TrainConfig(**{**vars(config), "run": "stopped"})
        whole = toongan.train(config, progress=False)
        with pytest.MonkeyPatch.context() as patch:
            step = Trainer.step

            def interrupted(self, number, steps):
                if number == 21:
                    raise KeyboardInterrupt
                return step(self, number, steps)

            patch.setattr(Trainer, "step", interrupted)
            with pytest.raises(KeyboardInterrupt):
                toongan.train(stop, progress=False)
        stopped = toongan.train(stop, progress=False)
        info = stopped.info()
        assert info["device"] == card and info["settings"]["precision"] == PRECISION[card] and info["done"] == STEPS
        toongan.evaluate(toongan.EvaluateConfig("stopped", count=8), progress=False)
        image = toongan.generate(toongan.GenerateConfig("stopped", count=4, out=home / "faces.png"))
    assert image.is_file() and json.loads((stopped.checkpoints / "metrics.json").read_text())["device"] == card
    one, other = (torch.load(run.generator_path, weights_only=True) for run in (whole, stopped))
    assert all(value.device.type == "cpu" for value in one.values())
    assert all(torch.allclose(one[name], other[name], atol=2e-3) for name in one)


MACHINES = [("cpu", "fp32"), ("cpu", "bf16"), ("cuda", "fp32"), ("cuda", "bf16"), ("cuda", "fp16")]


@pytest.mark.parametrize("later", MACHINES, ids="-".join)
@pytest.mark.parametrize("first", MACHINES, ids="-".join)
def test_a_run_goes_on_in_any_precision_and_on_any_device(first, later):
    saved = None
    for device, precision in (first, later):
        with pretended("NVIDIA H100 80GB HBM3", (9, 0)):
            trainer = trainer_on(torch.device(device), precision)
            if saved is not None:
                trainer.restore(checkpoints.decode(saved)["trainer"], 2)
            for number in range(2):
                trainer.step(number, 10)
            assert trainer.is_finite()
            saved = checkpoints.encode({"trainer": trainer.state()})


def test_a_checkpoint_of_apples_gpu_goes_on_elsewhere():
    """There Adam is not fused, and keeps its count of steps on the CPU."""
    with pretended():
        trainer = trainer_on(torch.device("cuda", 0), "fp16")
        trainer.step(0, 10)
        state = checkpoints.decode(checkpoints.encode(trainer.state()))
        for name in ("optimizer_g", "optimizer_d"):
            for group in state[name]["param_groups"]:
                group.update(fused=False, capturable=False, lr=1e-3)
        trainer.restore(state, 1)
        trainer.step(1, 10)
        assert all(each["step"].device.type == "cuda" for each in trainer.optimizer_g.state.values())


# --- the device ---------------------------------------------------------------------------------


def test_a_gpu_that_pytorch_has_left_behind(capsys):
    with pretended("Tesla P100-PCIE-16GB", (6, 0)) as gpu:
        gpu.usable = False
        assert hardware.choose_device().type == "cpu"
        said = capsys.readouterr().err
        assert "Tesla P100-PCIE-16GB, which this PyTorch cannot use (no kernel image is available" in said
        with pytest.raises(toongan.ToonGANError, match="cuda is Tesla P100.*use auto or cpu"):
            hardware.choose_device("cuda")


def test_a_second_gpu_is_mentioned(home, few_faces, capsys, monkeypatch):
    with pretended():
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        toongan.train(toongan.TrainConfig(**{**vars(CONFIG), "kimg": 0.32, "save_seconds": 60.0}))
    said = capsys.readouterr().out
    assert (
        "This machine has 2 GPUs, and this run uses one. To use all: torchrun --nproc-per-node 2 -m toongan -- " in said
    )
    assert (
        "train --run r --count 128 --image-size 32 --channels 3 --kimg 0.32 --base-channels 4 --colours 0 "
        "--differences False --batch-size 16" in said
    )


def test_training_and_judging_leave_settings_of_pytorch_as_they_were(home, few_faces, shared_home, monkeypatch):
    shutil.copytree(shared_home / "checkpoints" / "tiny", home / "checkpoints" / "tiny")
    seen = []
    before = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    with pretended():
        step = Trainer.step
        monkeypatch.setattr(
            Trainer, "step", lambda *inputs: (seen.append(torch.backends.cudnn.benchmark), step(*inputs))[1]
        )
        toongan.train(toongan.TrainConfig(**{**vars(CONFIG), "kimg": 0.32}), progress=False)
        measure = toongan.evaluation.measure.Evaluation.card
        monkeypatch.setattr(
            toongan.evaluation.measure.Evaluation, "card",
            lambda self: (seen.append(torch.are_deterministic_algorithms_enabled()), measure(self))[1],
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            toongan.evaluate(toongan.EvaluateConfig("tiny", count=8), progress=False)
    assert seen[0] is True and seen[-1] is True
    assert (torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()) == before and not GPU_NOW
