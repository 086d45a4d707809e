"""Loading nets: sizes are inferred, and anything else is refused with a sentence."""

import gzip
import json
import os
import pickle
import zipfile

import pytest
import torch

from toongan import ToonGANError, load_discriminator, load_generator
from toongan.models import Discriminator, Generator
from toongan.runs import checkpoints
from toongan.runs.state_dicts import save_state


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


@pytest.mark.parametrize("before", ["", "main.", "module.", "module.main.", "_orig_mod.module.main.", "module.module."])
def test_prefixes_of_other_programs(tmp_path, before):
    for kind, load, net in (
        ("G", load_generator, Generator(32, 7, 4)),
        ("G", load_generator, Generator(32, 7, 4, channels=4, colours=5)),
        ("D", load_discriminator, Discriminator(32, 4)),
        ("D", load_discriminator, Discriminator(32, 4, channels=1, differences=True)),
    ):
        around = before.removesuffix("main.")
        names = {key: key.replace("main.", before, 1) if "main" in key else around + key for key in net.state_dict()}
        state = {names[key]: value for key, value in net.state_dict().items()}
        torch.save(state, tmp_path / f"{kind}.pth")
        loaded = load(tmp_path / f"{kind}.pth").state_dict()
        assert all(torch.equal(value, loaded[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("rows", [torch.tensor(1.0), torch.zeros(7, 7), torch.zeros(10, 7), torch.zeros(15, 9)])
def test_a_palette_that_does_not_fit(tmp_path, rows):
    """Neither 1, 3 nor 4 numbers for each of five colours, or of another latent vector."""
    state = Generator(32, 7, 4, colours=5).state_dict()
    torch.save({**state, "palette.colours.weight": rows}, tmp_path / "G.pth")
    with pytest.raises(ToonGANError, match="G.pth is not a generator of this series"):
        load_generator(tmp_path / "G.pth")
    with pytest.raises(ToonGANError, match="G.pth is a generator; load_discriminator needs a D.pth"):
        load_discriminator(tmp_path / "G.pth")


def test_layers_in_the_order_of_their_names_and_without_counters(tmp_path):
    net = Generator(128, 7, 4)
    state = {key: value for key, value in sorted(net.state_dict().items()) if "num_batches" not in key}
    torch.save(state, tmp_path / "G.pth")
    assert load_generator(tmp_path / "G.pth").image_size == 128


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision(tmp_path, dtype):
    net = Generator(32, 7, 4)
    torch.save(net.to(dtype).state_dict(), tmp_path / "G.pth")
    loaded = load_generator(tmp_path / "G.pth")
    assert torch.equal(loaded.main[0].weight, net.main[0].weight.float())
    assert loaded(torch.zeros(1, 7)).dtype == torch.float32


def test_a_file_of_the_older_format(tmp_path):
    torch.save(Generator(32, 7, 4).state_dict(), tmp_path / "G.pth", _use_new_zipfile_serialization=False)
    assert load_generator(tmp_path / "G.pth").latent_dim == 7


def test_a_byte_that_changed_on_the_disk(tmp_path):
    """PyTorch itself reads such a file without a word, and would draw with another weight."""
    path = tmp_path / "G.pth"
    save_state(path, Generator(32, 4, 4))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 64
    whole = path.read_bytes()
    for content in (bytes(data), bytes(data) + whole, b"PK" + whole):
        path.write_bytes(content)
        with pytest.raises(ToonGANError, match="G.pth is damaged; train the run again"):
            load_generator(path)


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
        case "folder":
            path.mkdir()
        case "git lfs":
            path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
        case "web page":
            path.write_text("\n<!DOCTYPE html><html><title>Sign in</title></html>")
        case "gzip":
            path.write_bytes(gzip.compress(b"anything"))
        case "checkpoint":
            path.write_bytes(checkpoints.encode({"settings": {}, "done": 1, "trainer": {"G": {}}}))
        case "checkpoint of another program":
            torch.save({"epoch": 3, "model": {}, "optimizer": {}}, path)
        case "safetensors":
            header = json.dumps({"main.0.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
            path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
        case "other zip":
            with zipfile.ZipFile(path, "w") as archive:
                for name in ("G.pth", "D.pth", "notes.txt"):
                    archive.writestr(name, "x")
        case "program":
            with zipfile.ZipFile(path, "w") as archive:  # as torch.jit.save writes one
                for name in ("G/data.pkl", "G/constants.pkl", "G/code/__torch__.py"):
                    archive.writestr(name, "x")
        case "nan":
            state = Generator(32, 4, 4).state_dict()
            state["main.3.weight"][0, 0, 0, 0] = torch.nan
            torch.save(state, path)
        case "integers":
            torch.save(
                {key: (value * 100).to(torch.int8) for key, value in Generator(32, 4, 4).state_dict().items()}, path
            )
        case "too few layers":
            torch.save(
                {key: value for key, value in Generator(32, 4, 4).state_dict().items() if ".4." not in key}, path
            )
        case "too many layers":
            torch.save({**Generator(32, 4, 4).state_dict(), "main.99.bias": torch.zeros(3)}, path)
        case "two channels":
            torch.save({**Generator(32, 4, 4).state_dict(), "main.9.weight": torch.zeros(4, 2, 4, 4)}, path)
        case "too wide":
            torch.save({f"main.{i}.weight": torch.zeros(1, 3, 1, 1).expand(10**9, 3, 1, 1) for i in range(4)}, path)
        case "twice":
            state = Generator(32, 4, 4).state_dict()
            torch.save({**state, **{f"module.{key}": value for key, value in state.items()}}, path)
        case "in parts":
            torch.save(Generator(32, 4, 4, smooth=True).state_dict(), path)
        case "numbered":
            torch.save(dict(enumerate(Generator(32, 4, 4).parameters())), path)
        case "nothing":
            torch.save({}, path)
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
        ("discriminator", "is a discriminator; load_generator needs a G.pth"),
        ("other net", "is not a generator of this series"),
        ("other net", "it has 0 convolutions, but nets for 32, 64, 128 and 256 px have 4, 5, 6 and 7"),
        ("other layers", "is not a generator of this series: main.3.weight is 5×5×4×4, not 16×8×4×4"),
        ("folder", "is a folder; give the G.pth or D.pth in it"),
        ("git lfs", "is a Git LFS pointer, not the net; fetch the net with: git lfs pull"),
        ("web page", "is a web page, not a net; .* Download the file itself again"),
        ("gzip", "is packed with gzip; unpack it first"),
        ("checkpoint", "is a checkpoint, from which a run continues; the nets are in the G.pth and D.pth beside it"),
        ("checkpoint of another program", "not a plain state dict but holds epoch, model and 1 more; save it with"),
        ("safetensors", "is a safetensors file; turn it into a state dict: torch.save"),
        ("other zip", "is a zip archive that holds G.pth, D.pth and 1 more; unpack it"),
        ("program", "is a TorchScript program and was not opened, since it holds code; save it with"),
        ("nan", r"not numbers any more \(NaN or infinite, first in main.3.weight\); use the G-best.pth beside it"),
        ("integers", "main.0.weight holds no real numbers but int8"),
        ("too few layers", "missing: main.4.weight, main.4.bias and 2 more"),
        ("too many layers", "unexpected: main.99.bias"),
        ("two channels", "its last layer makes 2 channels, not the 1, 3 or 4 of an image"),
        ("too wide", "its latent_dim would be 1000000000, but the limit is 4096"),
        ("twice", "holds some layers twice, under two prefixes"),
        ("in parts", r"weights in parts \(parametrizations\); save it with toongan.runs.save_state"),
        ("numbered", "not a plain state dict but holds 0, 1 and .* more"),
        ("nothing", "it has 0 convolutions"),
    ],
)
def test_what_is_no_generator(tmp_path, capsys, kind, says):
    with pytest.raises(ToonGANError, match=says) as caught:
        load_generator(broken(tmp_path, kind))
    assert "G.pth" in str(caught.value) and "\n" not in str(caught.value)
    assert "never be printed" not in capsys.readouterr().out


def test_a_name_that_is_no_utf_8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.pth")
    with pytest.raises(ToonGANError) as caught:
        load_generator(path)
    assert r"caf\xe9.pth; train a run first" in str(caught.value), "a notebook cannot show half a letter"
    save_state(path, Generator(32, 4, 4))
    assert load_generator(path).image_size == 32


def test_a_generator_is_no_discriminator(tmp_path):
    save_state(tmp_path / "D.pth", Generator(32, 4, 4))
    with pytest.raises(ToonGANError, match="is a generator; load_discriminator needs a D.pth"):
        load_discriminator(tmp_path / "D.pth")
