"""Runs found by their names."""

import pytest

from toongan import ToonGANError, find_run, load_generator


def test_find_run_names_the_command(home):
    with pytest.raises(ToonGANError, match="python -m toongan train --run nobody"):
        find_run("nobody")


def test_find_run_falls_back_to_the_one_that_ships(home):
    run = find_run("nobody", "avatars-64")
    assert load_generator(run.generator_path).image_size == 64
    assert len(run.grids) > 3 and run.info()["finished"]


def test_a_run_that_is_not_there(tiny_home):
    with pytest.raises(
        ToonGANError, match="nope has no G.pth .* train it first: .* --run nope; or use one of these runs: .*tiny"
    ):
        find_run("nope")
