"""The nets of chapter 02."""

import pytest
import torch
from conftest import DEVICES
from torch import nn

from toongan.errors import ToonGANError
from toongan.models import (
    Differences,
    Discriminator,
    Generator,
    Palette,
    count_parameters,
    down_block,
    init_weights,
    up_block,
)
from toongan.runs.state_dicts import plain_state

SIZES = [32, 64, 128, 256]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("norm", ["batch", "spectral", "none"])
@pytest.mark.parametrize("smooth", [False, True])
def test_shapes_and_gradients(size, norm, smooth, device):
    G = Generator(size, latent_dim=10, base_channels=4, smooth=smooth).to(device)
    D = Discriminator(size, base_channels=4, norm=norm, smooth=smooth).to(device)
    images = G(torch.randn(3, 10, device=device))
    assert images.shape == (3, 3, size, size)
    assert images.abs().max() <= 1
    logits = D(images)
    assert logits.shape == (3,)
    logits.sum().backward()
    for name, weights in [*G.named_parameters(), *D.named_parameters()]:
        assert weights.grad is not None and weights.grad.isfinite().all(), name
    assert any(weights.grad.abs().sum() > 0 for weights in G.parameters())


@pytest.mark.parametrize("colours", [0, 5])
def test_latent_as_map_or_vector(colours):
    G = Generator(32, latent_dim=10, base_channels=4, colours=colours).eval()
    latent = torch.randn(2, 10)
    assert torch.equal(G(latent), G(latent[:, :, None, None]))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_each_pixel_is_a_mixture_of_the_colours_of_its_image(channels):
    G = init_weights(Generator(32, 10, 4, smooth=True, channels=channels, colours=5)).eval()
    latent = torch.randn(6, 10)
    maps = torch.randn(6, 5, 32, 32)
    shares = G.palette.shares(maps)
    assert shares.min() >= 0 and torch.allclose(shares.sum(1), torch.ones(6, 32, 32))
    colours = G.palette.colours(latent).view(6, 5, channels).tanh()
    assert colours[0].std(0).min() > 0.1, "which differ before any training"
    assert colours.std(0).min() > 0, "each image has its own"
    sharp = torch.full((6, 5, 32, 32), -50.0)
    sharp[:, 3] = 50
    flat = G.palette(sharp, latent)
    assert torch.allclose(flat, colours[:, 3, :, None, None].expand_as(flat))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_small_differences_in_brightness_are_magnified_and_large_ones_limited(channels):
    image = torch.full((1, channels, 8, 8), 0.25)
    assert not Differences()(image)[:, channels:].any(), "nothing in a flat area, nor at the border of the image"
    image[..., 4:] += 0.01  # faintly brighter on the right
    image[..., 6:, :] -= 1  # far darker below
    seen = Differences()(image)
    assert torch.equal(seen[:, :channels], image)
    right, below = seen[0, channels:]
    assert torch.allclose(right[:, 3], 0.1 * torch.tensor(0.64).tanh())
    assert torch.allclose(below[5], torch.tensor(-0.1))
    right[:, 3], below[5] = 0, 0
    assert not right.any() and not below.any()


def test_a_palette_ignores_a_checkerboard_in_its_maps():
    """What has a period of two pixels, upright or across, is blurred away, except at the border of the image."""
    palette = Palette(10, 5)
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    latent, flat = torch.randn(1, 10), torch.randn(1, 5, 1, 1).expand(1, 5, 32, 32)
    for pattern in (rows % 2, columns % 2, (rows + columns) % 2):
        woven = flat + torch.randn(1, 5, 1, 1) * (2.0 * pattern - 1)
        moved = palette(woven, latent) - palette(flat, latent)
        assert moved[..., 1:-1, 1:-1].abs().max() < 1e-5


@pytest.mark.parametrize("size, ups, hidden", [(32, 4, 3), (64, 5, 4), (128, 6, 5), (256, 7, 6)])
def test_one_block_a_doubling(size, ups, hidden):
    G, D = Generator(size, base_channels=4), Discriminator(size, base_channels=4)
    assert sum(isinstance(m, nn.ConvTranspose2d) for m in G.modules()) == ups
    assert sum(isinstance(m, nn.LeakyReLU) for m in D.modules()) == hidden


@pytest.mark.parametrize("size", SIZES)
def test_guidelines(size):
    """Radford et al. 2015, section 3, as a list."""
    G, D = Generator(size, base_channels=4), Discriminator(size, base_channels=4)
    names = {type(m).__name__ for net in (G, D) for m in net.modules()}
    assert not [name for name in names if "Pool" in name or "Linear" in name or "Upsample" in name]
    for conv in [m for m in G.modules() if isinstance(m, nn.ConvTranspose2d)][1:]:
        assert conv.stride == (2, 2)
    for conv in [m for m in D.modules() if isinstance(m, nn.Conv2d)][:-1]:
        assert conv.stride == (2, 2)
    assert isinstance(G.main[-1], nn.Tanh) and isinstance(G.main[-2], nn.ConvTranspose2d)
    assert isinstance(D.main[1], nn.LeakyReLU) and D.main[1].negative_slope == 0.2
    assert any(isinstance(m, nn.BatchNorm2d) for m in D.modules())
    assert all(isinstance(m, (nn.ReLU, nn.Tanh)) for m in G.modules() if "LU" in type(m).__name__)


