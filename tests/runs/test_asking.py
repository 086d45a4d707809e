"""Runs that can be asked for something: trained, stopped, drawn from, and what is said of bad wishes."""

import dataclasses
import json
import os
import re
import shutil
import signal

import numpy as np
import pytest
import torch
from conftest import TINY, command, results
from PIL import Image

import toongan
from toongan import GenerateConfig, ToonGANError, TrainConfig
from toongan.conditional import ConditionalDiscriminator, random_latent
from toongan.evaluation import measure
from toongan.models import Discriminator
from toongan.runs import load_discriminator, load_generator, trainer
from toongan.runs.asking import from_plain
from toongan.runs.generate import draw_best

STEPS = 40


@pytest.fixture(scope="session")
def two_kinds(tmp_path_factory):
    """A folder of folders: dark images with a light bar on the left, or on the right; three of a third kind."""
    folder, chance = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for kind, at, count in (("left", 4, 70), ("right", 20, 70), ("both", 12, 3)):
        (folder / kind).mkdir()
        for number in range(count):
            image = chance.integers(30, 60, (32, 32, 3), np.uint8)
            image[:, at : at + 8] += 150
            Image.fromarray(image).save(folder / kind / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def asked_home(tmp_path_factory, two_kinds):
    """A home with a run, `kinds`, that can be asked for a folder; tests only read it."""
    home = tmp_path_factory.mktemp("asked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOONGAN_HOME", str(home))
        toongan.train(config_for(two_kinds), progress=False)
    return home


@pytest.fixture
def kinds(asked_home, monkeypatch):
    monkeypatch.setenv("TOONGAN_HOME", str(asked_home))
    return toongan.find_run("kinds")


def config_for(folder, **changes) -> TrainConfig:
    small = {**TINY, "count": None, "base_channels": 8, "colours": 3}
    config = TrainConfig(
        run="kinds", dataset=f"folder:{folder}", ask="all", kimg=STEPS * 16 / 1000, device="cpu", latent_dim=16, **small
    )
    return dataclasses.replace(config, **changes)


def test_a_run_knows_what_it_can_be_asked_for(kinds):
    plain = kinds.info()["attributes"]
    assert {name: sorted(values) for name, values in plain["values"].items()} == {"folder": ["left", "right"]}
    examples = from_plain(plain).examples
    assert set(examples.flatten().tolist()) == {-1, 0, 1}, "a kind that is too rare is there, and not asked for"
    G, D = load_generator(kinds.generator_path), load_discriminator(kinds.discriminator_path)
    assert G.latent_dim == 18 and G.attributes.length == 2 and isinstance(D, ConditionalDiscriminator)
    state = torch.load(kinds.generator_path, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in state.values()), "G.pth is a plain state dict"
    assert D(G(random_latent(G, 3)), torch.eye(2)[[0, 1, 1]]).shape == (3,)


def test_a_generator_learns_to_obey(home, two_kinds):
    run = toongan.train(config_for(two_kinds, kimg=6.4, colours=0), progress=False)
    for kind in ("left", "right"):
        path = toongan.generate(
            GenerateConfig(run="kinds", count=16, want=(f"folder={kind}",), out=home / f"{kind}.png")
        )
        sheet = np.asarray(Image.open(path).convert("L"), float)
        faces = np.stack(
            [sheet[34 * row : 34 * row + 32, 34 * column : 34 * column + 32] for row in range(4) for column in range(4)]
        )
        left, right = faces[:, :, 4:12].mean((1, 2)), faces[:, :, 20:28].mean((1, 2))
        as_wished = left > right + 20 if kind == "left" else right > left + 20
        assert as_wished.mean() > 0.9, (kind, as_wished.mean())
    assert run.info()["finished"]


def test_a_stopped_run_ends_with_the_same_bytes(home, kinds, two_kinds, monkeypatch):
    whole = results(kinds)
    monkeypatch.setenv("TOONGAN_HOME", str(home))
    original = trainer.Trainer.step

    def stopping(self, number, steps):
        if number == 17:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, number, steps)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "step", stopping)
        assert not toongan.train(config_for(two_kinds, save_seconds=0), progress=False).info()["finished"]
    assert results(toongan.train(config_for(two_kinds), progress=False)) == whole


def test_lost_files_come_back_from_the_checkpoint(home, two_kinds):
    run = toongan.train(config_for(two_kinds), progress=False)
    before = results(run)
    for path in (run.generator_path, run.discriminator_path, run.info_path, run.grids[0], run.grids[-1]):
        path.unlink()
    again = toongan.train(config_for(two_kinds), progress=False)
    assert results(again) == before and load_generator(again.generator_path).attributes.length == 2


