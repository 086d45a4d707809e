"""One file over HTTP: resumed where it broke off, checked, and never left half written."""

import base64
import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import requests
import tenacity
from tqdm import tqdm

from ..errors import ToonGANError
from ..paths import cannot_write, replace, writable_folder

TRIES = 4
PAUSE = tenacity.wait_exponential(multiplier=1, max=60)
CONNECT_SECONDS = 20
BLOCK = 1 << 20
ARCHIVE_SIGNATURES = (b"PK", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd")
TEMPORARY = (408, 425, 429, 500, 502, 503, 504)


def silence_seconds() -> float:
    """How many seconds a server may stay silent: TOONGAN_TIMEOUT, or 60."""
    try:
        seconds = float(os.environ.get("TOONGAN_TIMEOUT") or 60)
        if not 0 < seconds < 1e6:
            raise ValueError
    except ValueError as error:
        raise ToonGANError("TOONGAN_TIMEOUT must be a number of seconds, such as 60.") from error
    return seconds


class Temporary(Exception):
    """A failure that may pass; `after` is the wait that the server asks for, in seconds."""

    def __init__(self, message: str, after: float | None = None):
        super().__init__(message)
        self.after = after


class Download:
    """An archive at `url` on its way to `path`.

    The bytes so far are in `PATH.part`; `PATH.part.json` proves that they belong to the file that
    the server offers now. `missing` says what to do if the server has no such file.
    """

    def __init__(self, url: str, path: Path, progress: bool = True, missing: str = ""):
        self.url, self.path, self.progress = url, path, progress
        self.missing = missing or "get it from elsewhere and use zip:PATH or tar:PATH"
        self.part = path.with_name(f"{path.name}.part")
        self.identity = path.with_name(f"{path.name}.part.json")

    def run(self) -> Path:
        """Fetch the file; returns its path.

        Raises:
            ToonGANError: the server refuses, stalls or sends something else, or the disk is full.
        """
        writable_folder(self.path.parent)
        try:
            persist(self.attempt, self.part, self.progress)
            replace(self.part, self.path)
            self.identity.unlink(missing_ok=True)
        except Temporary as error:
            raise ToonGANError(
                f"Cannot download {self.url}: {error}. {self.so_far()}Run the same command again later"
                f"{' to continue' if size_of(self.part) else ''}."
            ) from error
        except OSError as error:
            kept = f" {self.so_far()}The download continues from there." if size_of(self.part) else ""
            raise ToonGANError(f"{cannot_write(self.path, error)}{kept}") from error
        return self.path

    def attempt(self) -> None:
        have = self.have()
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": self.known()["validator"]}
        try:
            with requests.get(
                self.url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, silence_seconds())
            ) as response:
                self.receive(response, have)
        except requests.exceptions.Timeout as error:
            raise Temporary(f"the server was silent for {silence_seconds():g} seconds") from error
        except requests.exceptions.RequestException as error:
            reason = reason_of(error)
            if "timed out" in reason:
                reason = f"nothing came for {silence_seconds():g} seconds"
            raise Temporary(f"the connection broke ({reason})") from error
        self.check_hash(response)

    def receive(self, response: requests.Response, have: int) -> None:
        if response.status_code == 416 and response.headers.get("Content-Range") == f"bytes */{have}":
            return  # all of it is here already
        self.check_status(response)
        if response.status_code != 206:  # the server cannot resume, or has another file now
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        if total:
            self.check_space(total - have)
        self.identity.write_text(json.dumps({"validator": validator(response), "total": total}), encoding="utf-8")
        bar = tqdm(
            total=total,
            initial=have,
            desc=f"Downloading {self.path.name}",
            unit="B",
            unit_scale=True,
            file=sys.stdout,
            disable=not self.progress,
            mininterval=0.5,
        )
        with bar, open(self.part, "ab" if have else "wb") as file:
            for block in response.iter_content(BLOCK):
                if file.tell() == 0:
                    self.check_kind(response, block)
                file.write(block)
                bar.update(len(block))
            file.flush()
            os.fsync(file.fileno())
        size = self.part.stat().st_size
        if size == 0 or (total is not None and size != total):
            raise Temporary(f"{size:,} of {total or 0:,} bytes came")

    def have(self) -> int:
        """How many bytes are here that the server can confirm as its own."""
        try:
            return self.part.stat().st_size if self.known()["validator"] else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def known(self) -> dict:
        return json.loads(self.identity.read_text(encoding="utf-8"))

    def check_status(self, response: requests.Response) -> None:
        status = response.status_code
        if status in TEMPORARY:
            after = response.headers.get("Retry-After", "")
            words = "asks us to slow down" if status == 429 else "has a problem on its side"
            raise Temporary(f"the server {words} (HTTP {status})", float(after) if after.isdigit() else None)
        if status == 416:  # our bytes do not fit the server's file
            self.discard()
            raise Temporary("the file changed during the download")
        if status in (401, 403):
            raise ToonGANError(f"Cannot download {self.url}: the server does not allow it (HTTP {status}).")
        if status == 404:
            raise ToonGANError(f"Cannot download {self.url}: it is not there (HTTP 404); {self.missing}.")
        if status >= 400:
            raise ToonGANError(f"Cannot download {self.url}: the server answers HTTP {status}.")

    def check_kind(self, response: requests.Response, start: bytes) -> None:
        """Refuse a web page instead of an archive, as login portals and quota pages send it."""
        if not start.startswith(ARCHIVE_SIGNATURES):
            self.discard()
            kind = response.headers.get("Content-Type", "something else").split(";")[0]
            raise ToonGANError(
                f"Cannot download {self.url}: {kind} came instead of an archive; "
                "open the address in a browser to see why."
            )

    def check_space(self, need: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if need > free:
            raise OSError(
                errno.ENOSPC, f"No space left on device: {need / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free"
            )

    def check_hash(self, response: requests.Response) -> None:
        """Compare with the MD5 that Google's storage sends along."""
        sent = response.headers.get("x-goog-hash", "")
        wanted = [part.strip().removeprefix("md5=") for part in sent.split(",") if part.strip().startswith("md5=")]
        if not wanted:
            return
        with open(self.part, "rb") as file:
            digest = hashlib.file_digest(file, "md5").digest()
        if base64.b64encode(digest).decode() != wanted[0]:
            self.discard()
            raise Temporary("the file was damaged on its way (wrong MD5)")

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.identity.unlink(missing_ok=True)

    def so_far(self) -> str:
        size = size_of(self.part)
        return f"{size / 1e6:,.1f} MB are here, and kept. " if size else ""


def validator(response: requests.Response) -> str | None:
    """A token by which the server recognises the very same file (RFC 9110, section 13.1.5)."""
    tag = response.headers.get("ETag", "")
    return (tag if tag and not tag.startswith("W/") else None) or response.headers.get("Last-Modified")


def reason_of(error: Exception) -> str:
    """The innermost cause, in few words; wrappers around wrappers help nobody."""
    while (inner := getattr(error, "reason", None) or next(filter(is_exception, error.args), None)) is not None:
        if not is_exception(inner):
            break
        error = inner
    return getattr(error, "strerror", None) or str(error).split(": ", 1)[-1] or type(error).__name__


def is_exception(value) -> bool:
    return isinstance(value, Exception)


def persist(action: Callable[[], None], path: Path, progress: bool) -> None:
    """Repeat `action` while it fails for a `Temporary` reason, until `TRIES` in a row add no byte to `path`."""
    best = fruitless = 0

    def hopeless(state: tenacity.RetryCallState) -> bool:
        nonlocal best, fruitless
        fruitless = 0 if size_of(path) > best else fruitless + 1
        best = max(best, size_of(path))
        return fruitless >= TRIES

    def say(state: tenacity.RetryCallState) -> None:
        text = str(state.outcome.exception())
        print(f"{text[0].upper()}{text[1:]}; trying again.", flush=True)

    tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Temporary),
        stop=hopeless,
        wait=pause,
        before_sleep=say if progress else None,
        reraise=True,
    )(action)


def pause(state: tenacity.RetryCallState) -> float:
    """Seconds to wait: as the server asks, up to a minute, or longer each time."""
    after = getattr(state.outcome.exception(), "after", None)
    return PAUSE(state) if after is None else min(after, 60.0)


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
