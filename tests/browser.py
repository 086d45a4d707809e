"""Chromium without a window, and a JupyterLab for it to look at."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from get_browser import ADVICE, find_browser
from playwright.sync_api import Browser, sync_playwright


class NoBrowser:
    """In place of a browser where there is none: a test that looks at a page fails with one line."""

    def __getattr__(self, name: str):
        if name.startswith("_"):  # pytest itself looks at what a fixture gives
            raise AttributeError(name)
        pytest.fail(f"no browser here; {ADVICE}, or let tests/get_browser.py try to fetch one", pytrace=False)


@pytest.fixture(scope="session")
def chromium() -> Browser:
    """The browser of this machine, or playwright's own."""
    path = find_browser()
    if path is None:
        yield NoBrowser()
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def jupyter_lab(root: Path, home: Path):
    """JupyterLab with `root` as its folder; gives its address."""
    settings = home / "lab-settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    # Else only the cells in sight are on the page.
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    places = ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTERLAB_WORKSPACES_DIR", "JUPYTER_DATA_DIR")
    environment = {
        **os.environ,
        **{name: str(home / name.lower()) for name in places},
        "JUPYTERLAB_SETTINGS_DIR": str(home / "lab-settings"),
        "TOONGAN_HOME": str(home),
    }
    options = [
        "--no-browser",
        "--allow-root",
        "--ServerApp.port=0",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={root}",
    ]
    log = open(home / "lab.log", "w")
    command = [sys.executable, "-m", "jupyterlab", *options, "--LabApp.news_url=None", "--LabApp.check_for_updates_class="
               "jupyterlab.NeverCheckForUpdate"]  # fmt: skip
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=root)
    try:
        yield address(server, home / "jupyter_runtime_dir", home / "lab.log")
    finally:
        server.terminate()
        server.wait(30)
        log.close()


def address(server: subprocess.Popen, runtime: Path, log: Path, patience: float = 120) -> str:
    """Where the server listens, once it does."""
    end = time.monotonic() + patience
    while time.monotonic() < end and server.poll() is None:
        for file in runtime.glob("jpserver-*.json"):
            return json.loads(file.read_text())["url"]
        time.sleep(0.2)
    raise RuntimeError(log.read_text())