@pytest.mark.parametrize("smooth", [False, True])
def test_initial_weights(smooth):
    G, D = init_weights(Generator(smooth=smooth)), init_weights(Discriminator(smooth=smooth))
    convs = [m for net in (G, D) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    weights = torch.cat([conv.weight.detach().flatten() for conv in convs])
    assert abs(weights.mean()) < 1e-3 and abs(weights.std() - 0.02) < 1e-3
    scales = torch.cat([m.weight for m in G.modules() if isinstance(m, nn.BatchNorm2d)])
    assert abs(scales.mean() - 1) < 0.01 and abs(scales.std() - 0.02) < 0.005


def test_spectral_norm_is_near_one_from_the_start():
    D = init_weights(Discriminator(64, 8, norm="spectral")).eval()
    for conv in [m for m in D.modules() if isinstance(m, nn.Conv2d)]:
        assert 0.8 < torch.linalg.matrix_norm(conv.weight.flatten(1), 2) < 1.3


def test_sizes_of_pytorchs_example():
    """ngf = ndf = 64 at 64 px."""
    assert count_parameters(Generator()) == 3_576_704
    assert count_parameters(Discriminator()) == 2_765_568


@torch.no_grad()
def test_smooth_kernels_draw_no_checkerboard():
    """What a flat map becomes is flat, edges aside; free kernels make a texture of it."""
    for smooth in (True, False):
        up = init_weights(nn.Sequential(*up_block(64, 8, smooth=smooth)))[0]
        inside = up(torch.ones(1, 64, 8, 8))[..., 1:-1, 1:-1]
        assert (inside.std((2, 3)) < 1e-5).all() == smooth


@torch.no_grad()
def test_smooth_transposed_convolution_is_doubling_and_a_convolution():
    up = init_weights(nn.Sequential(*up_block(5, 8, smooth=True)))[0]
    maps, small = torch.randn(2, 5, 8, 8), up.parametrizations.weight.original
    doubled = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)
    expected = nn.functional.conv2d(doubled, small.flip(2, 3).transpose(0, 1), padding=1)
    torch.testing.assert_close(up(maps), expected)


@torch.no_grad()
def test_smooth_strided_convolution_is_a_convolution_and_sums():
    down = init_weights(nn.Sequential(*down_block(5, 8, "none", smooth=True)))[0]
    maps, small = torch.randn(2, 5, 8, 8), down.parametrizations.weight.original
    expected = 4 * nn.functional.avg_pool2d(nn.functional.conv2d(maps, small, padding=1), 2)
    torch.testing.assert_close(down(maps), expected)


@pytest.mark.parametrize("size", [0, 48, 100, 512])
def test_other_sizes_are_refused(size):
    with pytest.raises(ToonGANError, match="image_size must be 32, 64, 128 or 256"):
        Generator(size)


@pytest.mark.parametrize("smooth", [False, True])
def test_state_loads_without_the_package(smooth):
    """A G.pth fits the layers written out by hand, as in PyTorch's DCGAN example."""
    G = init_weights(Generator(32, latent_dim=10, base_channels=4, smooth=smooth)).eval()
    layers = nn.Sequential(
        *[nn.ConvTranspose2d(10, 16, 4, 1, 0, bias=False), nn.BatchNorm2d(16), nn.ReLU()],
        *[nn.ConvTranspose2d(16, 8, 4, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()],
        *[nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU()],
        *[nn.ConvTranspose2d(4, 3, 4, 2, 1, bias=False), nn.Tanh()],
    )
    by_hand = nn.ModuleDict({"main": layers}).eval()
    by_hand.load_state_dict(plain_state(G))
    latent = torch.randn(2, 10, 1, 1)
    assert torch.equal(by_hand["main"](latent), G(latent))


@pytest.mark.parametrize("norm", ["batch", "spectral"])
@pytest.mark.parametrize("smooth", [False, True])
def test_plain_state_of_d_computes_the_same(norm, smooth):
    D = init_weights(Discriminator(32, 4, norm=norm, smooth=smooth)).eval()
    state = plain_state(D)
    assert not [key for key in state if "parametrizations" in key]
    plain = Discriminator(32, 4, norm="batch" if norm == "batch" else "none").eval()
    plain.load_state_dict(state)
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(plain(images), D(images))
    D.train()(images)  # saving must leave the net able to train on
