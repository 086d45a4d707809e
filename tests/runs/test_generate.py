"""New faces as an image, and where it cannot be written."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import toongan
from toongan import GenerateConfig, ToonGANError
from toongan.data import to_tensor
from toongan.models import Discriminator, Generator
from toongan.runs import generate as generating
from toongan.runs.files import Run
from toongan.runs.generate import generate
from toongan.runs.state_dicts import load_discriminator, load_generator, save_state
from toongan.runs.trainer import draw


def test_generate_repeats_by_seed(tiny_home, tmp_path):
    paths = [
        toongan.generate(toongan.GenerateConfig("tiny", count=9, seed=seed, out=tmp_path / f"{i}.png"))
        for i, seed in enumerate([5, 5, 6])
    ]
    first, same, other = (path.read_bytes() for path in paths)
    assert first == same != other
    assert Image.open(paths[0]).size == (3 * 34 - 2, 3 * 34 - 2)


def test_generated_faces_are_not_the_sample_grid(tiny_home, tmp_path):
    """The same seed for training and drawing must still give new faces."""
    path = toongan.generate(toongan.GenerateConfig("tiny", count=64, seed=0, out=tmp_path / "g.png"))
    assert Image.open(path).tobytes() != Image.open(Run.named("tiny").grids[-1]).convert("RGB").tobytes()


def mark(path) -> str | None:
    with Image.open(path) as image:
        return image.info.get("Software") if image.format == "PNG" else image.getexif().get(0x0131)


@pytest.mark.parametrize("name", ["faces.png", "faces.jpg", "faces.webp"])
def test_generated_faces_are_marked(tiny_home, tmp_path, name):
    assert mark(generate(GenerateConfig(run="tiny", count=4, out=tmp_path / name))) == "ToonGAN"


def test_a_long_name(tiny_home, tmp_path):
    out = tmp_path / ("ä" * 120 + "bcde.png")
    assert generate(GenerateConfig(run="tiny", count=1, out=out)) == out and out.is_file()


def test_home_and_missing_folders_in_the_path(tiny_home, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert generate(GenerateConfig(run="tiny", count=1, out="~/new/folder/x.png")) == tmp_path / "new/folder/x.png"
    assert (tmp_path / "new/folder/x.png").is_file() and not Path("~").exists()


def test_a_folder_in_place_of_an_image(tiny_home, tmp_path):
    (tmp_path / "x.png").mkdir()
    with pytest.raises(ToonGANError, match=r"out is a folder: .*x\.png; try .*x\.png/grid\.png\."):
        generate(GenerateConfig(run="tiny", out=tmp_path / "x.png"))
    with pytest.raises(
        ToonGANError, match=r"Cannot write to .* \(File name too long\); choose another folder for --out"
    ):
        generate(GenerateConfig(run="tiny", out=tmp_path / ("x" * 300) / "x.png"))


def test_more_faces_than_a_format_has_room_for(home, tmp_path, monkeypatch):
    save_state_of(home, Generator(256, 4, 1))
    monkeypatch.setattr(
        generating, "draw", lambda net, latent: np.broadcast_to(np.uint8(9), (len(latent), 256, 256, 3))
    )
    with pytest.raises(ToonGANError) as caught:
        generate(GenerateConfig(run="big", count=4100, out=tmp_path / "x.webp"))
    assert str(caught.value).startswith(
        "out would be 16,768 px wide with 4,100 faces, and the limit of WebP is 16,383 px: take at most 3,969 faces, "
    )
    assert caught.value.message.endswith("x.png.") and list(tmp_path.glob("*x*")) == []
    monkeypatch.setattr(generating, "save_image", lambda image, path: path.write_bytes(b"%d" % image.width))
    assert generate(GenerateConfig(run="big", count=3969, out=tmp_path / "x.webp")).read_bytes() == b"16252"
    assert generate(GenerateConfig(run="big", count=4100, out=tmp_path / "x.jpg")).read_bytes() == b"16768"


def save_state_of(home, net) -> None:
    folder = home / "checkpoints" / "big"
    folder.mkdir(parents=True)
    save_state(folder / "G.pth", net)


def test_memory_that_runs_out(tiny_home, tmp_path, monkeypatch):
    def draw(net, latent):
        raise MemoryError

    monkeypatch.setattr(generating, "draw", draw)
    with pytest.raises(ToonGANError, match="count 64 is too much for the memory of this machine; try 32."):
        generate(GenerateConfig(run="tiny", out=tmp_path / "x.png"))
    assert list(tmp_path.iterdir()) == []


def test_the_best_of_several_by_the_judgement_of_d(tiny_home):
    """Of all that were drawn, those that D scores highest, one for each face; and shorter vectors on demand."""
    run = Run.named("tiny")
    G, D = load_generator(run.generator_path), load_discriminator(run.discriminator_path)

    def scores(faces: np.ndarray) -> torch.Tensor:
        with torch.no_grad():
            return D(to_tensor(torch.from_numpy(faces)))

    chance = torch.Generator().manual_seed(3)
    best, vectors = generating.draw_best(G, D, 12, 5, 0.9, chance)
    everything = draw(G, 0.9 * torch.randn(60, G.latent_dim, generator=torch.Generator().manual_seed(3)))
    wanted = scores(everything).view(12, 5).argmax(1)
    assert np.abs(best.astype(int) - everything.reshape(12, 5, 32, 32, 3)[range(12), wanted]).max() <= 1
    assert scores(best).mean() > scores(everything).mean()


def test_options_that_sharpen_are_checked_and_change_the_faces(tiny_home, tmp_path):
    plain, shorter, best = (
        generate(GenerateConfig("tiny", count=4, out=tmp_path / f"{number}.png", **options)).read_bytes()
        for number, options in enumerate(({}, {"truncation": 0.5}, {"best_of": 3}))
    )
    assert len({plain, shorter, best}) == 3
    for wrong, said in (({"truncation": 0}, "more than 0 and 2 at most"), ({"best_of": 0}, "from 1 to 100")):
        with pytest.raises(ToonGANError, match=said):
            GenerateConfig("tiny", **wrong)
    with pytest.raises(ToonGANError, match="D, which takes images of 64 px while G draws 32"):
        generating.draw_best(Generator(32, 8, 4), Discriminator(64, 4), 2, 2)


def test_one_file_a_face(tiny_home, tmp_path):
    folder = generate(GenerateConfig("tiny", count=12, out=tmp_path / "faces.png", separate=True))
    assert folder == tmp_path / "faces" and not (tmp_path / "faces.png").exists()
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"{number:02d}.png" for number in range(12)]
    sheet = np.asarray(Image.open(generate(GenerateConfig("tiny", count=12, out=tmp_path / "sheet.png"))))
    assert np.array_equal(np.asarray(Image.open(folder / "05.png")), sheet[34:66, 34:66])
    generate(
        GenerateConfig("tiny", count=12, seed=1, out=tmp_path / "faces.png", separate=True)
    )  # others in their place
    with pytest.raises(
        ToonGANError, match=r"faces, holds other faces, such as 00\.png|holds other faces, such as 00.png"
    ):
        generate(GenerateConfig("tiny", count=4, out=tmp_path / "faces.png", separate=True))
    assert len(list(folder.iterdir())) == 12
    (tmp_path / "note").write_text("mine")
    with pytest.raises(ToonGANError, match="Cannot write .*note .*something else already has this name"):
        generate(GenerateConfig("tiny", count=4, out=tmp_path / "note.png", separate=True))


@pytest.mark.parametrize("options", [{}, {"best_of": 3, "truncation": 0.7}])
def test_vectors_are_saved_and_drawn_again(tiny_home, tmp_path, options):
    file = tmp_path / "z.npy"
    first = generate(GenerateConfig("tiny", count=9, out=tmp_path / "a.png", save_latent=file, **options))
    vectors = np.load(file)
    assert vectors.shape == (9, load_generator(Run.named("tiny").generator_path).latent_dim)
    again = generate(GenerateConfig("tiny", latent=file, out=tmp_path / "b.png"))
    pair = [np.asarray(Image.open(path)).astype(int) for path in (first, again)]
    assert np.abs(pair[0] - pair[1]).max() <= 1


@pytest.mark.parametrize(
    "options, idle", [({"truncation": 0.5}, "truncation"), ({"count": 9, "seed": 3}, "count and seed")]
)
def test_vectors_decide_every_face(options, idle):
    with pytest.raises(ToonGANError, match=f"latent decides every face by itself; leave out {idle}"):
        GenerateConfig("tiny", latent=Path("z.npy"), **options)


def test_best_or_any_generator(tiny_home, tmp_path):
    with pytest.raises(
        ToonGANError,
        match="which is best, but tiny has no G-best.pth: runs of fewer than 20,000 images are not measured",
    ):
        generate(GenerateConfig("tiny", which="best", out=tmp_path / "a.png"))
    save_state(tmp_path / "G.pth", Generator(32, 8, 4))
    assert generate(GenerateConfig("nobody", which=str(tmp_path / "G.pth"), count=4, out=tmp_path / "b.png")).is_file()
    with pytest.raises(ToonGANError, match="There is no file"):
        generate(GenerateConfig(which=str(tmp_path / "none.pth"), out=tmp_path / "c.png"))


@pytest.mark.parametrize(
    "content, says",
    [
        (None, "latent is missing"),
        (b"cats", "latent is not an array of numbers"),
        (b"PK\3\4 and no archive", "latent is not an array of numbers"),
        (np.zeros((3, 7)), r"must hold numbers of the shape \(N, 100\), not \(3, 7\)"),
        (np.zeros(100), r"of the shape \(N, 100\), not \(100,\)"),
        (np.full((2, 100), np.nan), "must hold numbers"),
        (np.array([["a"]]), "must hold numbers"),
    ],
)
def test_vectors_that_cannot_be_drawn(tiny_home, tmp_path, content, says):
    file = tmp_path / "z.npy"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        np.save(file, content)
    with pytest.raises(ToonGANError, match=says):
        generate(GenerateConfig("tiny", latent=file, out=tmp_path / "a.png"))
    assert not (tmp_path / "a.png").exists()


def test_what_is_behind_transparent_faces(home, tmp_path):
    save_state_of(home, Generator(32, 8, 4, channels=4))
    clear = Image.open(generate(GenerateConfig("big", count=4, out=tmp_path / "a.png")))
    white = Image.open(generate(GenerateConfig("big", count=4, out=tmp_path / "b.png", background="white")))
    assert (clear.mode, white.mode) == ("RGBA", "RGB")
