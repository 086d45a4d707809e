"""Judges that see every octave, and values that move before precision does."""

import numpy as np

from toongan import metrics
from toongan.evaluation import judges
from toongan.features import mobilenet

CHANCE = np.random.default_rng(0)


def woven(real: np.ndarray, by: int = 12) -> np.ndarray:
    """Images under a checkerboard of single pixels."""
    rows, columns = np.indices(real.shape[1:3])
    weave = by * ((rows + columns) % 2 * 2 - 1)[None, :, :, None]
    return np.clip(real.astype(int) + weave, 0, 255).astype(np.uint8)


def smudged(count: int, side: int = 32) -> np.ndarray:
    """Images of a few large blots."""
    small = CHANCE.integers(40, 216, (count, 4, 4, 3), np.uint8)
    return small.repeat(side // 4, 1).repeat(side // 4, 2)


def test_shrinking_takes_the_finest_octave_away_and_no_more():
    real = smudged(8)
    assert np.array_equal(judges.shrunk(woven(real), 1), woven(real))
    assert np.abs(judges.shrunk(woven(real), 2).astype(int) - judges.shrunk(real, 2)).max() <= 1
    assert np.abs(judges.shrunk(real, 2).astype(int) - real).mean() < 12


def test_a_weave_is_far_at_the_finest_octave_and_near_at_the_next(tmp_path, monkeypatch):
    real, other, drawn = smudged(96), smudged(96), woven(smudged(96))
    found = judges.octaves(drawn, real, other, keep=tmp_path)
    with monkeypatch.context() as patch:
        seen = []
        compute = mobilenet.computed
        patch.setattr(mobilenet, "computed", lambda images, *rest: seen.append(images) or compute(images, *rest))
        assert judges.octaves(drawn, real, other, keep=tmp_path) == found
        assert [np.array_equal(each, judges.shrunk(drawn, by)) for each, by in zip(seen, (1, 2, 4), strict=True)]
        judges.octaves(drawn, real, other[::-1], keep=tmp_path)
        assert len(seen) == 9, "other images are not taken for those that are kept"
    assert list(found) == ["1", "2", "4"]
    finest, next_one = found["1"], found["2"]
    assert finest["frechet_distance"]["generated"] > 2 * finest["frechet_distance"]["floor"]
    assert next_one["frechet_distance"]["generated"] < 1.3 * next_one["frechet_distance"]["floor"]
    assert finest["auc"]["generated"] > 0.95 and 0.25 < next_one["auc"]["generated"] < 0.75


def test_the_spectrum_finds_a_weave_and_a_blur():
    real = CHANCE.integers(0, 256, (64, 32, 32, 3), np.uint8)
    other = CHANCE.integers(0, 256, (64, 32, 32, 3), np.uint8)
    assert judges.spectrum(real).shape == (2, 16)
    floor = judges.spectrum_distance(other, real)
    assert floor < 0.3 and judges.spectrum_distance(real, real) == 0
    bars = np.clip(real // 2 + 64 + 40 * (np.arange(32) % 2)[None, None, :, None], 0, 255).astype(np.uint8)
    assert judges.spectrum(bars)[0, -1] > 5 * judges.spectrum(real)[0, -1], "waves across, two pixels long"
    assert judges.spectrum(bars)[1, -1] < judges.spectrum(real)[1, -1], "none down"
    assert judges.spectrum_distance(judges.shrunk(real, 2), real) > 10 * floor


def test_precision_at_a_wider_reach_moves_first():
    real = CHANCE.normal(size=(400, 8)).astype(np.float32)
    near, far = (CHANCE.normal(size=(400, 8)).astype(np.float32) + apart for apart in (0.6, 1.5))
    by_near, by_far = judges.precision_at(near, real), judges.precision_at(far, real)
    assert list(by_near) == ["3", "10", "30", "100"]
    assert sorted(by_far.values()) == list(by_far.values()), "the wider, the more"
    assert by_far["3"] < 0.5 * by_far["30"] and by_near["10"] > by_far["10"]
    assert abs(by_near["3"] - metrics.distances(near, real)["precision"]) < 1e-6


def test_a_classifier_says_how_often_it_is_fooled():
    real, other = (CHANCE.normal(size=(600, 8)).astype(np.float32) for _ in range(2))
    same, near, far = (metrics.two_sample_test(real, other + apart) for apart in (0, 0.35, 5))
    assert 0.4 < same["fooled"] < 0.6 and 0.4 < same["auc"] < 0.6
    assert 0.15 < near["fooled"] < 0.4 and 0.7 < near["auc"] < 0.95
    assert far["fooled"] == 0 and far["auc"] == 1


def test_a_reader_of_attributes_judges_by_what_it_reads():
    kinds = CHANCE.integers(0, 2, 400)
    labels = [{"shape": ("left", "right")[kind]} for kind in kinds]
    canvas = CHANCE.integers(190, 210, (400, 32, 32, 3), np.uint8)  # no two alike
    for image, kind in zip(canvas, kinds):
        at = int(CHANCE.integers(4, 10)) + 14 * kind
        image[8:20, at : at + 4] = 30
    reader = metrics.AttributeReader(canvas[:200], labels[:200], seen=2000)
    blank = CHANCE.integers(190, 210, (100, 32, 32, 3), np.uint8)
    found = judges.by_reader(reader, blank, canvas[200:300], canvas[300:])
    assert found["frechet_distance"]["generated"] > 5 * found["frechet_distance"]["floor"]
    assert found["coverage"]["generated"] < 0.2 < 0.8 < found["coverage"]["floor"]
    assert found["confidence"]["generated"] < found["confidence"]["floor"]
