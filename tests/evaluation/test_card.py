"""What a card says, and how it looks."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import REPOSITORY
from matplotlib.legend import Legend

from toongan.evaluation import card

GOOD = {
    "compared_with": {"never_trained_on": True, "as_in_training": True},
    "memorisation": {"copies": 0.01},
    "count": 2500,
    "variety": 1.0,
    "figures": {"precision": {"generated": 0.7}, "recall": {"generated": 0.6}},
    "attributes": {"top": {"legible": True, "values": 34, "forgotten": []}},
}


def test_a_good_card_has_nothing_to_add_and_a_bad_one_says_what():
    assert card.findings(GOOD) == []
    bad = {
        "memorisation": {"copies": 0.4},
        "count": 100,
        "variety": 0.03,
        "figures": {"precision": {"generated": 0.0}, "recall": {"generated": 0.0}},
        "attributes": {
            "top": {"legible": True, "values": 34, "forgotten": ["bob", ""]},
            "eyes": {"legible": False},
        },
        "wishes": {"top": {"obeyed": 0.8, "ceiling": 0.9}, "eyes": {"obeyed": 0.3, "ceiling": 0.9}},
    }
    expected = {
        "memorisation": "G copies: 40 %",
        "count": "100 images are few",
        "variety": "G repeats itself: its images are only 3 % as varied",
        "figures": "precision and recall are 0",
        "attributes": "top: 2 of 34 values forgotten: bob, none.",
        "wishes": "G draws these in fewer than half of the possible cases when asked for them: eyes.",
    }
    for key, text in expected.items():
        said = card.findings({**GOOD, key: bad[key]})
        assert text in said[0], key
        if key == "attributes":
            assert "cannot read them even on real images: eyes." in said[1]


@pytest.mark.parametrize("run", ["avatars-64", "on-request-64"])
def test_on_a_card_no_legend_covers_data_and_no_text_is_cut_off(run):
    values = json.loads((REPOSITORY / "checkpoints" / run / "metrics.json").read_text(encoding="utf-8"))
    fig = card.plot_card(values, [(image := np.zeros((8, 8, 3), np.uint8), image, 1.0)] * 3)
    fig.canvas.draw()
    whole, axes = fig.bbox, [ax for ax in fig.findobj(plt.Axes) if ax.axison]
    legends = fig.findobj(Legend)
    assert len(legends) >= 4 and len(axes) >= 5
    for legend in legends:
        box = legend.get_window_extent()
        assert not any(box.shrunk(0.98, 0.98).overlaps(ax.bbox.shrunk(0.98, 0.98)) for ax in axes), legend.get_texts()
    headings = [text for part in (fig, *fig.subfigs) for text in part.texts]
    headings += [text for ax in axes for text in (ax.title, ax.xaxis.label, ax.yaxis.label)]
    assert len(headings) > 15
    for text in filter(plt.Text.get_text, headings):
        box = text.get_window_extent()
        assert whole.x0 - 1 <= box.x0 and box.x1 <= whole.x1 + 1, text.get_text()
    plt.close(fig)
