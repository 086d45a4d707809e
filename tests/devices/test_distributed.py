"""Two ranks on the CPU, started by torchrun as a user would."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import COMMAND, REPOSITORY, TINY, results

import toongan
from toongan.runs import Run

pytestmark = pytest.mark.usefixtures("few_faces")
STEPS = 40
TRAIN = ["train", "--run", "r", "--kimg", STEPS * TINY["batch_size"] / 1000, "--colours", 3, *COMMAND]


def torchrun(*arguments, home, ranks=2, restarts=0) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", ranks]
    return subprocess.run(
        [str(part) for part in (*command, "--max-restarts", restarts, *arguments)],
        cwd=REPOSITORY,
        env={**os.environ, "TOONGAN_HOME": str(home), "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_in(home) -> Run:
    return Run("r", home / "checkpoints" / "r", home / "generated" / "r")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory, few_drawn):
    """A home where two ranks trained, and what they said."""
    home = shutil.copytree(few_drawn, tmp_path_factory.mktemp("two"), dirs_exist_ok=True)
    done = torchrun("-m", "toongan", "--", *TRAIN, home=home)
    assert done.returncode == 0, done.stderr
    return home, done


def test_replicas_stay_equal_and_share_the_data(tmp_path):
    done = torchrun("tests/ranks.py", "replicas", tmp_path, home=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("classic", "modern", "asked"):
        first, second = (torch.load(tmp_path / f"{name}-{rank}.pt") for rank in (0, 1))
        assert all(torch.equal(value, second["weights"][key]) for key, value in first["weights"].items())
        assert len(set(first["images"] + second["images"])) == 128  # one epoch: every image, and each once


def test_run_is_like_that_of_one_process(two_ranks, tmp_path, monkeypatch):
    home, done = two_ranks
    monkeypatch.setenv("TOONGAN_HOME", str(tmp_path))
    alone = toongan.train(
        toongan.TrainConfig(run="r", kimg=STEPS * TINY["batch_size"] / 1000, colours=3, device="cpu", **TINY),
        progress=False,
    )
    together = run_in(home)
    assert together.info()["processes"] == 2 and together.info()["finished"]
    assert done.stdout.count("Training r on 2 × CPU") == 1  # one rank speaks
    # G's batch norm sees half of a batch on each rank; the rest is rounding.
    for column in ("loss_d", "loss_g", "real_score", "fake_score"):
        for one, two in zip(alone.history()[column], together.history()[column], strict=True):
            assert abs(one - two) < 0.05
    assert set(torch.load(together.generator_path)) == set(torch.load(alone.generator_path))
    assert toongan.load_generator(together.generator_path)(torch.randn(2, 100)).shape == (2, 3, 32, 32)


def test_killed_rank_is_started_again_and_the_run_completes(two_ranks, tmp_path):
    done = torchrun(
        "--", "tests/ranks.py", "dies", 23, *TRAIN, "--save-seconds", 0, "--restart", home=tmp_path, restarts=1
    )
    assert done.returncode == 0, done.stderr
    assert f"Continuing after 23 of {STEPS} steps" in done.stdout
    assert results(run_in(tmp_path)) == results(run_in(two_ranks[0]))


@pytest.fixture(scope="module")
def broken(tmp_path_factory, few_drawn):
    """A home where two ranks trained until one of them died."""
    home = shutil.copytree(few_drawn, tmp_path_factory.mktemp("broken"), dirs_exist_ok=True)
    done = torchrun("--", "tests/ranks.py", "dies", 23, *TRAIN, "--save-seconds", 0, home=home)
    assert done.returncode != 0
    return home


def test_one_process_goes_on_with_what_two_began(two_ranks, broken, tmp_path, monkeypatch):
    shutil.copytree(broken, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("TOONGAN_HOME", str(tmp_path))
    toongan.train(
        toongan.TrainConfig(run="r", kimg=STEPS * TINY["batch_size"] / 1000, colours=3, device="cpu", **TINY),
        progress=False,
    )
    losses = [run_in(home).history()["loss_d"] for home in (two_ranks[0], tmp_path)]
    assert losses[0] == pytest.approx(losses[1], abs=0.05)


def test_finished_run_is_given_as_it_is(two_ranks):
    home, _ = two_ranks
    before = results(run_in(home))
    done = torchrun("-m", "toongan", "--", *TRAIN, home=home)
    assert done.returncode == 0 and done.stdout.count("is finished: --restart") == 1
    assert results(run_in(home)) == before


def test_batch_that_cannot_be_shared(tmp_path):
    done = torchrun("-m", "toongan", "--", *TRAIN, "--batch-size", 15, home=tmp_path)
    assert done.returncode != 0
    assert "--batch-size is 15 for all 2 processes together" in done.stderr
    assert not (tmp_path / "checkpoints" / "r" / "last.pt").exists()


def test_error_is_said_once(broken):
    done = torchrun("-m", "toongan", "--", *TRAIN, "--seed", 5, home=broken)
    assert done.returncode != 0
    assert done.stderr.count("was begun with other settings: --seed was 0 and is now 5") == 1
