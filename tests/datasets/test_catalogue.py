"""Data sets by name."""

import csv
import hashlib
import json

import numpy as np

import toongan
from toongan.datasets import avatars


def test_prepared_set_is_drawn_once_and_labelled(home, capsys):
    config = toongan.DataConfig("avatars", count=100, image_size=32)
    data = toongan.prepare(config)
    assert "Drawing avataaars" in capsys.readouterr().out
    assert data.images.shape == (100, 32, 32, 3) and data.images.dtype == np.uint8
    stamp = (data.folder / "images.npy").stat().st_mtime_ns
    again = toongan.prepare(config)
    assert (again.folder / "images.npy").stat().st_mtime_ns == stamp
    assert "Drawing" not in capsys.readouterr().out
    pixels, seen = avatars.draw("avataaars", 42, 32)
    assert (again.images[42] == pixels).all()
    assert {name: value for name, value in again.labels[42].items() if value} == seen
    with open(data.folder / "index.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 100
    svg, _ = avatars.compose("avataaars", 42)
    assert again.index[42]["sha256"] == hashlib.sha256(svg.encode()).hexdigest()
    meta = json.loads((data.folder / "meta.json").read_text(encoding="utf-8"))
    assert meta["count"] == 100 and meta["credit"]["creator"] == "Pablo Stanley"


def test_fewer_are_a_prefix_and_more_are_drawn_anew(home):
    first = toongan.prepare(toongan.DataConfig("avatars", count=100, image_size=32), progress=False)
    fewer = toongan.prepare(toongan.DataConfig("avatars", count=64, image_size=32), progress=False)
    assert (fewer.images == first.images[:64]).all() and len(fewer.labels) == 64
    assert fewer.fingerprint != first.fingerprint
    more = toongan.prepare(toongan.DataConfig("avatars", count=130, image_size=32), progress=False)
    assert len(more) == 130 and (more.images[:64] == fewer.images).all()
