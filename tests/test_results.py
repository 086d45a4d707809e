"""Curves, films and walks: chapter 04."""

import json
import shutil

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import NOTEBOOKS, REPOSITORY
from PIL import Image

import toongan
from toongan.results import direction_of, plot_losses, plot_quality, plot_scores, save_film, slerp


@pytest.mark.parametrize("plot", [plot_losses, plot_scores, plot_quality])
def test_legend_covers_no_line(home, monkeypatch, plot):
    """It lies outside the axes, and every line but a mere mark has a name in it."""
    kept = []
    monkeypatch.setattr(plt, "close", kept.append)
    plot(toongan.find_run("avatars-64"), home)
    (figure,) = kept
    (axes,), (legend,) = figure.axes, figure.legends
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())
    assert len(legend.get_texts()) == len([line for line in axes.lines if not line.get_label().startswith("_")]) >= 2


@pytest.mark.parametrize("left", [0, 1, 3, 20])
def test_chapter_shows_the_grids_that_are_left(shared_home, home, monkeypatch, capsys, left):
    """As many as six of them; without any, it says so in a sentence, and goes on."""
    for folder in ("checkpoints", "generated"):
        shutil.copytree(shared_home / folder / "tiny", home / folder / "fewer")
    for path in toongan.Run.named("fewer").grids[left:]:
        path.unlink()
    figures = []
    monkeypatch.setattr(plt, "show", lambda: figures.append(plt.gcf()))
    monkeypatch.chdir(REPOSITORY / "notebooks")
    names = {"__name__": "__main__"}
    (chapter,) = (path for path in NOTEBOOKS if path.name.startswith("04"))
    for cell in json.loads(chapter.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
            names["RUN"] = "fewer"
        if cell["id"] == "04-18":
            break
    panels = [axes for axes in figures[-1].axes if axes.images]
    assert len(panels) == {0: 0, 1: 1, 3: 3, 20: 6}[left]
    assert (names["folder"] / "generated.gif").is_file() == bool(left)
    said = capsys.readouterr().out
    assert ("No sample grids are left in generated/fewer/" in said) == (not left)
    assert ('"avatars-64"' in said) == (not left)


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_film_keeps_every_frame(tmp_path, ending):
    frames = np.zeros((5, 32, 32, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[4 * number :, :, number % 3] = 200
    save_film(frames, tmp_path / f"film.{ending}", seconds=1.0)
    with Image.open(tmp_path / f"film.{ending}") as film:
        assert film.n_frames == 5 and film.size == (32, 32)
        film.seek(3)
        shown = np.asarray(film.convert("RGB")).astype(int)
        assert abs(shown - frames[3]).mean() < 12
        assert film.info["duration"] == 200


def test_slerp_keeps_the_length():
    start, end = torch.randn(2, 100, generator=torch.Generator().manual_seed(0))
    start, end = 10 * start / start.norm(), 10 * end / end.norm()
    path = slerp(start, end, torch.linspace(0, 1, 9))
    torch.testing.assert_close(path.norm(dim=1), torch.full((9,), 10.0))
    torch.testing.assert_close(path[0], start)
    torch.testing.assert_close(path[-1], end)
    torch.testing.assert_close(slerp(start, start, torch.tensor([0.5]))[0], start)


def test_direction_points_to_images_with_the_attribute():
    latent = torch.randn(4000, 20, generator=torch.Generator().manual_seed(0))
    direction = direction_of(latent, latent[:, 3] > 0.5)
    assert direction[3] > 0.95 and abs(direction.norm() - 1) < 1e-5
