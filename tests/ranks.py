"""What tests start with torchrun: `ranks.py replicas FOLDER`, or `ranks.py dies STEP train ...`."""

import hashlib
import os
import signal
import sys
from pathlib import Path

import torch
from conftest import TINY

import toongan
from toongan import cli
from toongan.conditional import Attributes
from toongan.devices import Machine, distributed
from toongan.runs import feeding, trainer
from toongan.runs.asking import Asked


def replicas(folder: str) -> None:
    """Train a few steps; each rank writes which images it saw, and its weights."""
    cpu = torch.device("cpu")
    with distributed.join(cpu) as world:
        images = torch.randint(0, 256, (128, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        kinds = torch.arange(128).view(-1, 1) % 3
        asked = Asked(Attributes({"kind": ["a", "b", "c"]}, kinds), kinds)
        for name, recipe, asks in (
            ("classic", "classic", None),
            ("modern", "modern", None),
            ("asked", "modern", asked),
        ):
            config = toongan.TrainConfig(recipe=recipe, **TINY)
            team = trainer.Trainer(config, images, Machine(cpu, world=world), asked=asks)
            seen, wished, feed, alternate = [], [], team.stream, team.alternate
            team.stream = (seen.append(batch) or batch for batch in feed)
            team.alternate = lambda real, latent: wished.append(latent[:, 100:]) or alternate(real, latent)
            for number in range(8):
                team.step(number, 8)
            if asks:
                for rows, wishes in zip(seen, wished, strict=True):
                    assert torch.equal(wishes.argmax(1, keepdim=True), kinds[rows]), (
                        "each rank has the wishes of its share"
                    )
            weights = {key: value.data for net in (team.G, team.D) for key, value in net.named_parameters()}
            shown = [image for batch in seen for image in feeding.images_of(images, batch)]
            digests = [hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in shown]
            torch.save({"weights": weights, "images": digests}, Path(folder) / f"{name}-{world.rank}.pt")
            feed.close()


def dies(step: str, *arguments: str) -> None:
    """The command line, but the last rank is killed after a step, the first time it is started."""
    step_of = trainer.Trainer.step

    def fatal(self, number, steps):
        if number == int(step) and self.world.rank == self.world.size - 1 and not distributed.restarted():
            os.kill(os.getpid(), signal.SIGKILL)
        return step_of(self, number, steps)

    trainer.Trainer.step = fatal
    cli.main(list(arguments))


if __name__ == "__main__":
    {"replicas": replicas, "dies": dies}[sys.argv[1]](*sys.argv[2:])
