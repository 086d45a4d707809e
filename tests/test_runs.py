"""Loading nets: sizes are inferred, and anything else is refused with a sentence."""

import pickle

import pytest
import torch

from toongan import ToonGANError, find_run, load_discriminator, load_generator
from toongan.models import Discriminator, Generator
from toongan.paths import atomic_write
from toongan.runs import save_state


class Harmful:
    """A pickle that would run code when loaded."""

    def __reduce__(self):
        return (print, ("this must never be printed",))


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_sizes_are_inferred(tmp_path, size):
    save_state(tmp_path / "G.pth", Generator(size, latent_dim=17, base_channels=6))
    save_state(tmp_path / "D.pth", Discriminator(size, base_channels=6, norm="spectral"))
    G, D = load_generator(tmp_path / "G.pth"), load_discriminator(str(tmp_path / "D.pth"))
    assert (G.image_size, G.latent_dim, G.base_channels) == (size, 17, 6)
    assert (D.image_size, D.base_channels) == (size, 6)
    assert not G.training
    assert D(G(torch.randn(2, 17))).shape == (2,)


def test_same_weights_same_bytes(tmp_path):
    net = Generator(32, 4, 4)
    assert save_state(tmp_path / "a.pth", net) == save_state(tmp_path / "b.pth", net)
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


def broken(tmp_path, kind):
    path = tmp_path / "G.pth"
    match kind:
        case "missing":
            pass
        case "empty":
            path.touch()
        case "text":
            path.write_text("not a net")
        case "truncated":
            save_state(path, Generator(32, 4, 4))
            path.write_bytes(path.read_bytes()[:-1000])
        case "code":
            torch.save(Harmful(), path)
        case "plain pickle with code":
            path.write_bytes(pickle.dumps(Harmful(), protocol=2))
        case "whole module":
            torch.save(Generator(32, 4, 4), path)
        case "list":
            torch.save([1, 2, 3], path)
        case "discriminator":
            save_state(path, Discriminator(32, 4))
        case "other net":
            torch.save(torch.nn.Linear(3, 3).state_dict(), path)
        case "other layers":
            state = Generator(32, 4, 4).state_dict()
            state["main.3.weight"] = torch.zeros(5, 5, 4, 4)
            torch.save(state, path)
    return path


@pytest.mark.parametrize(
    "kind, says",
    [
        ("missing", "There is no file .*train a run first"),
        ("empty", "is empty; train the run again"),
        ("text", "not a plain state dict|is damaged"),
        ("truncated", "is damaged; train the run again"),
        ("code", "was not opened, since it may hold code"),
        ("plain pickle with code", "was not opened, since it may hold code"),
        ("whole module", "was not opened, since it may hold code"),
        ("list", "is not a plain state dict"),
        ("discriminator", "is a discriminator; load_generator wants a G.pth"),
        ("other net", "is not a generator of this series"),
        ("other layers", "is not a generator of this series"),
    ],
)
def test_what_is_no_generator(tmp_path, capsys, kind, says):
    with pytest.raises(ToonGANError, match=says) as caught:
        load_generator(broken(tmp_path, kind))
    assert "G.pth" in str(caught.value) and "\n" not in str(caught.value)
    assert "never be printed" not in capsys.readouterr().out


def test_a_generator_is_no_discriminator(tmp_path):
    save_state(tmp_path / "D.pth", Generator(32, 4, 4))
    with pytest.raises(ToonGANError, match="is a generator; load_discriminator wants a D.pth"):
        load_discriminator(tmp_path / "D.pth")


def test_find_run_names_the_command(home):
    with pytest.raises(ToonGANError, match="python -m toongan train --run nobody"):
        find_run("nobody")


def test_find_run_falls_back_to_the_one_that_ships(home):
    run = find_run("nobody", "avatars-64")
    assert load_generator(run.generator_path).image_size == 64
    assert len(run.grids) > 3 and run.info()["finished"]


def test_atomic_write_keeps_the_old_file_on_failure(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(ToonGANError, match="Cannot write .*No space left.*free some space"):
        with atomic_write(path) as part:
            part.write_text("half")
            raise OSError(28, "No space left on device")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_run_that_is_not_there(tiny_home):
    with pytest.raises(
        ToonGANError, match="nope has no G.pth .* train it first: .* --run nope; or take one that is there: .*tiny"
    ):
        find_run("nope")
