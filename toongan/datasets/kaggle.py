"""Data sets on Kaggle, through Kaggle's own client.

The client runs in its own process: when imported, it may end the program, and its
first request can wait forever. Here we watch it, stop it when nothing moves, and
start it again; it resumes by itself.
"""

import errno
import getpass
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from ..errors import ToonGANError
from ..paths import cannot_write, replace, writable_folder
from .downloads import Temporary, persist, silence_seconds, size_of

# Started by name, the client also serves users who are not logged in. It does not report the server's answers, so we
# print them here.
CLIENT = """
import sys
import requests
send = requests.Session.send
def noted(*arguments, **options):
    response = send(*arguments, **options)
    print(f"[HTTP {response.status_code}]", file=sys.stderr, flush=True)
    return response
requests.Session.send = noted
sys.argv[0] = "kaggle"
from kaggle.cli import main
main()
"""
TOKEN_HELP = (
    "make a token at kaggle.com/settings and put it in the environment variable KAGGLE_API_TOKEN, "
    "in the file ~/.kaggle/access_token, or, in Colab, in a secret named KAGGLE_API_TOKEN"
)


class Denied(Exception):
    """Kaggle asks for an account."""


def fetch(slug: str, path: Path, progress: bool = True) -> Path:
    """Download the Kaggle data set `OWNER/NAME` as the zip archive `path`.

    The client uses the credentials that it finds by itself, or none. If Kaggle asks for some, we try Colab's secrets,
    then ask the person at the keyboard.

    Raises:
        ToonGANError: Kaggle refuses, stalls or sends something else, or the disk is full.
    """
    folder = writable_folder(path.parent / f".{path.stem}.part")
    archive = folder / f"{slug.partition('/')[2]}.zip"
    for credentials in (dict, colab_secrets, ask):
        given = credentials()
        if given is None:
            continue
        try:
            download(slug, folder, archive, given, progress)
            break
        except Denied as error:
            refusal = error
    else:
        discard_if_empty(folder)
        raise ToonGANError(f"Kaggle does not give {slug} without a valid account ({refusal}): {TOKEN_HELP}.")
    try:
        replace(archive, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    shutil.rmtree(folder, ignore_errors=True)
    return path


def discard_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def colab_secrets() -> dict | None:
    """Credentials from Colab's secrets (the key symbol on the left of its page); None if there are none."""
    try:
        from google.colab import userdata
    except ImportError:
        return None
    found = {}
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        try:
            found[name] = userdata.get(name)
        except Exception:  # not set, not shared with this notebook, or not on Colab's page: each raises its own class
            continue
    return {name: value for name, value in found.items() if value} or None


def ask() -> dict | None:
    """Credentials typed or pasted at a hidden prompt; None if nobody can answer."""
    in_notebook = "ipykernel" in sys.modules
    if not in_notebook and not sys.stdin.isatty():
        return None
    try:
        text = getpass.getpass("Kaggle token from kaggle.com/settings (not shown as you paste it): ").strip(
            "\ufeff \t\r\n"
        )
    except (EOFError, RuntimeError, NotImplementedError):  # a notebook that runs without a reader
        return None
    return parse_token(text)


def parse_token(text: str) -> dict | None:
    """A token, or the content of a `kaggle.json`, as environment variables."""
    try:
        pair = json.loads(text)
        return {"KAGGLE_USERNAME": pair["username"], "KAGGLE_KEY": pair["key"]}
    except (ValueError, KeyError, TypeError):
        return {"KAGGLE_API_TOKEN": text} if text else None


def download(slug: str, folder: Path, archive: Path, credentials: dict, progress: bool) -> None:
    try:
        persist(lambda: attempt(slug, folder, archive, credentials, progress), archive, progress)
    except Temporary as error:
        discard_if_empty(folder)
        raise ToonGANError(
            f"Cannot download {slug} from Kaggle: {error}. Run the same command again later to continue."
        ) from error


def attempt(slug: str, folder: Path, archive: Path, credentials: dict, progress: bool) -> None:
    code, output = run_client(slug, folder, archive, credentials, progress)
    explain(slug, folder, code, output)
    if not archive.exists():
        raise Temporary("the client left no archive")
    if not zipfile.is_zipfile(archive):
        size = archive.stat().st_size
        archive.unlink()
        raise Temporary(f"what came is not a complete zip archive ({size:,} bytes)")


def run_client(slug: str, folder: Path, archive: Path, credentials: dict, progress: bool) -> tuple[int, str]:
    """Run the client until it ends; returns its exit status and its output.

    Raises:
        Temporary: neither its output nor its file has grown for `TOONGAN_TIMEOUT` seconds.
        ToonGANError: the disk is full.
    """
    said = []
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, "datasets", "download", slug, "--path", str(folder)],
        env={**os.environ, **credentials, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # we handle Ctrl-C: the client would report success
    )
    listener = threading.Thread(target=listen, args=(client.stdout, said), daemon=True)
    listener.start()
    bar = tqdm(
        desc=f"Downloading {archive.name}",
        unit="B",
        unit_scale=True,
        file=sys.stdout,
        disable=not progress,
        mininterval=0.5,
        leave=False,
    )
    last, since = None, time.monotonic()
    try:
        with bar:
            while client.poll() is None:
                size = size_of(archive)
                if (size, len(said)) != last:
                    last, since = (size, len(said)), time.monotonic()
                    bar.total = bar.total or announced_size(archive)
                    bar.update(size - bar.n)
                if "No space left on device" in text_of(said):
                    raise full(folder)
                if time.monotonic() - since > silence_seconds():
                    raise Temporary(f"Kaggle was silent for {silence_seconds():g} seconds")
                time.sleep(0.1)
            bar.update(size_of(archive) - bar.n)
    finally:
        client.kill()
        client.wait()
        listener.join()
        client.stdout.close()
    return client.returncode, text_of(said)


