"""A step recorded as a CUDA graph."""

import pytest
import torch
from conftest import DEVICES, TINY

import toongan
from toongan.devices import Machine, hardware
from toongan.runs import trainer
from toongan.training import RECIPES


def some_trainer(device: str, recipe: str = "modern") -> trainer.Trainer:
    images = torch.randint(0, 256, (128, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    machine = Machine.on(hardware.choose_device(device), "fp32")
    return trainer.Trainer(toongan.TrainConfig(recipe=recipe, **TINY), images.to(machine.device), machine)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_recorded_step_is_the_step_itself(device, recipe):
    recorded, plain = some_trainer(device, recipe), some_trainer(device, recipe)
    plain.graphs = False
    for number in range(12):
        if number == 6:  # with other tensors and another rate than those it was recorded with
            recorded.restore(recorded.state(), number)
            recorded.rate_scale = plain.rate_scale = 0.1
        values = [trainer.step(number, 12).cpu() for trainer in (recorded, plain)]
        assert torch.allclose(*values, atol=0.05)
    assert (recorded.graph is not None) == (device == "cuda")


def test_step_that_cannot_be_recorded_is_made_all_the_same():
    wanting, plain = some_trainer("cpu"), some_trainer("cpu")
    wanting.graphs = True  # on a device that has no graphs
    with pytest.warns(UserWarning, match="No CUDA graph"):
        first = wanting.step(0, 3)
    assert torch.equal(first, plain.step(0, 3))
    assert torch.equal(wanting.step(1, 3), plain.step(1, 3))
