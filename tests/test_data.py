"""Images, tensors, batches, drawn avatars: chapter 01."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

import toongan
from toongan.data import (
    batches,
    in_colour,
    tile,
    to_array,
    to_channels,
    to_image,
    to_pixels,
    to_rgb,
    to_square,
    to_tensor,
)


def test_transparent_becomes_white():
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.putpixel((0, 0), (10, 20, 30, 255))
    pixels = np.asarray(to_rgb(image))
    assert pixels[0, 0].tolist() == [10, 20, 30]
    assert pixels[1, 1].tolist() == [255, 255, 255]
    palette = Image.new("P", (4, 4), 0)
    palette.info["transparency"] = 0
    assert np.asarray(to_rgb(palette))[0, 0].tolist() == [255, 255, 255]
    half = Image.new("LA", (2, 2), (0, 128))
    assert np.asarray(to_rgb(half))[0, 0].tolist() == [127, 127, 127]


def saved(image: Image.Image, kind: str, **options) -> Image.Image:
    """An image, written to a file and opened again."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(io.BytesIO(buffer.getvalue()))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_shades(kind):
    shades = np.linspace(0, 65535, 16).astype(np.uint16).reshape(4, 4)
    pixels = np.asarray(to_rgb(saved(Image.fromarray(shades), kind)))
    assert np.abs(pixels[..., 0].ravel().astype(int) - np.arange(16) * 17).max() <= 1


@pytest.mark.parametrize("scale", [1, 255])
def test_real_numbers_keep_their_shades(scale):
    shades = (np.linspace(0, 1, 16) * scale).astype(np.float32).reshape(4, 4)
    pixels = np.asarray(to_rgb(saved(Image.fromarray(shades), "TIFF")))
    assert np.abs(pixels[..., 0].ravel().astype(int) - np.arange(16) * 17).max() <= 1


def test_cmyk_is_not_inverted():
    red = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert red.mode == "CMYK"
    pixel = np.asarray(to_rgb(red))[8, 8]
    assert pixel[0] > 240 and pixel[1] < 30 and pixel[2] < 30


def test_grey_palette_and_one_bit():
    for mode, value, colour in [("L", 90, [90] * 3), ("1", 1, [255] * 3), ("P", 0, [0] * 3)]:
        assert np.asarray(to_rgb(saved(Image.new(mode, (4, 4), value), "PNG")))[0, 0].tolist() == colour


def test_images_stand_upright():
    """A photograph that says it was taken with the camera on its side."""
    top_red = Image.new("RGB", (20, 10), "white")
    top_red.paste("red", (0, 0, 10, 10))  # the left half is red: turned clockwise, that is the top
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = to_rgb(saved(top_red, "PNG", exif=exif))
    assert turned.size == (10, 20)
    assert turned.getpixel((5, 2)) == (255, 0, 0) and turned.getpixel((5, 18)) == (255, 255, 255)


def test_colour_profiles_are_applied_and_broken_ones_ignored():
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    image = Image.new("RGB", (4, 4), (200, 100, 50))
    for profile in (lab, b"no profile at all"):
        assert to_rgb(saved(image, "PNG", icc_profile=profile)).getpixel((0, 0)) == (200, 100, 50)
    swapped = saved(image, "PNG", icc_profile=red_and_blue_swapped())
    assert np.abs(np.array(to_rgb(swapped).getpixel((0, 0))) - (50, 100, 200)).max() <= 3


def red_and_blue_swapped() -> bytes:
    """An sRGB profile whose red and blue primaries have changed places."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = int.from_bytes(profile[128:132], "big")
    places = {bytes(profile[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    profile[places[b"rXYZ"] : places[b"rXYZ"] + 4], profile[places[b"bXYZ"] : places[b"bXYZ"] + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile).replace(b"sRGB", b"test").replace(b"s\0R\0G\0B", b"t\0e\0s\0t")


def test_square_keeps_the_middle():
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 200
    square = np.asarray(to_square(Image.fromarray(pixels), 10))
    assert square.shape == (10, 10, 3)
    assert (square == 200).all()


def test_pixels_and_tensor_are_inverse():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(1, 16, 16, 3)
    tensor = to_tensor(pixels)
    assert tensor.shape == (1, 3, 16, 16) and tensor.min() == -1 and tensor.max() == 1
    assert torch.equal(to_pixels(tensor), pixels)


def test_tile_places_every_image():
    pixels = np.stack([np.full((4, 4, 3), value, np.uint8) for value in (10, 20, 30)])
    sheet = tile(pixels, columns=2)
    assert sheet.shape == (10, 10, 3)
    assert (sheet[0, 0, 0], sheet[0, 6, 0], sheet[6, 0, 0], sheet[6, 6, 0]) == (10, 20, 30, 255)


def test_batches_cover_an_epoch_in_a_new_order_each_time():
    images = torch.arange(32, dtype=torch.uint8).reshape(32, 1, 1, 1).expand(32, 2, 2, 3)
    stream = batches(images, 8, torch.Generator().manual_seed(1))
    epochs = [torch.cat([to_pixels(next(stream))[:, 0, 0, 0] for _ in range(4)]).tolist() for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(32))
    assert epochs[0] != epochs[1]
    again = batches(images, 8, torch.Generator().manual_seed(1))
    assert to_pixels(next(again))[:, 0, 0, 0].tolist() == epochs[0][:8]


def test_batch_larger_than_the_data_is_refused():
    with pytest.raises(toongan.ToonGANError, match="batch_size is 9, more than the 8 images"):
        next(batches(torch.zeros(8, 2, 2, 3, dtype=torch.uint8), 9, torch.Generator()))


@pytest.mark.parametrize("channels, mode", [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_array_and_image_are_inverse(channels, mode):
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (9, 7, 4), np.uint8)
    pixels[..., 3] = chance.choice([0, 255, 255], (9, 7))
    image = to_channels(Image.fromarray(pixels), channels)
    array = to_array(image)
    assert image.mode == mode and array.shape == (9, 7, channels)
    back = to_image(array)
    assert back.mode == mode and np.array_equal(to_array(back), array)
    assert in_colour(array).shape == (9, 7, 3)
    if channels == 4:
        opaque = pixels[..., 3] == 255
        assert np.array_equal(np.asarray(back)[opaque], pixels[opaque])
        assert (array[~opaque] == (255, 255, 255, 0)).all()


def test_half_transparent_colours_come_back():
    pixels = np.full((4, 4, 4), (200, 40, 90, 128), np.uint8)
    back = np.asarray(to_image(to_array(to_channels(Image.fromarray(pixels), 4)))).astype(int)
    assert np.abs(back - pixels).max() <= 1
