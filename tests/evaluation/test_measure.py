"""The card of a run, made by the command."""

import json
import shutil
import socket

import pytest
import torch
from conftest import TINY, command
from makers import drawing, encoded, fill_folder, images
from PIL import Image
from test_card import GOOD

import toongan
from toongan import EvaluateConfig, cli, evaluate
from toongan.datasets import avatars
from toongan.datasets.holdout import split
from toongan.evaluation import card, measure


@pytest.fixture
def offline(monkeypatch):
    """No connection to anywhere."""

    def refuse(*arguments, **options):
        raise OSError("the network is off")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def copy_of(shared_home, home):
    """The shared run and its data, to be written beside."""
    shutil.copytree(shared_home, home, dirs_exist_ok=True, ignore=shutil.ignore_patterns("features"))
    return home / "checkpoints" / "tiny"


def without_time(path) -> str:
    return "\n".join(
        line
        for line in path.read_text(encoding="utf-8").splitlines()
        if '"minutes"' not in line and '"date"' not in line
    )


def test_evaluate_writes_the_same_card_twice(shared_home, home):
    folder = copy_of(shared_home, home)
    done = command("evaluate", "--run", "tiny", "--device", "cpu", home=home)
    assert done.returncode == 0, done.stderr
    first = without_time(folder / "metrics.json")
    cli.main(["evaluate", "--run", "tiny", "--device", "cpu"])
    assert without_time(folder / "metrics.json") == first
    assert "Fréchet distance, MobileNetV2" in done.stdout and "floor: real against real" in done.stdout
    assert "224 px, bilinear with antialias" in done.stdout and " minutes on CPU" in done.stdout
    assert "16 generated images against 16 held out from 128 of avatars, seed 0" in done.stdout
    for text in (done.stdout, done.stderr, first):
        assert "FID" not in text and "fid" not in text.lower().replace("torch-fidelity", "")
    card = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert card["count"] == 16 and card["extractor"]["resizer"].startswith("bilinear with antialias")
    assert card["figures"]["frechet_distance"]["generated"] > card["figures"]["frechet_distance"]["floor"]
    assert {"minutes", "device", "versions", "findings"} <= set(card)
    with Image.open(folder / "metrics.png") as image:
        assert image.width > 1000


def test_a_collapsed_generator_is_named_without_a_network(shared_home, home, offline, capsys):
    folder = copy_of(shared_home, home)
    state = torch.load(folder / "G.pth", weights_only=True)
    name = next(key for key in state if key.endswith("weight"))
    torch.save(state | {name: torch.zeros_like(state[name])}, folder / "G.pth")
    cli.main(["evaluate", "--run", "tiny", "--device", "cpu"])
    out = capsys.readouterr().out
    assert "G repeats itself: its images are only 0 % as varied as real ones." in out
    card = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert card["figures"]["recall"]["generated"] == 0


@pytest.mark.parametrize("held_out, says", [(True, False), (None, True)])
def test_a_run_that_was_trained_on_all_images_says_so(shared_home, home, held_out, says):
    """Runs of earlier versions: True where images were held out by their position, nothing where none were."""
    folder = copy_of(shared_home, home)
    info = json.loads((folder / "run.json").read_text())
    info["data"].pop("held_out", None)
    if held_out:
        info["data"]["held_out"] = True
    (folder / "run.json").write_text(json.dumps(info))
    config = EvaluateConfig(run="tiny", count=8, device="cpu")
    against = measure.Evaluation(config, progress=False).provenance()
    assert against["never_trained_on"] is not says and against["as_in_training"]
    said = card.findings({**GOOD, "compared_with": against})
    assert any("trained on all images" in sentence for sentence in said) is says
    assert len(said) == says


def test_images_without_labels_leave_attributes_out(shared_home, home):
    copy_of(shared_home, home)
    folder = home / "mine"
    folder.mkdir()
    for number in range(64):
        Image.fromarray(avatars.draw("avataaars", number, 32)[0]).save(folder / f"{number}.png")
    config = EvaluateConfig(run="tiny", dataset=f"folder:{folder}", device="cpu")
    card = evaluate(config, progress=False)
    assert card["attributes"] is None and card["count"] == 8
    assert sum("no labels" in sentence for sentence in card["findings"]) == 1
    against = card["compared_with"]
    assert not against["as_in_training"] and not against["never_trained_on"], "nobody knows what these 64 are"


def test_an_image_added_later_makes_no_trained_image_a_held_out_one(home):
    """The card's promise holds for the changed folder, and another folder's images get none."""
    folder = fill_folder(home / "mine", images(200))
    settings = dict(count=None, dataset=f"folder:{folder}", kimg=0.32, device="cpu")
    run = toongan.train(toongan.TrainConfig(run="r", **{**TINY, **settings}), progress=False)
    before = toongan.prepare(toongan.DataConfig(f"folder:{folder}", image_size=32), progress=False)
    trained = set(before.hashes[split(before.hashes, run.info()["data"]["held_out"]).training])
    for number in range(200, 240):  # in front of all others, so that every position changes
        (folder / f"a-{number}.png").write_bytes(encoded(drawing(number)))
    (folder / "face-0007.png").rename(folder / "zzz.png")
    judging = measure.Evaluation(EvaluateConfig(run="r", device="cpu"), progress=False)
    against = judging.provenance()
    assert against["never_trained_on"] and not against["as_in_training"]
    assert not trained & set(judging.data.hashes[judging.rows])
    assert against["held_out"] >= 25


def test_inception_without_a_network(shared_home, home, offline, capsys, monkeypatch):
    copy_of(shared_home, home)
    monkeypatch.setenv("TORCH_HOME", str(home / "torch"))
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", "--run", "tiny", "--inception", "--device", "cpu"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: --inception needs Inception weights, which could not be fetched")
    assert "leave it out, or put https://github.com/toshas/torch-fidelity/" in said
    assert str(home / "torch" / "hub" / "checkpoints") in said


def test_inception_without_enough_memory(shared_home, home, capsys, monkeypatch):
    def too_large(**options):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    copy_of(shared_home, home)
    monkeypatch.setattr(measure, "calculate_metrics", too_large)
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--run", "tiny", "--inception", "--device", "cpu"])
    assert "is too much for the memory of this GPU" in capsys.readouterr().err.splitlines()[-1]


def test_fid_is_named_where_it_is_one(monkeypatch, shared_home, home, capsys):
    """With Inception's figures given, the card and the table call them FID and KID."""
    copy_of(shared_home, home)
    one = {
        "frechet_inception_distance": 12.3,
        "kernel_inception_distance_mean": 0.004,
        "kernel_inception_distance_std": 0.001,
    }
    monkeypatch.setattr(measure, "calculate_metrics", lambda **_: one)
    cli.main(["evaluate", "--run", "tiny", "--inception", "--device", "cpu"])
    assert "FID-16, Inception" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--run", "nobody"], "nobody has no G.pth"),
        (["--run", "../tiny"], "--run must be a plain name"),
        (["--run", "tiny", "--count", "3"], "--count must be a whole number from 8 to 2,500, not 3"),
        (["--run", "tiny", "--dataset", "cats"], "--dataset 'cats' is not known"),
    ],
)
def test_wrong_settings_are_named(tiny_home, arguments, says, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["evaluate", *arguments])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and says in err and "Traceback" not in err and len(err.splitlines()) == 1
