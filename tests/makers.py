"""Real images, real broken files and a real server for the tests of data sets."""

import base64
import csv
import hashlib
import io
import json
import struct
import tarfile
import threading
import time
import zipfile
import zlib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

import toongan


def drawing(number: int, width: int = 40, height: int = 40) -> Image.Image:
    """A small image, different for every number."""
    chance = np.random.default_rng(number)
    small = Image.fromarray(chance.integers(0, 256, (5, 5, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.NEAREST)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def images(count: int, first: int = 0) -> dict[str, bytes]:
    """Files by name: good images."""
    return {f"face-{number:04d}.png": encoded(drawing(number)) for number in range(first, first + count)}


def fill_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def make_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix in (".tgz", ".gz") else "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def huge_png(side: int) -> bytes:
    """A valid grey PNG of `side`×`side` in a few kilobytes a megapixel: a decompression bomb."""
    packer = zlib.compressobj(9)
    row = bytes(1 + side)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff(levels: np.ndarray, order: str = "<", **tags: int | float) -> bytes:
    """An uncompressed TIFF of one strip, whose directory says what it is told to: Pillow writes only what it can read.

    `levels` are `(H, W)` or `(H, W, 3)`; tags by name in place of, or beside, what they need.
    """
    numbers = {
        "BitsPerSample": 258, "Photometric": 262, "MinSampleValue": 280, "MaxSampleValue": 281, "SampleFormat": 339,
        "SMinSampleValue": 340, "SMaxSampleValue": 341, "Orientation": 274, "Compression": 259,
    }  # fmt: skip
    channels = levels.shape[2] if levels.ndim == 3 else 1
    body = levels.astype(levels.dtype.newbyteorder(order)).tobytes()
    entries = {
        **{
            256: levels.shape[1],
            257: levels.shape[0],
            258: levels.itemsize * 8,
            259: 1,
            262: 2 if channels == 3 else 1,
        },
        **{
            273: 8,
            277: channels,
            278: levels.shape[0],
            279: len(body),
            339: {"u": 1, "i": 2, "f": 3}[levels.dtype.kind],
        },
        **{numbers[name]: value for name, value in tags.items()},
    }
    start = 8 + len(body) + len(body) % 2
    extra = struct.pack(order + "3H", *[entries[258]] * 3)  # where three of a tag do not fit into its entry
    place = start + 2 + 12 * len(entries) + 4
    directory = struct.pack(order + "H", len(entries))
    for number, value in sorted(entries.items()):
        if number == 258 and channels == 3:
            directory += struct.pack(order + "HHLL", number, 3, 3, place)
        elif isinstance(value, float):
            directory += struct.pack(order + "HHLf", number, 11, 1, value)
        elif number in (258, 280, 281, 339):
            directory += struct.pack(order + "HHLHH", number, 3, 1, value, 0)
        else:
            directory += struct.pack(order + "HHLL", number, 4, 1, value)
    mark = {"<": b"II", ">": b"MM"}[order]
    header = mark + struct.pack(order + "HL", 42, start)
    return header + body + bytes(len(body) % 2) + directory + bytes(4) + extra


CARTOON_SET_ATTRIBUTES = (
    "eye_angle eye_lashes eye_lid chin_length eyebrow_weight eyebrow_shape eyebrow_thickness face_shape facial_hair "
    "hair eye_color face_color hair_color glasses glasses_color eye_slant eyebrow_width eye_eyebrow_distance"
).split()


def cartoon_set(count: int, folders: bool = False) -> dict[str, bytes]:
    """What Google's archive looks like: transparent 500 px PNG files, each beside a CSV of 18 attributes."""
    files = {}
    for number in range(count):
        clear = Image.new("RGBA", (500, 500), (0, 0, 0, 0))
        clear.paste(drawing(number, 300, 300).convert("RGBA"), (100, 100))
        place = f"cartoonset100k/{number % 10}" if folders else "cartoonset10k"
        name = f"{place}/cs{10**19 + number}"
        files[f"{name}.csv"] = "".join(
            f'"{attribute}", {(number + i) % 3}, {3 + i}\n' for i, attribute in enumerate(CARTOON_SET_ATTRIBUTES)
        ).encode()
        files[f"{name}.png"] = encoded(clear)
    return files


class Server:
    """An HTTP server on loopback that behaves as it is told, and remembers what it was asked.

    Each request takes the next of `behaviours`, the last one for ever:

    - `good`: the file, ranges and all, with Google's MD5 header;
    - `cut`: half of what was asked for, then the connection breaks;
    - `stall`: half of it, then silence;
    - `silent`: nothing at all;
    - `html`, `wrong-hash`, `short`, `no-range`;
    - a number: that HTTP status.
    """

    def __init__(self, content: bytes, *behaviours):
        self.content, self.behaviours, self.requests = content, list(behaviours or ["good"]), []
        self.quit = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def do_GET(self):
                outer.requests.append((self.path, dict(self.headers)))
                behaviour = outer.behaviours[0] if len(outer.behaviours) == 1 else outer.behaviours.pop(0)
                outer.answer(self, behaviour)

            def do_POST(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                outer.requests.append((self.path, dict(self.headers)))
                outer.answer_api(self, json.loads(body or b"{}"))

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, handler, behaviour) -> None:
        if isinstance(behaviour, int):
            handler.send_response(behaviour)
            handler.send_header("Content-Length", "0")
            handler.send_header("Retry-After", "0")
            handler.end_headers()
            return
        if behaviour == "silent":
            self.quit.wait(30)
            handler.close_connection = True
            return
        content = b"<html>Sign in</html>" if behaviour == "html" else self.content
        wanted = handler.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and behaviour != "no-range" else 0
        if start and handler.headers.get("If-Range") != self.tag:
            start = 0
        if start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        body = content[start:]
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Content-Type", "text/html" if behaviour == "html" else "application/gzip")
        handler.send_header("ETag", self.tag)
        handler.send_header("Accept-Ranges", "bytes")
        handler.send_header("Last-Modified", "Mon, 02 Nov 2026 10:00:00 GMT")
        digest = hashlib.md5(b"another" if behaviour == "wrong-hash" else content).digest()
        handler.send_header("x-goog-hash", f"crc32c=AAAAAA==,md5={base64.b64encode(digest).decode()}")
        handler.end_headers()
        half = behaviour in ("cut", "stall")
        handler.wfile.write(body[: len(body) // 2] if half else body)
        if behaviour == "stall":
            handler.wfile.flush()
            self.quit.wait(30)
        if half:
            handler.close_connection = True

    tag = '"tag-1"'

    # What Kaggle's client asks: who may, what licence, and where the archive is.
    needs_token: str | None = None
    api_status = 0

    def answer_api(self, handler, body: dict) -> None:
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        if handler.path.endswith("IntrospectToken"):
            self.reply(handler, {"active": True, "username": "student"})
        elif self.api_status:
            self.reply(handler, {"code": self.api_status, "message": "refused"}, self.api_status)
        elif self.needs_token and token != self.needs_token:
            self.reply(handler, {"code": 401, "message": "Unauthenticated"}, 401)
        elif handler.path.endswith("GetDatasetMetadata"):
            self.reply(handler, {"info": {"licenses": [{"name": "CC-BY-4.0"}]}})
        else:
            handler.send_response(302)
            handler.send_header("Location", f"{self.url}/archive.zip")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

    @staticmethod
    def reply(handler, answer: dict, status: int = 200) -> None:
        text = json.dumps(answer).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    def __enter__(self) -> "Server":
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *problem) -> None:
        self.quit.set()
        self.http.shutdown()
        self.http.server_close()


@contextmanager
def stopwatch():
    """Gives a function that tells the seconds since the start."""
    start = time.monotonic()
    yield lambda: time.monotonic() - start


def pack(dataset: str, image_size: int = 32, **options) -> toongan.PackedDataset:
    return toongan.prepare(toongan.DataConfig(dataset, image_size=image_size, **options), progress=False)


def reasons(data: toongan.PackedDataset) -> dict[str, str]:
    """Reason by file, as `left-out.csv` tells it."""
    with open(data.folder / "left-out.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(data.left_out.values())
    return {row["source"]: row["reason"] for row in rows}
