"""The site of the series: every chapter with its figures, links that lead somewhere, a search that finds."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from conftest import NOTEBOOKS, REPOSITORY

IDS = [path.stem for path in NOTEBOOKS]
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


def test_search_finds_and_leads_there(book, chromium):
    page = chromium.new_page()
    page.goto((book / "search.html").as_uri() + "?q=checkerboard")
    found = page.locator("#search-results a", has_text="02 · The DCGAN")
    found.first.click()
    page.wait_for_url("**/02_dcgan.html**")
    page.close()
