"""The page that draws in any browser, opened from its file."""

import base64
import json
import shutil

import numpy as np
import pytest
import torch
from conftest import REPOSITORY, command
from PIL import Image
from playwright.sync_api import Browser, Page, expect

import toongan
from toongan import ToonGANError
from toongan.conditional import Attributes, random_latent
from toongan.config import SharePageConfig
from toongan.models import Discriminator, Generator, init_weights
from toongan.runs import draw, save_state
from toongan.runs.asking import to_plain
from toongan.sharing.directions import directions_of, strongest
from toongan.sharing.folding import folded, layers_of
from toongan.sharing.page import share_page, wishes_of


def made(home, name: str = "made", attributes: Attributes | None = None, smooth: bool = True, **sizes) -> toongan.Run:
    """The files of a run whose generator draws something, trained or not."""
    wishes = attributes.length if attributes else 0
    sizes = {"image_size": 32, "latent_dim": 12, "base_channels": 6, **sizes}
    torch.manual_seed(0)
    G = init_weights(Generator(**{**sizes, "latent_dim": sizes["latent_dim"] + wishes}, smooth=smooth))
    with torch.no_grad():
        for module in G.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.bias.normal_(0, 0.3)
        G.train()
        for _ in range(30):
            G(torch.randn(64, G.latent_dim))
        last = G.main[-2].parametrizations.weight.original if smooth else G.main[-2].weight
        last.mul_(0.6 / G.eval().main(torch.randn(64, G.latent_dim, 1, 1)).std())
    run = toongan.Run.named(name).make()
    save_state(run.generator_path, G)
    save_state(run.discriminator_path, Discriminator(sizes["image_size"], sizes["base_channels"]))
    settings = {"dataset": "folder:gone", "recipe": "modern", "batch_size": 16, "channels": G.channels, **sizes}
    info = {
        "run": name,
        "settings": settings,
        "seed": 0,
        "kimg": 3.5,
        "seconds": 60,
        "device": "CPU",
        "date": "2026-01-02",
    }
    if attributes:
        info["attributes"] = to_plain(attributes)
    run.info_path.write_text(json.dumps(info), encoding="utf-8")
    return run


@pytest.fixture
def opened(chromium: Browser, home):
    """Open the page of a run; gives it, and what it asked for."""
    pages = []

    def open_page(run: str, address: str = "", **options) -> tuple[Page, list[str]]:
        path = share_page(SharePageConfig(run=run), progress=False)
        page = chromium.new_page(**options)
        asked, errors = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(path.as_uri() + address)
        page.evaluate("toongan.ready")
        pages.append((page, errors))
        return page, asked

    yield open_page
    for page, errors in pages:
        assert not errors
        page.close()


DRAW = """async (latent) => {
  const pixels = await toongan.draw(new Float32Array(latent)), parts = [];
  for (let at = 0; at < pixels.length; at += 8192) parts.push(String.fromCharCode(...pixels.subarray(at, at + 8192)));
  return btoa(parts.join(""));
}"""


def slider(page: Page, name: str):
    return page.get_by_role("slider", name=name)


def drawn_by(page: Page, latent: torch.Tensor, size: int) -> np.ndarray:
    found = page.evaluate(DRAW, latent.flatten().tolist())
    return np.frombuffer(base64.b64decode(found), np.uint8).reshape(len(latent), size, size, 4)


@pytest.mark.parametrize(
    "size, smooth, colours", [(32, True, 0), (64, True, 0), (128, True, 0), (32, False, 0), (64, True, 8)]
)
def test_the_same_faces_as_pytorch(opened, home, size, smooth, colours):
    run = made(home, image_size=size, smooth=smooth, colours=colours)
    page, asked = opened("made")
    G = toongan.load_generator(run.generator_path)
    latent = torch.randn(64, G.latent_dim, generator=torch.Generator().manual_seed(1))
    wanted = draw(G, latent).astype(int)
    assert wanted.std() > 20, "there is something to see"
    assert np.abs(drawn_by(page, latent, size)[..., :3] - wanted).max() <= 2
    assert (
        all(url.startswith(("file:", "blob:")) for url in asked)
        and len([url for url in asked if url[:5] == "file:"]) == 1
    )


@pytest.mark.parametrize("size", [32, 64, 128])
def test_firefox_draws_the_same(firefox, home, size):
    run = made(home, image_size=size)
    firefox.goto(share_page(SharePageConfig(run="made"), progress=False).as_uri())
    firefox.evaluate("toongan.ready.then(() => 1)")
    G = toongan.load_generator(run.generator_path)
    latent = torch.randn(64, G.latent_dim, generator=torch.Generator().manual_seed(1))
    found = firefox.evaluate(f"({DRAW})({json.dumps(latent.flatten().tolist())})")
    found = np.frombuffer(base64.b64decode(found), np.uint8).reshape(64, size, size, 4)
    assert np.abs(found[..., :3] - draw(G, latent).astype(int)).max() <= 2
    assert firefox.evaluate("document.getElementById('status').textContent") == "Seed 1"


