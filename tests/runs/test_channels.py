"""Runs on grey images, and on images with transparency: everything that works for colours works for them."""

import dataclasses
import shutil

import numpy as np
import pytest
from conftest import TINY, results, stopping_at
from makers import drawing, encoded, fill_folder
from PIL import Image, ImageDraw

import toongan
from toongan import DataConfig, EvaluateConfig, GenerateConfig, ToonGANError, TrainConfig
from toongan.results import make_gif
from toongan.runs import checkpoints

SETTINGS = {**TINY, "count": 72, "device": "cpu", "kimg": 0.4}


def sticker(number: int) -> Image.Image:
    """A disc of a drawing, on nothing."""
    image, disc = drawing(number), Image.new("L", (40, 40))
    ImageDraw.Draw(disc).ellipse((6, 6, 34, 34), fill=255)
    image.putalpha(disc)
    return image


@pytest.fixture
def grey(home):
    """A folder of grey images, saved as colours."""
    files = {f"{number:03d}.png": encoded(drawing(number).convert("L").convert("RGB")) for number in range(80)}
    return f"folder:{fill_folder(home / 'pencil', files)}"


@pytest.fixture
def clear(home):
    return f"folder:{fill_folder(home / 'stickers', {f'{n:03d}.png': encoded(sticker(n)) for n in range(80)})}"


def stopped_once(config: TrainConfig) -> toongan.Run:
    """The run, stopped in its middle and gone on with."""
    with stopping_at(11):
        assert not toongan.train(config, progress=False).info()["finished"]
    return toongan.train(config, progress=False)


@pytest.mark.parametrize("kind, channels, mode", [("grey", None, "L"), ("clear", 4, "RGBA"), ("clear", 1, "L")])
def test_every_file_and_figure(home, grey, clear, kind, channels, mode):
    dataset = {"grey": grey, "clear": clear}[kind]
    config = TrainConfig(run="r", dataset=dataset, channels=channels, augment="both", **SETTINGS)
    run = toongan.train(config, progress=False)
    wanted = {"L": 1, "RGB": 3, "RGBA": 4}[mode]
    G = toongan.load_generator(run.generator_path)
    assert G.channels == toongan.load_discriminator(run.discriminator_path).channels == wanted
    assert run.info()["settings"]["channels"] == wanted
    with Image.open(run.grids[-1]) as grid:
        assert grid.mode == mode
    again = stopped_once(dataclasses.replace(config, run="again", save_seconds=0))
    assert results(again) == results(run)
    for path in (run.generator_path, run.grids[-1]):
        path.unlink()
    assert results(toongan.train(config, progress=False)) == results(again), "lost files come back"
    for name, has in (("a.png", mode), ("a.webp", {"L": "RGB"}.get(mode, mode)), ("a.jpg", mode.removesuffix("A"))):
        out = toongan.generate(GenerateConfig(run="r", count=4, out=home / name))
        with Image.open(out) as image:
            assert image.mode == has, name
    make_gif(run)
    if (kind, channels) != ("clear", 1):  # a card takes seconds
        card = toongan.evaluate(EvaluateConfig(run="r", device="cpu"), progress=False)
        assert card["compared_with"]["as_in_training"] and card["compared_with"]["never_trained_on"]
        assert card["figures"]["frechet_distance"]["generated"] > 0


def test_transparency_is_where_the_data_has_it(home, clear):
    data = toongan.prepare(DataConfig(clear, image_size=32, channels=4), progress=False)
    assert data.images.shape == (80, 32, 32, 4)
    assert (data.images[:, 0, 0] == (255, 255, 255, 0)).all(), "the colours are those on white"
    assert (data.images[:, 16, 16, 3] == 255).all()
    white = toongan.prepare(DataConfig(clear, image_size=32), progress=False)
    apart = np.abs(data.images[..., :3].astype(int) - white.images)
    assert apart.mean() < 2 and (apart[:, 14:18, 14:18] <= 1).all(), "what a reader sees is the same"


def test_grey_images_are_packed_once(home, grey, capsys):
    toongan.train(TrainConfig(run="r", dataset=grey, **SETTINGS), progress=True)
    assert "channels" not in capsys.readouterr().err
    data = toongan.prepare(DataConfig(grey, image_size=32, channels=1), progress=False)
    assert data.images.shape == (80, 32, 32, 1) and data.folder.name == "32px"
    assert toongan.prepare(DataConfig(grey, image_size=32), progress=False).images.shape[3] == 3


def test_a_run_on_a_grey_style_goes_on(home):
    config = TrainConfig(run="r", dataset="avatars:notionists-neutral", **{**SETTINGS, "count": 80})
    run = toongan.train(config, progress=False)
    assert run.info()["settings"]["channels"] == 1
    again = toongan.train(dataclasses.replace(config, extend=True, kimg=2 * config.kimg), progress=False)
    assert again.info()["done"] == 2 * run.info()["done"] or again.info()["extensions"]
    assert [path.name for path in (home / "data" / "avatars-notionists-neutral").glob("[!.]*")] == ["32px"], (
        "drawn once"
    )


def test_other_channels_are_other_settings(home, grey):
    config = TrainConfig(run="r", dataset=grey, **SETTINGS)
    run = toongan.train(config, progress=False)
    assert toongan.train(config, progress=False).info()["seconds"] == run.info()["seconds"], "it is finished"
    three = toongan.train(dataclasses.replace(config, channels=3), progress=False)
    assert three.info()["settings"]["channels"] == 3 and (home / "checkpoints" / "r-previous").is_dir()


def test_a_start_decides_for_grey_images(shared_home, home, grey, clear):
    shutil.copytree(shared_home, home, dirs_exist_ok=True)
    config = TrainConfig(run="r", dataset=grey, start="tiny", **SETTINGS)
    assert toongan.train(config, progress=False).info()["settings"]["channels"] == 3
    with pytest.raises(
        ToonGANError, match="start has channels 3, but this run has 4: give --channels 3, or another start"
    ):
        toongan.train(dataclasses.replace(config, run="other", dataset=clear, channels=4), progress=False)


def test_drawn_faces_without_their_background(home):
    data = toongan.prepare(DataConfig("avatars", 64, image_size=32, channels=4), progress=False)
    assert (data.images[..., 3] == 0).any() and (data.images[..., 3] == 255).any()
    assert "background_color" not in data.labels[0]
    grey = toongan.prepare(DataConfig("avatars", 64, image_size=32, channels=1), progress=False)
    assert grey.images.shape == (64, 32, 32, 1)


def test_a_checkpoint_that_does_not_know_newer_settings_goes_on(few_faces, home):
    """One of a version before --channels, --fit, --augment … is of a run with their defaults."""
    config = TrainConfig(run="r", **{**TINY, "kimg": 0.4, "device": "cpu"})
    run = toongan.train(config, progress=False)
    path = run.checkpoints / "last.pt"
    state = checkpoints.read(path)
    for name in "channels colours differences fit frames skip_alike augment start freeze ask".split():
        del state["settings"][name]
    path.write_bytes(checkpoints.encode(state))
    longer = toongan.train(dataclasses.replace(config, extend=True, kimg=0.6), progress=False)
    assert longer.info()["finished"] and longer.info()["kimg"] == pytest.approx(0.6, abs=0.02)
