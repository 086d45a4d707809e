"""Wishes as numbers, latent vectors that carry them, a discriminator that judges by them."""

import torch

from toongan.conditional import (
    Attributes,
    ConditionalDiscriminator,
    Knowing,
    change,
    like_the_data,
    one_changed,
    random_latent,
)
from toongan.models import Discriminator, Generator, init_weights

VALUES = {"hair": ["", "bun", "bob"], "hat": ["", "red"]}
# Nobody has hair under a hat; the last one's hair cannot be asked for.
SEEN = [{"hair": "bun", "hat": ""}, {"hair": "bob", "hat": ""}, {"hair": "", "hat": "red"}, {"hair": "wig", "hat": ""}]
ATTRIBUTES = Attributes(VALUES, Attributes(VALUES, torch.empty(0)).numbers(SEEN))


def test_labels_become_numbers_and_wishes():
    numbers = ATTRIBUTES.numbers(SEEN)
    assert numbers.tolist() == [[1, 0], [2, 0], [0, 1], [-1, 0]]
    assert ATTRIBUTES.one_hot(numbers).tolist() == [
        [0, 1, 0, 1, 0],
        [0, 0, 1, 1, 0],
        [1, 0, 0, 0, 1],
        [0, 0, 0, 1, 0],
    ], "what cannot be asked for is not asked for"


def test_what_is_not_wanted_is_as_in_faces_that_have_what_is():
    chance = torch.Generator().manual_seed(0)
    anything = like_the_data(ATTRIBUTES, 200, chance)
    assert {tuple(row) for row in anything.tolist()} == {(1, 0), (2, 0), (0, 1), (-1, 0)}
    hats = like_the_data(ATTRIBUTES, 50, chance, {"hat": "red"})
    assert hats.tolist() == [[0, 1]] * 50, "without hair, as the data has it"
    three = like_the_data(ATTRIBUTES, 3, chance, {"hat": ""}).tolist()
    assert sorted(three) == [[-1, 0], [1, 0], [2, 0]], "nobody twice before all have been taken"
    both = like_the_data(ATTRIBUTES, 50, chance, {"hat": "red", "hair": "bun"})
    assert both.tolist() == [[1, 1]] * 50, "what no face has is drawn as wanted all the same"
    assert like_the_data(ATTRIBUTES, 5, chance).shape == (5, 2) and like_the_data(ATTRIBUTES, 9, chance).shape == (9, 2)
    assert ATTRIBUTES.examples.tolist() == ATTRIBUTES.numbers(SEEN).tolist(), "and nothing is changed by it"


def test_latent_vectors_end_in_wishes():
    G = Generator(32, 8 + ATTRIBUTES.length, 4)
    plain = random_latent(G, 6, torch.Generator().manual_seed(1))
    assert torch.equal(plain, torch.randn(6, 13, generator=torch.Generator().manual_seed(1))), "no wishes known"
    G.attributes = ATTRIBUTES
    latent = random_latent(G, 6, torch.Generator().manual_seed(1), 0.5, {"hair": "bun"})
    noise = torch.randn(6, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(latent[:, :8], 0.5 * noise), "wishes are not shortened"
    assert latent[:, 8:].tolist() == [[0, 1, 0, 1, 0]] * 6
    assert G(latent).shape == (6, 3, 32, 32)


def test_one_wish_is_changed_and_nothing_else():
    G = Generator(32, 8 + ATTRIBUTES.length, 4)
    G.attributes = ATTRIBUTES
    latent = one_changed(G, [("hat", "red"), ("hair", "bob")], 6, torch.Generator().manual_seed(0))
    assert latent.shape == (6, 3, 13)
    own, hat, hair = latent.unbind(1)
    assert torch.equal(hat[:, :8], own[:, :8]) and torch.equal(hair[:, :8], own[:, :8]), "the same random numbers"
    assert hat[:, 8:].tolist() == [[1, 0, 0, 0, 1]] * 6, "a hat takes the hair away, as in all faces that have one"
    assert hair[:, 8:].tolist() == [[0, 0, 1, 1, 0]] * 6, "and hair the hat"


def test_what_a_wish_needs_comes_with_it():
    values = {"glasses": ["", "round"], "color": ["", "red", "blue"], "mood": ["", "glad"]}
    seen = [("round", "red", ""), ("round", "blue", "glad"), ("", "", "glad"), ("", "", "")]
    attributes = Attributes.of(values, [dict(zip(values, row)) for row in seen])
    bare = attributes.numbers([{"glasses": "", "color": "", "mood": mood} for mood in ("", "glad", "glad")])
    with_glasses = change(attributes, bare, "glasses", "round")
    assert with_glasses[:, 0].tolist() == [1, 1, 1] and with_glasses[:, 1].tolist() == [1, 2, 1], (
        "glasses bring a colour"
    )
    assert with_glasses[:, 2].tolist() == [0, 1, 1], "the rest is left alone"
    assert change(attributes, with_glasses, "glasses", "").tolist() == bare.tolist(), "and take it away"
    assert bare[:, 0].tolist() == [0, 0, 0], "in a copy"


def test_a_conditional_discriminator_adds_how_well_wishes_fit():
    torch.manual_seed(0)
    D = init_weights(ConditionalDiscriminator(32, 4, "spectral", True, ATTRIBUTES.length))
    images, none = torch.randn(4, 3, 32, 32), torch.zeros(4, 5)
    each = torch.eye(5)
    with torch.no_grad():
        D.eval()
        alone = D(images, none)
        assert torch.allclose(alone, D.main(images).flatten()), "without wishes, the plain discriminator"
        gains = torch.stack([D(images, wish.expand(4, 5)) - alone for wish in each])
        assert gains.abs().min() > 0 and gains.std(1).min() > 0, "each wish counts, and depends on the image"
        together = D(images, (each[1] + each[3]).expand(4, 5)) - alone
        assert torch.allclose(together, gains[1] + gains[3], atol=1e-5)


def test_one_that_knows_the_wishes_is_a_plain_one_from_outside():
    torch.manual_seed(0)
    D = init_weights(ConditionalDiscriminator(32, 4, "none", False, ATTRIBUTES.length)).eval()
    wishes, real, fake = ATTRIBUTES.one_hot(ATTRIBUTES.numbers(SEEN)), *torch.randn(2, 4, 3, 32, 32)
    knowing = Knowing(D, wishes)
    both = knowing(torch.cat([real, fake]))
    assert torch.allclose(both, torch.cat([D(real, wishes), D(fake, wishes)]), atol=1e-6)
    knowing.requires_grad_(False)
    assert not any(each.requires_grad for each in D.parameters())
    assert isinstance(D, Discriminator)
