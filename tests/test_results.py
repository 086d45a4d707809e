"""Films and walks: chapter 04."""

import numpy as np
import pytest
import torch
from PIL import Image

from toongan.results import direction_of, save_film, slerp


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


def test_direction_points_to_those_that_have_it():
    latent = torch.randn(4000, 20, generator=torch.Generator().manual_seed(0))
    direction = direction_of(latent, latent[:, 3] > 0.5)
    assert direction[3] > 0.95 and abs(direction.norm() - 1) < 1e-5
