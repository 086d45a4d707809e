"""The site of the series: every chapter with its figures, links that lead somewhere, a search that finds."""

import json
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from conftest import NOTEBOOKS, REPOSITORY

from toongan import cli

IDS = [path.stem for path in NOTEBOOKS]
PAGES = sorted((REPOSITORY / "book").glob("*.md"))
IMAGES = {"image/png", "image/jpeg", "image/gif"}


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    """Built offline, as `make book` does; a warning is an error."""
    folder = tmp_path_factory.mktemp("book")
    here = Path(sys.prefix)
    installed = [option for name in (".ready", ".ready-dev") for option in ("-o", str(here / name))]
    command = ["make", "-s", "book", f"BOOK={folder}", f"VENV={here}", *installed]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


class Page(HTMLParser):
    """Links, images and ids of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.links, self.images, self.ids = [], [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.ids.add(found.get("id"))
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag == "img":
            self.images.append(found["src"])
        if tag in ("link", "script"):
            self.images += filter(None, [found.get("href") or found.get("src")])


def test_every_link_leads_somewhere(book):
    pages = {path: Page(path) for path in book.rglob("*.html") if "_static" not in path.parts}
    for path, page in pages.items():
        for link in page.links + page.images:
            parts = urlparse(link)
            if parts.scheme or not (parts.path or parts.fragment):
                assert link.startswith(("https://", "data:", "#")), (path.name, link)
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), (path.name, link)
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, (path.name, link)
        fetched = [link for link in page.images if urlparse(link).scheme in ("http", "https")]
        assert not fetched, f"{path.name} needs the network"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_chapter_shows_its_figures(path, book, chromium):
    code = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    figures = sum(bool(IMAGES & set(output.get("data", {}))) for cell in code for output in cell["outputs"])
    page = chromium.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((book / "notebooks" / f"{path.stem}.html").as_uri())
    widths = page.eval_on_selector_all(".cell_output img", "images => images.map(image => image.naturalWidth)")
    assert len(widths) == figures > 0 and min(widths) > 0
    assert page.get_by_role("heading", level=1).inner_text().startswith(path.stem[:2])
    chapters = page.locator("nav a", has_text=re.compile(r"^\d\d · "))
    assert chapters.count() >= len(NOTEBOOKS)
    assert not problems
    page.close()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_pages_stand_below_the_chapters(path, book, chromium):
    """In the list of pages on the first one, after the last chapter, by their titles."""
    title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    page = chromium.new_page()
    page.goto((book / "README.html").as_uri())
    listed = page.eval_on_selector_all("nav a", "links => links.map(link => link.textContent.trim())")
    last = max(number for number, text in enumerate(listed) if re.match(r"\d\d · ", text))
    assert title in listed[last:]
    page.goto((book / "book" / f"{path.stem}.html").as_uri())
    assert page.get_by_role("heading", level=1).inner_text().startswith(title)
    page.close()


def test_glossary_is_in_order_and_leads_to_chapters():
    lines = (REPOSITORY / "book" / "glossary.md").read_text(encoding="utf-8").partition("## Terms")[2].splitlines()
    terms = [line for line in lines if line.startswith("- ")]
    names = [re.match(r"- \*\*(.+?):\*\* ", term)[1].lower() for term in terms]
    assert names == sorted(names) and len(names) == len(set(names)) >= 45
    for term in terms:
        assert re.search(r"\]\(\.\./(notebooks/\d\d_\w+\.ipynb|README\.md#[\w-]+)\)", term), term


def test_projects_name_options_that_exist():
    """Each command is understood; none is run."""
    text = (REPOSITORY / "book" / "projects.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.M | re.S)
    commands = [shlex.split(line) for block in blocks for line in block.splitlines()]
    ours = [words[3:] for words in commands if words[:3] == ["python", "-m", "toongan"]]
    assert {words[0] for words in ours} == {"data", "train", "evaluate", "generate", "share"}
    for words in ours:
        cli.parsed(words)
    benchmarks = [words for words in commands if words[:3] == ["python", "-m", "benchmarks.ablation"]]
    command = [sys.executable, "-m", "benchmarks.ablation", "--help"]
    known = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert benchmarks and all(word in known for words in benchmarks for word in words if word.startswith("--"))
    assert len(ours) + len(benchmarks) == len(commands) - 1, "and one line sets a variable"


def test_search_finds_and_leads_there(book, chromium):
    page = chromium.new_page()
    page.goto((book / "search.html").as_uri() + "?q=checkerboard")
    found = page.locator("#search-results a", has_text="02 · The DCGAN")
    found.first.click()
    page.wait_for_url("**/02_dcgan.html**")
    page.close()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem[:2] for path in NOTEBOOKS])
def test_pages_fit_a_screen_and_a_phone(path, book, chromium):
    """At 1,280 px no line of code is cut off; at 390 px the page does not move sideways."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto((book / "notebooks" / f"{path.stem}.html").as_uri())
    wide = "cells => cells.filter(cell => cell.scrollWidth > cell.clientWidth + 1).map(cell => cell.textContent)"
    assert page.eval_on_selector_all(".cell_input pre", wide) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_the_game_is_on_the_site(book, chromium):
    page = chromium.new_page()
    page.goto((book / "notebooks" / "03_training.html").as_uri())
    link = page.get_by_role("link", name="the same game as a page")
    target = page.evaluate("link => link.href", link.element_handle())
    page.goto(target)
    assert page.get_by_role("button", name="D moves").count() == 1
    page.close()
