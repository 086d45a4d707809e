"""Files for other tools: ONNX, a folder for the Hugging Face Hub, a film."""

import base64
import hashlib
import http.server
import json
import sys
import threading

import numpy as np
import pytest
import torch
from conftest import command
from makers import Server
from test_page import made

import toongan
from toongan import ToonGANError
from toongan.conditional import Attributes, random_latent
from toongan.config import GenerateConfig, ShareFilmConfig, ShareHubConfig, ShareOnnxConfig, SharePageConfig
from toongan.runs import draw
from toongan.runs.state_dicts import save_state
from toongan.sharing import onnx_file, share
from toongan.sharing.page import page_of
from toongan.system import extras


def attributes() -> Attributes:
    return Attributes({"top": ["bun", "hat"], "colour": ["#ff0000", "", "#0000ff"]}, torch.tensor([[0, 0], [1, 1]]))


@pytest.mark.parametrize("wishes, colours", [(False, 0), (True, 0), (True, 5)])
def test_onnx_draws_the_same(home, wishes, colours):
    import onnx
    import onnxruntime

    run = made(home, attributes=attributes() if wishes else None, colours=colours)
    path = share(ShareOnnxConfig(run="made"), progress=False)
    assert path == home / "generated" / "made" / "G.onnx" and not list(path.parent.glob("*.data"))
    G = toongan.load_generator(run.generator_path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for count in (1, 7):
        latent = random_latent(G, count, torch.Generator().manual_seed(count))
        (images,) = session.run(None, {"latent": latent.numpy()})
        with torch.no_grad():
            assert np.abs(images - G(latent).numpy()).max() < 1e-4
    model = onnx.load(path)
    assert [each.name for each in model.graph.output] == ["images"]
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    about = {each.key: each.value for each in model.metadata_props}
    assert about["run"] == "made" and (json.loads(about["attributes"])["top"] == ["bun", "hat"] if wishes else True)


def test_an_onnx_file_that_draws_something_else_is_not_kept(home, monkeypatch):
    made(home)
    monkeypatch.setattr(onnx_file, "difference", lambda generator, path: 0.3)
    with pytest.raises(ToonGANError, match="would draw other images than PyTorch does"):
        share(ShareOnnxConfig(run="made"), progress=False)
    assert not [path for path in (home / "generated" / "made").iterdir() if path.name != ".toongan"]


@pytest.mark.parametrize(
    "config, says",
    [
        (ShareOnnxConfig(run="made"), "onnx and onnxscript are needed for this, and not installed; first run: .* install onnx onnxscript"),
        (ShareHubConfig(run="made"), "huggingface_hub is needed for this, and not installed"),
        (ShareFilmConfig(run="made"), "av is needed for this, and not installed"),
    ],
)  # fmt: skip
def test_missing_extras(home, monkeypatch, config, says):
    made(home)
    for name in ("onnx", "onnxscript", "huggingface_hub", "av"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ToonGANError, match=says):
        share(config, progress=False)
    assert not (home / "generated" / "made" / "hub").exists()
    assert extras.needed("json")[0] is json


@pytest.mark.parametrize("wishes, colours", [(False, 0), (True, 0), (False, 5)])
def test_the_hub_folder_comes_back(home, wishes, colours):
    from huggingface_hub import ModelCard

    from toongan.sharing.hub import HubGenerator

    run = made(home, attributes=attributes() if wishes else None, colours=colours)
    folder = share(ShareHubConfig(run="made"), progress=False)
    assert sorted(path.name for path in folder.iterdir()) == [
        ".toongan", "README.md", "config.json", "faces.html", "model.safetensors", "samples.png",
    ]  # fmt: skip
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1, "others may read all of them, or none"
    again, G = HubGenerator.from_pretrained(folder).eval(), toongan.load_generator(run.generator_path)
    latent = random_latent(again, 8, torch.Generator().manual_seed(0))
    assert np.array_equal(draw(again, latent), draw(G, latent))
    assert bool(again.attributes) == wishes
    card = ModelCard.load(folder / "README.md")
    assert card.data.license == "other" and card.data.pipeline_tag == "unconditional-image-generation"
    assert "folder:" not in card.content + (folder / "faces.html").read_text(encoding="utf-8"), (
        "nobody's path is published"
    )
    assert "None" not in card.content and "?" not in card.content and "OWNER/made" in card.content
    snippet = card.text.partition("```python\n")[2].partition("```")[0].replace('"OWNER/made"', repr(str(folder)))
    names = {}
    exec(snippet, names)
    assert names["faces"].shape == (16, 32, 32, 3)
    share(ShareHubConfig(run="made"), progress=False)  # made anew, in the place of its own


def measured(run: toongan.Run, **provenance) -> None:
    """Give a run a card, as `evaluate` would."""
    names = ("frechet_distance", "kernel_distance", "precision", "recall")
    card = {
        "generator": hashlib.sha256(run.generator_path.read_bytes()).hexdigest(),
        "count": 2500,
        "figures": {name: {"generated": 12.5, "floor": 3.0} for name in names},
        "compared_with": {"dataset": "cartoonset10k", "never_trained_on": True, **provenance},
    }
    (run.checkpoints / "metrics.json").write_text(json.dumps(card))


def test_a_card_with_figures(home):
    from huggingface_hub import ModelCard

    run = made(home)
    measured(run)
    info = json.loads(run.info_path.read_text())
    info["settings"]["dataset"], info["data"] = "cartoonset10k", {"trained_on": 8750}
    run.info_path.write_text(json.dumps(info))
    card = ModelCard.load(share(ShareHubConfig(run="made"), progress=False) / "README.md")
    assert card.data.license == "cc-by-4.0" and card.data.model_name == "made"
    result = card.data.eval_results[0]
    assert (result.metric_value, result.dataset_type) == (12.5, "cartoonset10k") and "2,500" in result.dataset_name
    assert "8,750 of cartoonset10k: Cartoon Set, Google; licence: CC BY 4.0" in card.text
    assert "2,500 images of cartoonset10k that it was never trained on" in card.text


def test_figures_of_other_images_and_of_an_earlier_generator(home):
    """Nothing is published that is not true of this very generator."""
    run = made(home)
    measured(run, dataset="folder:/home/me/cats", never_trained_on=False)
    for text in (page_of(run), (share(ShareHubConfig(run="made"), progress=False) / "README.md").read_text("utf-8")):
        assert "12.5" in text and "never trained on" not in text and "/home/me" not in text
        assert "2,500 images of the author" in text and "it may have been trained on some of them" in text
    G = toongan.load_generator(run.generator_path)
    with torch.no_grad():
        G.main[0].weight.add_(0.01)  # trained further
    save_state(run.generator_path, G)
    for text in (page_of(run), (share(ShareHubConfig(run="made"), progress=False) / "README.md").read_text("utf-8")):
        assert "12.5" not in text and "2,500 images" not in text


@pytest.mark.parametrize("theirs", [{"diary.txt": "dear diary"}, {"config.json": "{}", "model.safetensors": "weights"}])
def test_a_folder_of_others_is_not_touched(home, theirs):
    made(home)
    mine = home / "mine"
    mine.mkdir()
    for name, text in theirs.items():
        (mine / name).write_text(text)
    with pytest.raises(ToonGANError, match="out is .*mine, which holds something else already"):
        share(ShareHubConfig(run="made", out=mine), progress=False)
    assert {path.name: path.read_text() for path in mine.iterdir()} == theirs


def test_what_somebody_added_stays(home, capsys):
    """The command asks to read the model card: whoever changes it, or adds a file, must not lose that by pushing."""
    made(home)
    folder = home / "hub"
    folder.mkdir()  # an empty one will do
    config = ShareHubConfig(run="made", out=folder)
    share(config)
    card = folder / "README.md"
    share(config)
    assert "changed" not in capsys.readouterr().out, "the same again"
    card.write_text(card.read_text("utf-8") + "\nMy cat is called Minka.\n", encoding="utf-8")
    (folder / "LICENSE").write_text("mine")
    share(config)
    assert "README.md was changed" in capsys.readouterr().out
    assert "Minka" in card.read_text("utf-8") and (folder / "LICENSE").read_text() == "mine"
    card.unlink()
    share(config)
    assert "Minka" not in card.read_text("utf-8") and (folder / "LICENSE").is_file()


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as an upload needs, on this machine."""

    token, files, log = "hf_good", {}, []

    def log_message(self, *arguments): ...

    def answer(self, status: int, content: dict) -> None:
        Server.reply(self, content, status)

    def do_GET(self):
        Hub.log.append(self.path)
        if self.headers.get("Authorization") != f"Bearer {Hub.token}":
            return self.answer(401, {"error": "Invalid credentials"})
        if self.path == "/api/whoami-v2":
            return self.answer(200, {"name": "cats", "type": "user"})
        return self.answer(200, {"id": "cats/faces", "sha": "0" * 40, "siblings": [], "tags": []})

    def do_POST(self):
        Hub.log.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        if self.path == "/api/repos/create":
            return self.answer(
                200, {"url": f"http://{self.headers['Host']}/cats/faces", "name": "cats/faces", "id": "cats/faces"}
            )
        if "/preupload/" in self.path:
            return self.answer(
                200,
                {
                    "files": [
                        {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for each in json.loads(body)["files"]
                    ]
                },
            )
        if "/commit/" in self.path:
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    Hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            return self.answer(
                200, {"commitUrl": f"http://{self.headers['Host']}/cats/faces/commit/1", "commitOid": "1" * 40}
            )
        return self.answer(200, {})


@pytest.fixture
def hub(monkeypatch):
    Hub.files, Hub.log = {}, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server
    server.shutdown()


def test_push(home, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    made(home)
    folder = share(ShareHubConfig(run="made"), progress=False)
    with open(folder / "README.md", "a", encoding="utf-8") as file:
        file.write("My cat is called Minka.")
    done = command("share", "hub", "--run", "made", "--push", "cats/faces", home=home)
    assert done.returncode == 0, done.stderr
    assert set(Hub.files) == {"README.md", "config.json", "faces.html", "model.safetensors", "samples.png"}
    assert b"Minka" in Hub.files["README.md"]
    assert Hub.files["README.md"] == (home / "generated" / "made" / "hub" / "README.md").read_bytes()
    assert b'from_pretrained("cats/faces")' in Hub.files["README.md"] and "Pushed to http://127.0.0.1" in done.stdout


@pytest.mark.parametrize(
    "token, says",
    [("hf_bad", "push was refused by the Hub: the token may not write to cats/faces"), (None, "needs a token of the Hugging Face Hub; run: hf auth login")],
)  # fmt: skip
def test_a_token_that_is_refused(home, hub, monkeypatch, tmp_path, token, says):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "no token here"))
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    made(home)
    done = command("share", "hub", "--run", "made", "--push", "cats/faces", home=home)
    assert (
        done.returncode == 2 and done.stderr.count("error: ") == 1 and says in done.stderr.replace("--push", "push")
    ), done.stderr
    assert not Hub.files


@pytest.mark.parametrize("ending, smooth", [(".mp4", "nearest"), (".webm", "lanczos")])
def test_film(home, ending, smooth):
    import av

    made(home)
    config = ShareFilmConfig(run="made", out=home / f"a{ending}", faces=4, stops=2, seconds=1, scale=3, smooth=smooth)
    path = share(config, progress=False)
    with av.open(str(path)) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    side = 3 * (2 * 34 - 2)
    assert len(frames) == 2 * 12 and frames[0].shape == (side, side, 3)
    assert np.abs(frames[0].astype(int) - frames[12]).mean() > 5, "faces turn into others"
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() < 5, "and back into the first"


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["hub", "--run", "nobody"], "nobody has no G.pth"),
        (["onnx", "--run", "made", "--out", "a.pth"], "must end in .onnx"),
        (["film", "--run", "made", "--out", "a.gif"], "must end in .mp4 or .webm"),
        (["film", "--run", "made", "--seconds", "0"], "must be 0.5 to 600"),
        (
            ["film", "--run", "made", "--seconds", "1", "--stops", "50"],
            "--seconds is too short for 50 stops; give 4 or more",
        ),
        (["hub", "--run", "made", "--push", "faces"], "must be OWNER/NAME, not 'faces'"),
        (["onnx", "--run", "made", "--out", "/proc/nowhere/a.onnx"], "Cannot write to /proc/nowhere"),
    ],
)
def test_in_one_sentence(home, arguments, says):
    made(home)
    done = command("share", *arguments, home=home)
    assert done.returncode == 2 and done.stderr.count("error: ") == 1 and says in done.stderr, done.stderr


def test_a_folder_that_does_not_exist_yet(home):
    made(home)
    place = home / "my site" / "faces"
    share(SharePageConfig(run="made", out=place / "faces.html"), progress=False)
    share(ShareOnnxConfig(run="made", out=place / "onnx" / "G.onnx"), progress=False)
    config = GenerateConfig(run="made", count=4, out=place / "a.png", save_latent=place / "latent" / "z.npy")
    toongan.generate(config)
    assert len(np.load(config.save_latent)) == 4 and (place / "onnx" / "G.onnx").is_file()