@pytest.mark.parametrize("name", ["avatars-64"])
def test_the_shipped_page(opened, home, name):
    for kind in ("checkpoints", "generated"):
        shutil.copytree(REPOSITORY / kind / name, home / kind / name)
    page, _ = opened(name, "#seed=7&glasses=3")
    path = home / "generated" / name / "faces.html"
    assert path.stat().st_size < 1_500_000
    G = toongan.load_generator(home / "checkpoints" / name / "G.pth")
    latent = random_latent(G, 16, torch.Generator().manual_seed(2))
    assert np.abs(drawn_by(page, latent, 64)[..., :3] - draw(G, latent).astype(int)).max() <= 2
    assert slider(page, "glasses").input_value() == "3"
    text = page.locator("#about").text_content()
    for part in (
        "17,500 of avatars",
        "Pablo Stanley",
        "Free for personal",
        "minutes",
        "Fréchet distance",
        "other real images",
    ):
        assert part in text
    assert page.locator("#about img").get_attribute("src").startswith("data:image/webp")


@pytest.mark.parametrize("channels, colours", [(1, 0), (4, 0), (1, 3), (4, 3)])
def test_grey_and_transparent_faces(opened, home, channels, colours):
    run = made(home, channels=channels, colours=colours)
    page, _ = opened("made")
    G = toongan.load_generator(run.generator_path)
    latent = torch.randn(8, G.latent_dim)
    found, wanted = drawn_by(page, latent, 32).astype(int), draw(G, latent).astype(int)
    if channels == 1:
        assert np.abs(found[..., :3] - wanted).max() <= 2 and (found[..., 3] == 255).all()
    else:
        alpha = wanted[..., 3:]
        on_white = 255 + (found[..., :3] - 255) * found[..., 3:] / 255
        lowest = 255 - alpha  # white as far as it shows through
        assert np.abs(found[..., 3:] - alpha).max() <= 2
        assert np.abs(on_white - np.maximum(wanted[..., :3], lowest)).max() <= 4


def test_a_link_is_a_face(opened, home):
    made(home)
    page, _ = opened("made", "#seed=99&truncation=0.5&direction 2=1.5")
    vector = page.evaluate(
        "Array.from(toongan.latentOf({ seed: 99, truncation: 0.5, push: toongan.model.directions.map((_, i) => i === 1 ? 1.5 : 0), wants: {} }))"
    )
    assert page.locator("#status").text_content() == "Seed 99"
    assert slider(page, "truncation").input_value() == "0.5" and slider(page, "direction 2").input_value() == "1.5"
    again, _ = opened("made", "#seed=99&truncation=0.5&direction 2=1.5")
    pixels = [each.evaluate("() => document.getElementById('large').toDataURL()") for each in (page, again)]
    assert pixels[0] == pixels[1] and len(vector) == 12
    slider(page, "direction 2").fill("-2")
    assert "direction%202=-2" in page.url
    nonsense, _ = opened("made", "#seed=cats&truncation=900&direction 2=1e9&nobody=3")
    assert nonsense.locator("#status").text_content() == "Seed 1"


def test_the_vectors_of_a_seed_are_normal(opened, home):
    made(home, latent_dim=500)
    page, _ = opened("made")
    numbers = np.concatenate([
        page.evaluate(f"Array.from(toongan.latentOf({{ seed: {seed}, truncation: 1, push: [], wants: {{}} }}))") for seed in (0, 1, 2, 4294967295)
    ])  # fmt: skip
    assert abs(numbers.mean()) < 0.08 and abs(numbers.std() - 1) < 0.06 and np.abs(numbers).max() < 6


def test_wall_keyboard_and_walk(opened, home):
    made(home)
    page, _ = opened("made", viewport={"width": 1000, "height": 800})
    faces = page.locator("#wall button")
    expect(faces).to_have_count(72)
    faces.first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text("Seed 2")
    assert faces.nth(1).get_attribute("aria-pressed") == "true" and "seed=2" in page.url
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.seed") not in ("2", "3")
    page.get_by_role("button", name="Start here").click()
    faces.nth(5).click()
    expect(page.get_by_role("button", name="Walk")).to_be_disabled()
    page.get_by_role("button", name="End here").click()
    page.get_by_role("button", name="Walk").click()
    expect(page.locator("#status")).to_have_text("From seed 2 to seed 6.", timeout=20_000)
    before = [face.get_attribute("data-seed") for face in faces.all()]
    page.get_by_role("button", name="New faces").click()
    expect(faces.first).not_to_have_attribute("data-seed", before[0])
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, select')].filter((each) => !(each.textContent || each.ariaLabel || each.labels?.length)).length"
    )
    assert unnamed == 0, "a screen reader says what each is for"


