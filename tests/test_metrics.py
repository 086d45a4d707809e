"""Measuring: figures know good from bad, name what is missing, repeat to the byte, and need no network."""

import json
import shutil
import socket

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, TINY, command
from makers import drawing, encoded, fill_folder, pictures
from PIL import Image

import toongan
from toongan import EvaluateConfig, ToonGANError, avatars, cli, evaluate, evaluation, features, metrics
from toongan.features import FeatureNet, data_features, features_of, load_weights
from toongan.holdout import split
from toongan.packed import open_packed

FEW = 240


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, list[dict]]:
    """720 avatars at 64 px, and their labels."""
    pairs = [avatars.draw("avataaars", number, 64) for number in range(3 * FEW)]
    names = sorted(set().union(*(seen for _, seen in pairs)))
    labels = [{name: seen.get(name, "") or "" for name in names} for _, seen in pairs]
    return np.stack([pixels for pixels, _ in pairs]), labels


@pytest.fixture(scope="module")
def real(drawn) -> tuple[np.ndarray, np.ndarray]:
    """Features of two halves of real pictures."""
    found = features_of(drawn[0][: 2 * FEW], side=96)
    return found[::2], found[1::2]


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (FEW, 64, 64, 3), np.uint8)


@pytest.fixture
def offline(monkeypatch):
    """No connection to anywhere."""

    def refuse(*arguments, **options):
        raise OSError("the network is off")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# --- what is held out ---------------------------------------------------------------------


def some_hashes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, np.uint64)


@pytest.mark.parametrize("count, held", [(16, 8), (64, 8), (65, 8), (100, 12), (20_000, 2500), (100_000, 2500)])
def test_held_out_pictures_are_never_trained_on(count, held):
    for record in (None, True):
        parts = split(some_hashes(count), record)
        assert len(parts.held_out) == held
        assert not set(parts.held_out) & set(parts.training)
        assert sorted([*parts.held_out, *parts.training]) == list(range(count))


def test_what_is_held_out_goes_by_content_alone():
    """Pictures added, removed, renamed and moved to other places: what a run held out stays so, and what it trained on too."""
    hashes = some_hashes(1000)
    parts = split(hashes)
    held, trained = set(hashes[parts.held_out]), set(hashes[parts.training])
    later = np.concatenate([some_hashes(500, seed=1), np.random.default_rng(2).permutation(hashes)[:800]])
    again = split(later, json.loads(json.dumps(parts.record("files"))))
    assert not trained & set(later[again.held_out]) and not held & set(later[again.training])
    anew = split(np.random.default_rng(3).permutation(hashes))
    assert anew.below == parts.below, "the order is nothing to it"


def test_held_out_rows_of_earlier_versions_stay_the_same_for_ever():
    """Runs of then are still judged."""
    assert split(some_hashes(64), True).held_out.tolist() == [4, 12, 20, 28, 36, 44, 52, 60]
    assert split(some_hashes(20_000), True).held_out[:3].tolist() == [4, 12, 20]
    wanted = [4, 12, 20, 29, 37, 45, 54, 62, 70, 79, 87, 95]
    assert split(some_hashes(100), True).held_out.tolist() == wanted


# --- figures know good from bad -----------------------------------------------------------


def test_a_set_is_no_distance_from_itself(real):
    found = metrics.distances(real[0], real[0])
    assert abs(found["frechet_distance"]) < 0.01
    assert found["kernel_distance"] < 0
    assert found["precision"] == found["recall"] == found["coverage"] == 1


def test_noise_is_much_farther_than_other_real_pictures(real, noise):
    floor, found = metrics.distances(*real), metrics.distances(features_of(noise, side=96), real[1])
    assert found["frechet_distance"] > 5 * floor["frechet_distance"]
    assert found["kernel_distance"] - found["kernel_error"] > 5 * (
        abs(floor["kernel_distance"]) + floor["kernel_error"]
    )
    assert abs(floor["kernel_distance"]) < 2 * floor["kernel_error"], "no bias at a small count"
    assert found["recall"] == 0 and found["coverage"] < 0.05 and found["density"] < 0.5
    assert min(floor["precision"], floor["recall"], floor["coverage"]) > 0.6
    assert 0.8 < floor["density"] < 1.2