def test_other_attributes_are_another_run(home, kinds, two_kinds, monkeypatch, capsys):
    toongan.train(config_for(two_kinds, ask="folder"))
    assert "--ask was all and is now folder" in capsys.readouterr().out


def test_the_best_by_its_own_discriminator_has_what_is_wanted(kinds, tmp_path):
    path = toongan.generate(
        GenerateConfig(run="kinds", count=4, best_of=3, want=("folder=left",), out=tmp_path / "g.png")
    )
    assert Image.open(path).size == (66, 66)


def test_two_nets_of_which_one_knows_wishes_do_not_judge_together(kinds):
    G, D = load_generator(kinds.generator_path), load_discriminator(kinds.discriminator_path)
    with pytest.raises(ToonGANError, match="best_of needs D, but only one of the two nets takes wishes"):
        draw_best(G, Discriminator(32, 8), 4, 2)
    G.attributes = None
    with pytest.raises(ToonGANError, match="only one of the two nets takes wishes"):
        draw_best(G, D, 4, 2)


def test_images_that_are_fetched_ahead_come_with_their_own_wishes(two_kinds, home, monkeypatch):
    """Wherever the images lie, a step sees the wishes of its own real images."""
    from toongan.conditional import Attributes
    from toongan.devices import Machine
    from toongan.runs import feeding
    from toongan.runs.asking import Asked

    images = torch.arange(64, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 32, 32, 3).contiguous()
    numbers = torch.arange(64).view(-1, 1) % 8
    asked = Asked(Attributes({"rest": list("abcdefgh")}, numbers), numbers)
    config = TrainConfig(run="r", device="cpu", latent_dim=4, **{**TINY, "count": None})
    seen = []

    class Watching(trainer.Trainer):
        def alternate(self, real, latent):
            rows = ((real[:, 0, 0, 0] + 1) * 127.5).round().long()
            seen.append(torch.equal(rows % 8, latent[:, 4:].argmax(1)))
            return super().alternate(real, latent)

    for ahead in (False, True):
        made = Watching(config, images, Machine(torch.device("cpu")), torch.arange(10, 60), asked)
        if ahead:
            order = feeding.order_of(50, 16, config.seed, 0, made.rows)
            made.stream = feeding.fetched_ahead(images, 16, order, torch.device("cpu"))
        for number in range(6):
            made.step(number, 10)
        made.go_to(3)
        made.step(3, 10)
        made.stream.close()
    assert seen == [True] * 14


@pytest.mark.parametrize(
    "wishes, sentence",
    [
        (
            ("folder=lift",),
            r"want wants folder=lift, which kinds does not know\. Did you mean left\? Choose from: left, right\.",
        ),
        (
            ("folders=left",),
            r"want names folders, which kinds cannot be asked for\. Did you mean folder\? Choose from: folder\.",
        ),
        (("?=?",), r"Choose from: folder\."),
        (("folder=?",), r"Choose from: left, right\."),
        (("folder=both",), r"does not know\. Choose from: left, right\."),
    ],
)
def test_wishes_that_cannot_be_granted(kinds, tmp_path, wishes, sentence):
    with pytest.raises(ToonGANError, match=sentence):
        toongan.generate(GenerateConfig(run="kinds", want=wishes, out=tmp_path / "g.png"))
    assert not (tmp_path / "g.png").exists()


@pytest.mark.parametrize("wishes", [("top",), ("=bun",), "top=bun", 7, ("top=bun", "top=bob")])
def test_wishes_that_are_none(wishes):
    with pytest.raises(ToonGANError, match="want (must be wishes such as|says twice what top should be)"):
        GenerateConfig(want=wishes)


def test_wishes_as_a_dictionary():
    assert GenerateConfig(want={"top": "bun", "eyes": "happy"}).want == ("top=bun", "eyes=happy")


def test_a_run_that_draws_what_it_likes(tiny_home, tmp_path):
    with pytest.raises(ToonGANError, match=r"want asks for something, but tiny draws what it likes; train .*--ask all"):
        toongan.generate(GenerateConfig(run="tiny", want=("top=bun",), out=tmp_path / "g.png"))


@pytest.mark.parametrize(
    "ask, sentence",
    [
        ("hair", r"ask names hair, which the images do not have\. Choose from: folder\."),
        ("folders", r"Did you mean folder\?"),
        ("folder,folder", "ask names 'folder' twice"),
        ("folder,", "ask must be names separated by commas"),
        (7, "ask must be text"),
    ],
)
def test_attributes_that_are_not_there(home, two_kinds, ask, sentence):
    with pytest.raises(ToonGANError, match=sentence):
        toongan.train(config_for(two_kinds, ask=ask), progress=False)


