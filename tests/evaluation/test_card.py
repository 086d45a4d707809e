"""What a card says."""

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
        "wishes": "Asked for it, G draws it in fewer than half of the cases that are possible: eyes.",
    }
    for key, text in expected.items():
        said = card.findings({**GOOD, key: bad[key]})
        assert text in said[0], key
        if key == "attributes":
            assert "cannot read them on real images: eyes." in said[1]
