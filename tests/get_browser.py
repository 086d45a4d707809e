"""The browser for the tests that look at pages: the one of this machine, else one that is fetched.

`make test` runs this first. With a browser on PATH it takes milliseconds.
"""

import ast
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)
PACKAGES = ("chromium", "fonts-dejavu-core")  # pages without letters have other shapes
ASK = """
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    print(playwright.chromium.executable_path)
"""
HOST = "https://cdn.playwright.dev"
ADVICE = "install Chromium, or set CHROME to the path of one"


class Failed(Exception):
    """A way to a browser that leads nowhere here, and why."""


def find_browser() -> str | None:
    """The path of a browser: that of CHROME, one on PATH, or playwright's own; None without."""
    for name in filter(None, (os.environ.get("CHROME"), *NAMES)):
        path = shutil.which(name)
        if path is not None and not only_says_where(path):
            return path
    path = own_path()
    return path if path is not None and starts(path) else None


def only_says_where(path: str) -> bool:
    """Ubuntu has a script of this name that tells to install a snap."""
    with open(path, "rb") as file:
        return b"chromium snap" in file.read(4096)


def own_path() -> str | None:
    """Where playwright's own browser is, if it is there."""
    path = place_of_own()
    return path if path and Path(path).exists() else None


def place_of_own() -> str:
    """Where playwright puts its own browser. Asked in a process of its own: here it may be at work already."""
    return subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True).stdout.strip()


def starts(path: str) -> bool:
    """Whether the libraries of a browser are there too."""
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def by_playwright() -> None:
    """Fetch playwright's own, into the folder of the user."""
    host = os.environ.get("PLAYWRIGHT_DOWNLOAD_HOST", HOST)
    try:
        urllib.request.urlopen(urllib.request.Request(host, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        pass  # it answers, if only to say that nothing is at its root
    except OSError as error:
        raise Failed(f"{host} cannot be reached ({getattr(error, 'reason', error)})") from error
    execute([sys.executable, "-m", "playwright", "install", "--no-shell", "chromium"], 600)
    path = own_path()
    if path is None or not starts(path):
        raise Failed("what it fetched does not start, perhaps since libraries are missing")


def by_apt() -> None:
    """Install Debian's package."""
    if shutil.which("apt-get") is None:
        raise Failed("there is no apt-get")
    if os.geteuid() != 0:
        raise Failed(f"only root may run: apt-get install {' '.join(PACKAGES)}")
    apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]
    execute([*apt, "update"], 180)
    execute([*apt, "install", "-y", "--no-install-recommends", *PACKAGES], 900)
    if find_browser() is None:
        raise Failed("the package brings no browser that starts")


def execute(command: list[str], seconds: float) -> None:
    """Run a command without a word, for so long at most.

    Raises:
        Failed: with its last line.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
        )
    except OSError as error:
        raise Failed(f"{command[0]} cannot be started ({error.strerror})") from error
    except subprocess.TimeoutExpired as error:
        raise Failed(f"no end after {seconds:g} seconds") from error
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
        raise Failed(next((line for line in lines if "rror" in line or line.startswith("E:")), lines[-1]).strip())


def those_that_look() -> list[str]:
    """The tests that take the browser, by name."""
    names = []
    for path in sorted(Path(__file__).parent.rglob("test_*.py")):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        takes = {
            node.name: {each.arg for each in node.args.args} for node in nodes if isinstance(node, ast.FunctionDef)
        }
        opening = {"chromium", *(name for name in takes if name[:5] != "test_" and "chromium" in takes[name])}
        names += [name for name in takes if name[:5] == "test_" and takes[name] & opening]
    return names


def main() -> None:
    if find_browser():
        return
    reasons = []
    for name, way in (("playwright install chromium", by_playwright), ("apt-get install chromium", by_apt)):
        print(f"No browser for the tests that look at pages; trying: {name} ...", flush=True)
        try:
            way()
            return
        except Failed as failed:
            reasons.append(f"{name}: {failed}")
    print(
        f"error: Without a browser these tests fail: {', '.join(those_that_look())} ({'; '.join(reasons)}); {ADVICE}.",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
