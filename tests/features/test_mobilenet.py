"""Features, and the weights they come from."""

import shutil

import numpy as np
import pytest
import torch
from conftest import REPOSITORY

from toongan import ToonGANError
from toongan.datasets.packed import open_packed
from toongan.features import FeatureNet, data_features, features_of, load_weights, mobilenet


def test_weights_are_the_ones_recorded():
    state = load_weights()
    assert len(state) == 260 and all(value.dtype == torch.float32 for value in state.values())
    for file in (REPOSITORY / "toongan" / "features" / "weights" / "README.md", REPOSITORY / "ATTRIBUTION.md"):
        assert mobilenet.WEIGHTS_SHA256 in file.read_text(encoding="utf-8"), file


def test_features_are_those_of_torchvisions_net(drawn):
    """Folding the norms and resizing change nothing."""
    from torchvision.models import mobilenet_v2
    from torchvision.transforms.functional import normalize, resize

    net = mobilenet_v2(weights=None).features.eval()
    net.load_state_dict(load_weights())
    images = torch.from_numpy(drawn[0][:4]).permute(0, 3, 1, 2) / 255
    images = normalize(resize(images, [224, 224], antialias=True), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with torch.inference_mode():
        expected = net(images).mean((2, 3)).numpy()
    np.testing.assert_allclose(features_of(drawn[0][:4]), expected, atol=2e-3)


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_bad_weights_are_refused(tmp_path, damage):
    path = tmp_path / "weights.pth"
    if damage == "changed":
        data = bytearray(mobilenet.WEIGHTS.read_bytes())
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