def listen(pipe, said: list[bytes]) -> None:
    for block in iter(lambda: pipe.read1(1 << 16), b""):
        said.append(block)


def text_of(said: list[bytes]) -> str:
    return b"".join(said).decode("utf-8", "replace")


def announced_size(archive: Path) -> int | None:
    """The final size of the archive, which the client records beside an unfinished one."""
    try:
        return json.loads(archive.with_name(f"{archive.name}.kaggle-partial").read_text(encoding="utf-8"))["size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def full(folder: Path) -> ToonGANError:
    problem = cannot_write(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    return ToonGANError(f"{problem} The part that is here is kept, and the download continues from there.")


def explain(slug: str, folder: Path, code: int, output: str) -> None:
    """Turn the client's output into an error that says what to do; does nothing if all went well."""
    if code == 0 and "User cancelled" not in output:  # which comes with an exit status of 0 as well
        return
    statuses = re.findall(r"\[HTTP (\d+)\]", output)
    status = int(statuses[-1]) if statuses else 0
    if "No space left on device" in output:
        raise full(folder)
    if status in (401, 403) or "Authentication required" in output:
        raise Denied(f"HTTP {status}" if status >= 400 else "not logged in")
    if status == 404:
        raise ToonGANError(
            f"Kaggle has no data set {slug} any more (HTTP 404); get it from elsewhere and use zip:PATH."
        )
    if "NameResolutionError" in output or "Max retries exceeded" in output:
        raise Temporary("Kaggle cannot be reached; is this machine online?")
    if status == 429:
        raise Temporary("Kaggle asks us to slow down (HTTP 429)")
    if status >= 500:
        raise Temporary(f"Kaggle has a problem on its side (HTTP {status})")
    said = [line for line in re.sub(r"\[HTTP \d+\]", "", output).splitlines() if line.strip()]
    raise Temporary(f"Kaggle's client failed: {said[-1].strip()[:200] if said else 'it said nothing'}")