def test_a_repeated_picture_is_precise_but_recalls_nothing(real):
    found = metrics.distances(np.repeat(real[1][:1], FEW, axis=0), real[1])
    assert found["precision"] == 1
    assert found["recall"] < 0.02 and found["coverage"] < 0.1


def test_too_few_pictures(real):
    with pytest.raises(ToonGANError, match="count is 5, too few"):
        metrics.distances(real[0][:5], real[1])


def test_two_sample_test_is_at_half_for_real_and_at_one_for_noise(real, noise):
    floor = metrics.two_sample_test(*real)
    assert floor["low"] < 0.5 < floor["high"]
    found = metrics.two_sample_test(real[0], features_of(noise, side=96))
    assert found["accuracy"] > 0.98 and found["low"] < found["accuracy"] <= found["high"] <= 1
    assert metrics.two_sample_test(*real) == floor, "the same every time"


def test_quick_distance_is_the_librarys(drawn):
    pictures = drawn[0]
    quick = metrics.QuickDistance(pictures[::2])
    exact = metrics.distances(features_of(pictures[1::2], side=96), features_of(pictures[::2], side=96))
    assert quick.distance(pictures[1::2]) == pytest.approx(exact["frechet_distance"], rel=1e-3)
    assert quick.distance(pictures[::2]) == pytest.approx(0, abs=1e-3)
    assert quick.distance(pictures[1::2] // 2) > 1.5 * quick.distance(pictures[1::2])


def test_quick_distance_leaves_training_alone(drawn):
    quick = metrics.QuickDistance(drawn[0][:32])
    state, weight = torch.get_rng_state(), torch.ones(1, requires_grad=True)
    first = metrics.QuickDistance(drawn[0][:32]).distance(drawn[0][32:64])
    with torch.autocast("cpu", torch.bfloat16):
        assert quick.distance(drawn[0][32:64]) == first, "in full precision, whatever the training uses"
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled() and (2 * weight).requires_grad


# --- attributes ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hair() -> tuple:
    """A reader of five hair styles, with pictures and labels to test it on."""
    styles = ("bob", "fro", "hijab", "shortFlat", "winterHat1")
    wanted = {style: [] for style in styles}
    number = 0
    while any(len(found) < 60 for found in wanted.values()):
        _, seen = avatars.compose("avataaars", number)
        if len(wanted.get(seen.get("top"), range(60))) < 60:
            wanted[seen["top"]].append(number)
        number += 1
    numbers = np.array(list(wanted.values()))
    pictures = {n: avatars.draw("avataaars", n, 64)[0] for n in numbers.ravel().tolist()}

    def some(start: int, stop: int) -> tuple[np.ndarray, list[dict]]:
        rows = numbers[:, start:stop].ravel().tolist()
        labels = [{"top": style, "nose": "default"} for style in styles for _ in range(start, stop)]
        return np.stack([pictures[row] for row in rows]), labels

    return metrics.AttributeReader(*some(0, 30)), some(30, 45), some(45, 60)


def test_a_forgotten_hair_style_is_named(hair):
    reader, (held_out, labels), (others, names) = hair
    assert list(reader.values) == ["top"], "an attribute with one value has nothing to tell"
    poor = others[[label["top"] != "hijab" for label in names]]
    found = metrics.attribute_coverage(reader, poor, held_out, labels, others)["top"]
    assert found["legible"] and found["accuracy"] > 0.85
    assert found["forgotten"] == ["hijab"] and found["values"] == 5
    assert found["distance"] > 0.15 and found["distance"] > found["floor"]
    complete = metrics.attribute_coverage(reader, others, held_out, labels, others)["top"]
    assert complete["forgotten"] == [] and complete["distance"] == complete["floor"] < 0.15


def test_what_cannot_be_read_is_left_out(hair):
    reader, (held_out, labels), (others, _) = hair
    wrong = [{"top": label["top"]} for label in reversed(labels)]
    found = metrics.attribute_coverage(reader, others, held_out, wrong, others)["top"]
    assert not found["legible"] and set(found) == {"accuracy", "legible"}


def test_learnable_attributes():
    labels = [
        {"file": str(i), "hair": "ab"[i % 2], "nose": "one", "rare": "x" if i < 25 else str(i)} for i in range(60)
    ]
    assert metrics.learnable(labels) == {"hair": ["a", "b"]}
    assert metrics.learnable([]) == metrics.learnable([{}] * 60) == {}


# --- memory -------------------------------------------------------------------------------


def test_copies_are_noticed(drawn):
    pictures = drawn[0]
    training, held_out, new = pictures[::3], pictures[1::3], pictures[2::3]
    honest = metrics.memorisation(new, held_out, training)
    assert honest["copies"] < 0.1 and 0.9 < honest["ratio"] < 1.1 and 0.4 < honest["prefers_training"] < 0.6
    copied = np.concatenate([training[: FEW // 2], new[FEW // 2 :]])
    caught = metrics.memorisation(copied, held_out, training)
    assert caught["copies"] > 0.45 and caught["ratio"] < 0.9 and caught["prefers_training"] > 0.7
    row, apart = metrics.nearest(training[:20], training)
    assert row.tolist() == list(range(20)) and apart.max() == 0


# --- features -----------------------------------------------------------------------------


def test_weights_are_the_ones_recorded():
    state = load_weights()
    assert len(state) == 260 and all(value.dtype == torch.float32 for value in state.values())
    for file in (REPOSITORY / "toongan" / "weights" / "README.md", REPOSITORY / "ATTRIBUTION.md"):
        assert features.WEIGHTS_SHA256 in file.read_text(encoding="utf-8"), file


def test_features_are_those_of_torchvisions_net(drawn):
    """Folding the norms and resizing change nothing."""
    from torchvision.models import mobilenet_v2
    from torchvision.transforms.functional import normalize, resize

    net = mobilenet_v2(weights=None).features.eval()
    net.load_state_dict(load_weights())
    pictures = torch.from_numpy(drawn[0][:4]).permute(0, 3, 1, 2) / 255
    pictures = normalize(resize(pictures, [224, 224], antialias=True), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        expected = net(pictures).mean((2, 3)).numpy()
    np.testing.assert_allclose(features_of(drawn[0][:4]), expected, atol=2e-3)


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_bad_weights_are_refused(tmp_path, damage):
    path = tmp_path / "weights.pth"
    if damage == "changed":
        data = bytearray(features.WEIGHTS.read_bytes())
        data[1_000_000] ^= 1
        path.write_bytes(data)
    with pytest.raises(ToonGANError, match="install the package again"):
        load_weights(path)


def test_features_of_the_data_are_kept(tiny_home, tmp_path, monkeypatch):
    source = next((tiny_home / "data").glob("avatars-*/32px"))
    shutil.copytree(source, tmp_path / "32px", ignore=shutil.ignore_patterns("features"))
    data, rows = open_packed(tmp_path / "32px"), np.arange(0, 128, 16)
    first = data_features(data, rows)
    (kept,) = (tmp_path / "32px" / "features").iterdir()
    whole = kept.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(FeatureNet, "forward", lambda *_: pytest.fail("the kept ones are not used"))
        assert np.array_equal(data_features(data, rows), first)
    assert not np.array_equal(data_features(data, rows + 1), first)
    for damaged in (b"", whole[:5000], whole[:9000] + bytes(8) + whole[9008:]):
        kept.write_bytes(damaged)
        assert np.array_equal(data_features(data, rows), first)
        assert kept.read_bytes() == whole


# --- the command --------------------------------------------------------------------------


GOOD = {
    "compared_with": {"never_trained_on": True, "as_in_training": True},
    "memorisation": {"copies": 0.01},
    "count": 2500,
    "variety": 1.0,
    "figures": {"precision": {"generated": 0.7}, "recall": {"generated": 0.6}},
    "attributes": {"top": {"legible": True, "values": 34, "forgotten": []}},
}


def test_a_good_card_has_nothing_to_add_and_a_bad_one_says_what():
    assert evaluation.findings(GOOD) == []
    bad = {
        "memorisation": {"copies": 0.4},
        "count": 100,
        "variety": 0.03,
        "figures": {"precision": {"generated": 0.0}, "recall": {"generated": 0.0}},
        "attributes": {
            "top": {"legible": True, "values": 34, "forgotten": ["bob", ""]},
            "eyes": {"legible": False},
        },
    }
    expected = {
        "memorisation": "G copies: 40 %",
        "count": "100 pictures are few",
        "variety": "G repeats itself: its pictures are only 3 % as varied",
        "figures": "precision and recall are 0",
        "attributes": "top: 2 of 34 values forgotten: bob, none.",
    }
    for key, text in expected.items():
        said = evaluation.findings({**GOOD, key: bad[key]})
        assert text in said[0], key
    assert "cannot read them on real pictures: eyes." in said[1]


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
    assert "16 generated pictures against 16 held out from 128 of avatars, seed 0" in done.stdout
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
    assert "G repeats itself: its pictures are only 0 % as varied as real ones." in out
    card = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert card["figures"]["recall"]["generated"] == 0


@pytest.mark.parametrize("held_out, says", [(True, False), (None, True)])
def test_a_run_that_was_trained_on_all_pictures_says_so(shared_home, home, held_out, says):
    """Runs of earlier versions: True where pictures were held out by their position, nothing where none were."""
    folder = copy_of(shared_home, home)
    info = json.loads((folder / "run.json").read_text())
    info["data"].pop("held_out", None)
    if held_out:
        info["data"]["held_out"] = True
    (folder / "run.json").write_text(json.dumps(info))
    config = EvaluateConfig(run="tiny", count=8, device="cpu")
    against = evaluation.Evaluation(config, progress=False).provenance()
    assert against["never_trained_on"] is not says and against["as_in_training"]
    said = evaluation.findings({**GOOD, "compared_with": against})
    assert any("trained on all pictures" in sentence for sentence in said) is says
    assert len(said) == says


def test_pictures_without_labels_leave_attributes_out(shared_home, home):
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


def test_a_picture_added_later_makes_no_trained_picture_a_held_out_one(home):
    """The card's promise holds for the changed folder, and another folder's pictures get none."""
    folder = fill_folder(home / "mine", pictures(200))
    settings = dict(count=None, dataset=f"folder:{folder}", kimg=0.32, device="cpu")
    run = toongan.train(toongan.TrainConfig(run="r", **{**TINY, **settings}), progress=False)
    before = toongan.prepare(toongan.DataConfig(f"folder:{folder}", image_size=32), progress=False)
    trained = set(before.hashes[split(before.hashes, run.info()["data"]["held_out"]).training])
    for number in range(200, 240):  # in front of all others, so that every position changes
        (folder / f"a-{number}.png").write_bytes(encoded(drawing(number)))
    (folder / "face-0007.png").rename(folder / "zzz.png")
    judging = evaluation.Evaluation(EvaluateConfig(run="r", device="cpu"), progress=False)
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


def test_fid_is_named_where_it_is_one(monkeypatch, shared_home, home, capsys):
    """With Inception's figures given, the card and the table call them FID and KID."""
    copy_of(shared_home, home)
    one = {
        "frechet_inception_distance": 12.3,
        "kernel_inception_distance_mean": 0.004,
        "kernel_inception_distance_std": 0.001,
    }
    monkeypatch.setattr(evaluation, "calculate_metrics", lambda **_: one)
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
