"""Training speed against a textbook loop with the same nets, side by side: `python -m benchmarks.training_step`.

The textbook loop is fp32 in the default memory layout, decodes PNG files in an `ImageFolder`, and calls `.item()` every
step. Both sides run in turn, several rounds; the table gives medians and the median of the ratios round by round.
"""

import argparse
import statistics
import tempfile
import time
from itertools import cycle, islice, repeat
from pathlib import Path

import toongan
import torch
from PIL import Image
from toongan import engine, hardware
from toongan.feeding import place
from toongan.models import Discriminator, Generator, init_weights
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder


def textbook(folder: Path, base_channels: int, batch_size: int, device: torch.device):
    """Endless steps of a plain DCGAN loop; yields after each."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])
    loader = DataLoader(
        ImageFolder(folder, transform), batch_size, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True
    )
    G = init_weights(Generator(64, base_channels=base_channels)).to(device)
    D = init_weights(Discriminator(64, base_channels=base_channels)).to(device)
    adam_g, adam_d = (torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (G, D))
    criterion = nn.BCEWithLogitsLoss()
    ones, zeros = torch.ones(batch_size, device=device), torch.zeros(batch_size, device=device)
    while True:
        for real, _ in loader:
            D.zero_grad()
            loss_real = criterion(D(real.to(device)), ones)
            loss_real.backward()
            fake = G(torch.randn(batch_size, 100, device=device))
            loss_fake = criterion(D(fake.detach()), zeros)
            loss_fake.backward()
            adam_d.step()
            G.zero_grad()
            loss_g = criterion(D(fake), ones)
            loss_g.backward()
            adam_g.step()
            yield loss_real.item() + loss_fake.item() + loss_g.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base-channels", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--pictures", type=int, default=4096)
    options = parser.parse_args()

    device = hardware.choose_device()
    precision = hardware.choose_precision("auto", device)
    data = toongan.prepare(toongan.DataConfig("avatars", count=options.pictures))
    sides = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "faces").mkdir()
        for number, pixels in enumerate(data.images):
            Image.fromarray(pixels).save(Path(folder) / "faces" / f"{number:05d}.png")
        sides["textbook"] = textbook(Path(folder), options.base_channels, options.batch_size, device)
        images = place(data.images, device)
        for recipe in ("classic", "modern"):
            config = toongan.TrainConfig(
                recipe=recipe, base_channels=options.base_channels, batch_size=options.batch_size
            )
            trainer = engine.Trainer(config, images, device, precision)
            sides[recipe] = map(trainer.step, cycle(range(10_000)), repeat(10_000))
        speeds = {name: [] for name in sides}
        for steps in sides.values():
            list(islice(steps, 3))
        for _ in range(options.rounds):
            for name, steps in sides.items():
                speeds[name].append(measure(steps, options, device))

    print(f"{hardware.describe(device)}, {precision}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}")
    print(f"64 px, {options.base_channels} base channels, batch {options.batch_size}, {options.rounds} rounds")
    print("| loop | images/s | ratio |\n|---|---|---|")
    for name, values in speeds.items():
        ratio = statistics.median(a / b for a, b in zip(values, speeds["textbook"], strict=True))
        print(f"| {name} | {statistics.median(values):,.0f} | {ratio:.2f} |")


def measure(steps, options, device: torch.device) -> float:
    hardware.synchronize(device)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < options.seconds:
        next(steps)
        done += 1
        if done % 10 == 0:
            hardware.synchronize(device)
    hardware.synchronize(device)
    return done * options.batch_size / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