def test_save_and_film(opened, home, tmp_path):
    made(home)
    page, _ = opened("made", "#seed=3")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    download.value.save_as(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (32, 32) and download.value.suggested_filename == "made-3.png"
    page.get_by_role("button", name="Start here").click()
    page.get_by_role("button", name="End here").click()
    with page.expect_download(timeout=30_000) as download:
        page.get_by_role("button", name="Save film").click()
    download.value.save_as(tmp_path / "walk.webm")
    assert (tmp_path / "walk.webm").read_bytes()[:4] == b"\x1a\x45\xdf\xa3" and (
        tmp_path / "walk.webm"
    ).stat().st_size > 2000


def test_wishes_are_selects(opened, home):
    values = {"top": ["bun", "hat"], "colour": ["#ff0000", "", "#0000ff"]}
    attributes = Attributes(values, torch.tensor([[0, 0], [1, 1], [0, 2]]))
    run = made(home, attributes=attributes)
    page, _ = opened("made", "#seed=4&top=hat")
    ask = "(wants) => Array.from(toongan.latentOf({ seed: 4, truncation: 1, push: [], wants }))"
    assert page.evaluate(ask, {"top": 1})[-5:] == [0, 1, 0, 1, 0], "as the one image with a hat has it"
    assert page.evaluate(ask, {"top": 0, "colour": 2})[-5:] == [1, 0, 0, 0, 1]
    assert page.get_by_role("combobox", name="top").input_value() == "1"
    page.get_by_role("combobox", name="colour").select_option(index=3)
    assert "colour=%230000ff" in page.url
    G = toongan.load_generator(run.generator_path)
    latent = random_latent(G, 4, torch.Generator().manual_seed(0))
    assert np.abs(drawn_by(page, latent, 32)[..., :3] - draw(G, latent).astype(int)).max() <= 2


def test_labels_that_are_no_colours():
    """The folders of a folder of images are labels, and may be called anything."""
    words = wishes_of(Attributes({"folder": ["#1", "#cats", "#00ff00", ""]}, torch.zeros(1, 1)))["words"]
    assert words == [["#1", "#cats", "green #00ff00", "none"]]


def test_it_fits_a_phone(opened, home):
    made(home)
    page, _ = opened("made", viewport={"width": 360, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("colours", [0, 5])
def test_folding_changes_nothing(home, colours):
    run = made(home, colours=colours)
    G = toongan.load_generator(run.generator_path)
    latent = torch.randn(8, 12)
    with torch.no_grad():
        assert torch.allclose(folded(G)(latent), G(latent), atol=1e-5)
    assert [layer.weight.shape[2] for layer in layers_of(G)] == [4, 3, 3, 3], "smooth kernels are kept small"
    run = made(home, "free", smooth=False)
    assert [layer.weight.shape[2] for layer in layers_of(toongan.load_generator(run.generator_path))] == [4] * 4


def test_directions_are_named_and_proved(few_faces, home, monkeypatch):
    """Of a generator that shows one thing in one latent number, that one is found, and called by its name."""
    from toongan.sharing import directions

    run = made(home, image_size=64)
    info = json.loads(run.info_path.read_text())
    info["settings"] |= {"dataset": "avatars", "count": 240, "image_size": 32}
    run.info_path.write_text(json.dumps(info))

    class Reader:
        values = {"background_color": ["#101010", "#f0f0f0"], "accessories": ["", "round"]}

        def __init__(self, *arguments, **options): ...

        def read(self, latent):
            return torch.stack([(latent[:, 3] > 0).long(), (latent[:, 5] > 0.8).long()], 1)

    monkeypatch.setattr(directions, "AttributeReader", Reader)
    with monkeypatch.context() as patch:
        patch.setattr(directions, "at_hand", lambda config: False)
        nameless = directions_of(run, toongan.load_generator(run.generator_path), progress=False)
        assert nameless[0].name == "direction 1" and not (run.checkpoints / directions.FILE).exists(), "not for good"
    monkeypatch.setattr(directions, "draw", lambda generator, latent: latent)
    G = toongan.load_generator(run.generator_path)
    G.image_size = 32
    found = {each.name: int(np.abs(each.vector).argmax()) for each in directions_of(run, G, progress=False)}
    assert found == {"lighter background": 3, "glasses": 5}
    monkeypatch.setattr(directions, "labelled", None)
    assert len(directions_of(run, G, progress=False)) == 2, "they are kept"
    assert len(strongest(G)) == 8


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--run", "nobody"], "nobody has no G.pth"),
        (["--run", "made", "--out", "faces.png"], "must end in .html or .htm, not 'faces.png'"),
        (["--run", "broken"], "is damaged"),
    ],
)
def test_in_one_sentence(home, arguments, says):
    made(home)
    broken = made(home, "broken")
    broken.generator_path.write_bytes(broken.generator_path.read_bytes()[:900])
    done = command("share", "page", *arguments, home=home)
    assert done.returncode == 2 and done.stderr.count("error: ") == 1 and says in done.stderr
    assert not list(home.rglob("*.html"))


def test_weights_that_are_no_numbers(home):
    run = made(home)
    state = torch.load(run.generator_path)
    state["main.0.weight"][0, 0, 0, 0] = float("nan")
    torch.save(state, run.generator_path)
    with pytest.raises(ToonGANError, match="weights that are not numbers"):
        share_page(SharePageConfig(run="made"), progress=False)
