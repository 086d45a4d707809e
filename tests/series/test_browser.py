"""How `make test` comes by a browser, on machines that have none."""

import io
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import get_browser
import pytest
from conftest import REPOSITORY
from makers import Server

BROWSER = "#!/bin/sh\necho Chromium 1.2.3\n"
TESTS = Path(get_browser.__file__).parent


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path, monkeypatch) -> Path:
    """A machine without a browser; gives the folder that is its PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "playwright"))
    monkeypatch.setenv("PLAYWRIGHT_DOWNLOAD_HOST", "http://127.0.0.1:9")
    monkeypatch.setattr(get_browser, "NAMES", get_browser.NAMES[:4])
    monkeypatch.delenv("CHROME", raising=False)
    return tmp_path / "bin"


def script() -> subprocess.CompletedProcess:
    """As `make test` calls it."""
    return subprocess.run([sys.executable, TESTS / "get_browser.py"], capture_output=True, text=True, timeout=120)


def test_make_test_asks_for_a_browser_first():
    lines = subprocess.run(["make", "-n", "test"], cwd=REPOSITORY, capture_output=True, text=True).stdout
    assert 0 < lines.index("tests/get_browser.py") < lines.index("-m pytest")
    assert "apt-get" not in (REPOSITORY / ".ci" / "run").read_text()


def test_a_browser_that_is_there_is_taken(bare, monkeypatch):
    monkeypatch.setattr(
        get_browser, "own_path", lambda: pytest.fail("playwright need not be asked, which takes a while")
    )
    program(bare / "google-chrome", BROWSER)
    assert get_browser.find_browser() == str(bare / "google-chrome")
    program(bare / "chromium-browser", "#!/bin/sh\n# requires the chromium snap to be installed\n")
    assert get_browser.find_browser() == str(bare / "google-chrome")
    mine = program(bare.parent / "mine", BROWSER)
    monkeypatch.setenv("CHROME", str(mine))
    assert get_browser.find_browser() == str(mine)
    done = script()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_playwright_fetches_its_own(bare, monkeypatch):
    """The real command, from a server that has a small browser in each archive."""
    path = Path(get_browser.place_of_own())
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        for name in ("/".join(path.parts[-2:]), "ffmpeg-linux", "ffmpeg-mac"):
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o755 << 16
            files.writestr(info, BROWSER)
    with Server(archive.getvalue()) as server:
        monkeypatch.setenv("PLAYWRIGHT_DOWNLOAD_HOST", server.url)
        done = script()
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "No browser for the tests that look at pages; trying: playwright install chromium ...\n"
        assert get_browser.find_browser() == str(path) and path.is_relative_to(bare.parent / "playwright")
        asked = len(server.requests)
        assert asked > 1 and script().stdout == "" and len(server.requests) == asked, (
            "the second time nothing is fetched"
        )


def test_a_browser_without_its_libraries_is_none(bare, monkeypatch):
    broken = program(bare.parent / "chrome", "#!/bin/sh\necho error while loading shared libraries >&2\nexit 127\n")
    monkeypatch.setattr(get_browser, "own_path", lambda: str(broken))
    assert get_browser.find_browser() is None


def test_debian_brings_one(bare, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    browser = program(bare.parent / "later", BROWSER)
    program(
        bare / "apt-get",
        f'#!/bin/sh\necho "$@" >> {bare}/asked\n'
        f'case "$*" in *" install "*) PATH=/usr/bin:/bin; ln -s {browser} {bare}/chromium;; esac\n',
    )
    get_browser.main()
    said = capsys.readouterr()
    assert "trying: apt-get install chromium ..." in said.out and said.err == ""
    assert get_browser.find_browser() == str(bare / "chromium")
    update, install = (bare / "asked").read_text().splitlines()
    assert update.endswith(" update")
    assert install.endswith(" install -y --no-install-recommends chromium fonts-dejavu-core")


@pytest.mark.parametrize(
    "user, apt, reason",
    [
        (0, None, "there is no apt-get"),
        (1000, "exit 0", "only root may run: apt-get install chromium fonts-dejavu-core"),
        (0, "echo 'E: Unable to locate package chromium' >&2; exit 100", "E: Unable to locate package chromium"),
        (0, "exit 0", "the package brings no browser that starts"),
    ],
)
def test_no_way_to_a_browser(bare, monkeypatch, capsys, user, apt, reason):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if apt:
        program(bare / "apt-get", f"#!/bin/sh\n{apt}\n")
    get_browser.main()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("error: Without a browser these tests fail: test_chapter_shows_its_figures, ")
    assert "test_search_finds" in said and "test_the_three_things_to_try, " in said
    assert "test_quickstart_runs_in_jupyterlab, " in said and "test_a_link_is_a_face, " in said
    assert " (playwright install chromium: http://127.0.0.1:9 cannot be reached (" in said
    assert said.endswith(
        f"; apt-get install chromium: {reason}); install Chromium, or set CHROME to the path of one.\n"
    )


def test_a_command_that_does_not_end(bare):
    program(bare / "apt-get", "#!/bin/sh\nwhile :; do :; done\n")
    with pytest.raises(get_browser.Failed, match="no end after 0.2 seconds"):
        get_browser.execute(["apt-get", "update"], 0.2)


def test_tests_without_a_browser_fail_in_one_line(bare, tmp_path):
    (tmp_path / "test_page.py").write_text(
        "from browser import chromium\n\n\ndef test_page(chromium):\n    chromium.new_page()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", tmp_path],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.search(r"^1 failed in", done.stdout, re.M), done.stdout
    said = re.findall(
        r"^no browser here; install Chromium, or set CHROME to the path of one, or let", done.stdout, re.M
    )
    assert len(said) == 1, done.stdout  # pytest's summary, whole where CI is set, says it behind the test's name
    assert "browser.py:" not in done.stdout, "no traceback"
