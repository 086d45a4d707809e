"""The step of chapter 03."""

import pytest
import torch
from conftest import DEVICES

from toongan.models import Discriminator, Generator, init_weights
from toongan.training import NonSaturating, Relativistic, rate_factor, train_step, update_average


def players(device="cpu", rate=1e-3):
    G = init_weights(Generator(32, 10, 4)).to(device)
    D = init_weights(Discriminator(32, 4)).to(device)
    adams = [torch.optim.Adam(net.parameters(), rate, (0.5, 0.999)) for net in (G, D)]
    return G, D, *adams


@pytest.mark.parametrize("loss", [NonSaturating, Relativistic])
def test_losses_fall_for_the_winner(loss):
    high, low = torch.full((4,), 2.0), torch.full((4,), -2.0)
    assert loss.discriminator(high, low) < loss.discriminator(low, high)
    assert loss.generator(high, high) < loss.generator(high, low)


def test_non_saturating_is_goodfellows():
    real, fake = torch.randn(8), torch.randn(8)
    expected = -(real.sigmoid().log().mean() + (1 - fake.sigmoid()).log().mean())
    torch.testing.assert_close(NonSaturating.discriminator(real, fake), expected)
    torch.testing.assert_close(NonSaturating.generator(real, fake), -fake.sigmoid().log().mean())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("loss", [NonSaturating, Relativistic])
def test_step_moves_both_nets_and_reports(loss, device):
    torch.manual_seed(0)
    G, D, optimizer_g, optimizer_d = players(device)
    before = [p.detach().clone() for net in (G, D) for p in net.parameters()]
    real = torch.rand(8, 3, 32, 32, device=device) * 2 - 1
    values = train_step(G, D, optimizer_g, optimizer_d, loss, real, torch.randn(8, 10, device=device))
    assert values.shape == (4,) and values.isfinite().all() and not values.requires_grad
    assert 0 < values[2] < 1 and 0 < values[3] < 1
    moved = [not torch.equal(a, p) for a, p in zip(before, [*G.parameters(), *D.parameters()], strict=True)]
    assert all(moved)
    assert all(p.requires_grad for p in D.parameters())


def test_steps_teach_the_discriminator():
    """Against a generator that stands still, D learns to tell real from fake."""
    torch.manual_seed(0)
    G, D, _, optimizer_d = players()
    still = torch.optim.SGD(G.parameters(), lr=0.0)
    real = torch.rand(32, 3, 32, 32) * 0.2 + 0.7
    for _ in range(30):
        values = train_step(G, D, still, optimizer_d, NonSaturating, real, torch.randn(32, 10))
    assert values[2] > 0.9 and values[3] < 0.1


def test_rate_warms_up_and_falls():
    rates = [rate_factor(step, 1000, final=0.1, warmup=50) for step in range(1000)]
    assert rates[0] < 0.05 and max(rates) > 0.98
    assert abs(rates[-1] - 0.1) < 0.01
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rate_factor(0, 1000, final=1.0, warmup=0) == rate_factor(999, 1000, final=1.0, warmup=0) == 1.0


def test_average_follows_the_net():
    net, average = init_weights(Generator(32, 10, 4)), init_weights(Generator(32, 10, 4))
    gap = (net.main[0].weight - average.main[0].weight).abs().mean()
    update_average(average, net, step=20)  # a half-life of one step
    closer = (net.main[0].weight - average.main[0].weight).abs().mean()
    torch.testing.assert_close(closer, gap / 2)