def test_starts_that_can_be_asked_for_something_else(asked_home, home, two_kinds):
    """The sizes of such nets differ too, but no size is the cause."""
    shutil.copytree(asked_home / "checkpoints" / "kinds", home / "start")
    config = config_for(two_kinds, run="r", start=str(home / "start"), kimg=0.064)
    assert toongan.train(config, progress=False).info()["finished"]
    with pytest.raises(ToonGANError, match="start can be asked for something, but this run cannot; change --ask"):
        toongan.train(dataclasses.replace(config, ask=None), progress=False)
    record = home / "start" / "run.json"
    record.write_text(record.read_text().replace('"left"', '"up"'))
    with pytest.raises(ToonGANError, match="start can be asked for other things than this run: folder; give the same"):
        toongan.train(dataclasses.replace(config, run="other"), progress=False)
    toongan.train(dataclasses.replace(config, run="plain", ask=None, start=None), progress=False)
    with pytest.raises(ToonGANError, match="start cannot be asked for anything, but this run can; change --ask"):
        toongan.train(dataclasses.replace(config, run="other", start="plain"), progress=False)


def test_labels_that_are_missing_or_too_rare(home, few_faces, two_kinds):
    with pytest.raises(
        ToonGANError, match=r"ask needs labels, but those of avatars:?\w* are too rare or too many to learn"
    ):
        toongan.train(TrainConfig(run="r", ask="all", kimg=1, device="cpu", **TINY), progress=False)
    with pytest.raises(ToonGANError, match=r"ask needs labels, but those of folder:.* are missing; leave it out"):
        toongan.train(config_for(two_kinds / "left", count=None), progress=False)


def test_rare_kinds_are_named(home, two_kinds, capsys):
    toongan.train(config_for(two_kinds))
    assert "folder: too rare to be asked for: both." in capsys.readouterr().out


def test_from_the_command_line(kinds, asked_home, tmp_path):
    done = command(
        "generate",
        "--run",
        "kinds",
        "--want",
        "folder=left",
        "--count",
        4,
        "--out",
        tmp_path / "g.png",
        home=asked_home,
    )
    assert done.returncode == 0 and (tmp_path / "g.png").is_file(), done.stderr
    done = command("generate", "--run", "kinds", "--want", "folder=up", "--out", tmp_path / "h.png", home=asked_home)
    assert done.returncode == 2 and done.stderr.startswith("error: --want wants folder=up, which kinds does not know.")


def test_its_card_says_how_often_it_obeys(home, asked_home, capsys):
    shutil.copytree(asked_home, home, dirs_exist_ok=True)
    card = toongan.evaluate(toongan.EvaluateConfig(run="kinds", device="cpu"))
    assert list(card["wishes"]) == ["folder"]
    one = card["wishes"]["folder"]
    assert one["values"] == 2 and all(0 <= one[key] <= 1 for key in ("obeyed", "ceiling", "unasked", "stays"))
    assert re.search(
        r"asked for folder +drawn \d+ % of the time \(real images \d+ %, unasked \d+ %\)", capsys.readouterr().out
    )
    with Image.open(home / "checkpoints" / "kinds" / "metrics.png") as image:
        assert image.height > 1400, "a chart more than of a run that cannot be asked"


def test_it_is_asked_for_what_is_new_to_see_whether_it_copies(kinds):
    """Wishes that a training image has may describe it wholly: to draw it then is no copying."""
    judging = measure.Evaluation(toongan.EvaluateConfig(run="kinds", device="cpu"), progress=False)
    judging.draw()
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "draw", lambda generator, latent: asked.append(latent[:, -2:]) or judging.generated)
        judging.memorisation()
    attributes = judging.generator.attributes
    wanted = attributes.one_hot(attributes.numbers([judging.data.labels[row] for row in judging.rows]))
    assert torch.equal(asked[0], wanted) and len(judging.pairs) == measure.PAIRS


def test_a_changed_record_costs_the_wishes_and_nothing_else(home, kinds, two_kinds, monkeypatch):
    monkeypatch.setenv("TOONGAN_HOME", str(home))
    run = toongan.train(config_for(two_kinds), progress=False)
    info = json.loads(run.info_path.read_text())
    for plain in (
        {"values": 3},
        [],
        {"values": {"folder": ["a"]}, "examples": "!"},
        {"values": {"folder": list("ab") * 40}, "examples": ""},
    ):
        run.info_path.write_text(json.dumps({**info, "attributes": plain}))
        G = load_generator(run.generator_path)
        assert getattr(G, "attributes", None) is None
