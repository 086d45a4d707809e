"""The loop to compare with: that of PyTorch's DCGAN example, with our nets, which have its layers.

fp32 in the default memory layout, Adam at 2e-4 with β1 = 0.5, PNG files decoded by an `ImageFolder` behind a `DataLoader`
with two workers, two backward passes for D, and everything it logs read with `.item()` in every step.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import nn

from toongan.models import Discriminator, Generator, init_weights

BATCH_SIZE = 128


def images(folder: Path, batch_size: int, image_size: int = 64) -> Iterator[torch.Tensor]:
    """Endless batches `(batch_size, 3, H, W)` in [-1, 1] from a folder with one folder of images in it."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    resize = [transforms.Resize(image_size), transforms.CenterCrop(image_size)]
    transform = transforms.Compose([*resize, transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)])
    loader = DataLoader(
        ImageFolder(folder, transform), batch_size, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True
    )
    while True:
        for real, _ in loader:
            yield real


def nets(device: torch.device, image_size: int = 64, base_channels: int = 64) -> tuple[Generator, Discriminator]:
    """Both players, as they start."""
    G = init_weights(Generator(image_size, base_channels=base_channels)).to(device)
    return G, init_weights(Discriminator(image_size, base_channels=base_channels)).to(device)


def train(
    batches: Iterable[torch.Tensor], device: torch.device, G: Generator, D: Discriminator
) -> Iterator[dict[str, float]]:
    """Steps of the loop; yields what it logs after each, under the names of `history.csv`."""
    adam_g, adam_d = (torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (G, D))
    criterion = nn.BCEWithLogitsLoss()
    for real in batches:
        real = real.to(device)
        ones, zeros = torch.ones(len(real), device=device), torch.zeros(len(real), device=device)

        D.zero_grad()
        real_logits = D(real)
        loss_real = criterion(real_logits, ones)
        loss_real.backward()
        real_score = real_logits.sigmoid().mean().item()
        fake = G(torch.randn(len(real), 100, device=device))
        fake_logits = D(fake.detach())
        loss_fake = criterion(fake_logits, zeros)
        loss_fake.backward()
        fake_score = fake_logits.sigmoid().mean().item()
        adam_d.step()

        G.zero_grad()
        judged = D(fake)
        loss_g = criterion(judged, ones)
        loss_g.backward()
        fake_score_after = judged.sigmoid().mean().item()
        adam_g.step()
        yield {
            "loss_d": (loss_real + loss_fake).item(),
            "loss_g": loss_g.item(),
            "real_score": real_score,
            "fake_score": fake_score,
            "fake_score_after": fake_score_after,
        }
