"""Chromium without a window, and a JupyterLab for it to look at."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import websocket
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


class Firefox:
    """Firefox without a window, as far as a page needs it: opened with WebDriver BiDi, which it speaks by itself."""

    def __init__(self, path: str, profile: Path):
        options = ["--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port=0"]
        self.process = subprocess.Popen([path, *options], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        listening = re.compile(r"WebDriver BiDi listening on (ws://\S+)")
        found = next(filter(None, map(listening.search, self.process.stderr)))
        self.socket = websocket.create_connection(f"{found[1]}/session", suppress_origin=True, timeout=120)
        self.number = 0
        self.ask("session.new", capabilities={})
        self.context = self.ask("browsingContext.getTree")["contexts"][0]["context"]

    def ask(self, method: str, **parameters) -> dict:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(answer["message"])
                return answer["result"]

    def goto(self, address: str) -> None:
        self.ask("browsingContext.navigate", context=self.context, url=address, wait="complete")

    def evaluate(self, expression: str):
        """The value of an expression, awaited: a text, a number, or nothing."""
        found = self.ask(
            "script.evaluate", expression=expression, awaitPromise=True, target={"context": self.context}
        )  # fmt: skip
        if found["type"] == "exception":
            raise RuntimeError(found["exceptionDetails"]["text"])
        return found["result"].get("value")

    def close(self) -> None:
        self.socket.close()
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture
def firefox(tmp_path: Path) -> Firefox:
    """The Firefox of this machine."""
    path = shutil.which("firefox") or shutil.which("firefox-esr")
    if path is None:
        pytest.skip("no Firefox on this machine")
    browser = Firefox(path, tmp_path)
    yield browser
    browser.close()
