"""Downloads from a real server on loopback, which behaves well, badly, and not at all."""

import json
import os
import signal
import subprocess
import sys

import pytest
import tenacity
from conftest import REPOSITORY
from makers import CARTOON_SET_ATTRIBUTES, Server, cartoon_set, fill_folder, images, make_tar, make_zip

import toongan
from toongan.datasets import downloads
from toongan.datasets.downloads import Download


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> bytes:
    """A small Cartoon Set, padded to over 3 MB, so that a broken download leaves something to resume."""
    files = cartoon_set(64, folders=True) | {"padding.txt": os.urandom(3 << 20)}
    return make_tar(tmp_path_factory.mktemp("set") / "set.tgz", files).read_bytes()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE", tenacity.wait_none())


def fetch(server: Server, home, monkeypatch, timeout: float = 20) -> toongan.PackedDataset:
    monkeypatch.setenv("TOONGAN_MIRROR", server.url)
    monkeypatch.setenv("TOONGAN_TIMEOUT", str(timeout))
    return toongan.prepare(toongan.DataConfig("cartoonset10k", image_size=32))


def ranges(server: Server) -> list[str]:
    return [headers.get("Range", "") for _, headers in server.requests]


def leftovers(home) -> list[str]:
    return sorted(path.name for path in (home / "data" / "downloads").glob("[!.]*"))


def test_good_download_is_packed_with_its_labels(home, monkeypatch, archive, capsys):
    with Server(archive) as server:
        data = fetch(server, home, monkeypatch)
        assert len(data) == 64 and data.images.shape == (64, 32, 32, 3)
        assert set(data.labels[0]) == set(CARTOON_SET_ATTRIBUTES)
        assert data.meta["license"] == "CC BY 4.0" and data.meta["credit"]["creator"] == "Google"
        assert [path for path, _ in server.requests] == ["/cartoonset10k.tgz"]
        text = capsys.readouterr().out
        assert "Downloading cartoonset10k.tgz: 100%" in text and "Packing cartoonset10k: 100%" in text
        assert leftovers(home) == ["cartoonset10k.tgz"]
        fetch(server, home, monkeypatch)
        other = toongan.prepare(toongan.DataConfig("cartoonset10k", image_size=64), progress=False)
        assert other.images.shape[1] == 64
        assert len(server.requests) == 1, "another size needs no other download"
    (home / "data" / "downloads" / "cartoonset10k.tgz").unlink()
    assert len(fetch(server, home, monkeypatch)) == 64, "the packed form is enough"


@pytest.mark.parametrize("behaviour", ["cut", "stall"])
def test_broken_download_resumes(home, monkeypatch, archive, capsys, behaviour):
    with Server(archive, behaviour, behaviour, "good") as server:
        assert len(fetch(server, home, monkeypatch, timeout=0.3)) == 64
        first, second, third = ranges(server)
        assert not first and 0 < int(second[6:-1]) < int(third[6:-1]) < len(archive)
    text = capsys.readouterr().out
    assert "trying again" in text
    if behaviour == "stall":
        assert "nothing came for 0.3 seconds" in text


def test_resumes_in_another_process(home, monkeypatch, archive):
    """Killed in the middle of a download; the next command takes up what is there."""
    with Server(archive, "stall", "good") as server:
        environment = {**os.environ, "TOONGAN_HOME": str(home), "TOONGAN_MIRROR": server.url}
        process = subprocess.Popen(
            [sys.executable, "-m", "toongan", "data", "cartoonset10k"], cwd=REPOSITORY, env=environment,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        part = home / "data" / "downloads" / "cartoonset10k.tgz.part"
        while downloads.size_of(part) < 1 << 20:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(fetch(server, home, monkeypatch)) == 64
        assert int(ranges(server)[1][6:-1]) >= 1 << 20


def test_server_that_cannot_resume_sends_all_again(home, monkeypatch, archive):
    with Server(archive, "cut", "no-range") as server:
        assert len(fetch(server, home, monkeypatch)) == 64
        assert ranges(server)[1]


def test_file_that_changed_is_fetched_anew(home, monkeypatch, archive, tmp_path):
    other = make_tar(tmp_path / "other.tgz", cartoon_set(70)).read_bytes()
    with Server(archive, "cut", 404) as server:
        with pytest.raises(toongan.ToonGANError, match="404"):
            fetch(server, home, monkeypatch)
        server.content, server.tag, server.behaviours = other, '"tag-2"', ["good"]
        assert len(fetch(server, home, monkeypatch)) == 70


def test_everything_came_but_the_last_rename(home, monkeypatch, archive):
    folder = fill_folder(home / "data" / "downloads", {"cartoonset10k.tgz.part": archive})
    identity = {"validator": Server.tag, "total": len(archive)}
    (folder / "cartoonset10k.tgz.part.json").write_text(json.dumps(identity))
    with Server(archive) as server:
        assert len(fetch(server, home, monkeypatch)) == 64
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "behaviour, says",
    [
        ("silent", "the server was silent for 0.2 seconds"),
        ("stall", "nothing came for 0.2 seconds"),
        ("cut", "the connection broke"),
        ("wrong-hash", "was damaged on its way"),
        (429, "the server asks us to slow down (HTTP 429)"),
        (500, "the server has a problem on its side (HTTP 500)"),
        (503, "the server has a problem on its side (HTTP 503)"),
    ],
)
def test_trouble_that_does_not_pass(home, monkeypatch, archive, behaviour, says):
    with Server(b"\x1f\x8b" + archive[:1000], behaviour) as server:
        with pytest.raises(toongan.ToonGANError) as caught:
            fetch(server, home, monkeypatch, timeout=0.2)
        assert says in str(caught.value) and server.url in str(caught.value)
        assert "Run the same command again later" in str(caught.value)
        assert len(server.requests) >= 3
    assert "cartoonset10k.tgz" not in leftovers(home)


@pytest.mark.parametrize(
    "behaviour, says",
    [
        (401, "the server does not allow it (HTTP 401)"),
        (403, "the server does not allow it (HTTP 403)"),
        (404, "it is not there (HTTP 404); put cartoonset10k.tgz on the mirror, or unset TOONGAN_MIRROR"),
        (410, "the server answers HTTP 410"),
        ("html", "text/html came instead of an archive"),
    ],
)
def test_trouble_that_is_final(home, monkeypatch, archive, behaviour, says):
    with Server(archive, behaviour) as server:
        with pytest.raises(toongan.ToonGANError) as caught:
            fetch(server, home, monkeypatch)
        assert says in str(caught.value) and len(server.requests) == 1
    assert not any(name.endswith(".tgz") for name in leftovers(home))


@pytest.mark.parametrize("behaviour", [429, 500, 503, "silent", "wrong-hash"])
def test_trouble_that_passes(home, monkeypatch, archive, behaviour):
    with Server(archive, behaviour, behaviour, "good") as server:
        assert len(fetch(server, home, monkeypatch, timeout=1)) == 64


def test_nobody_listens(home, monkeypatch):
    monkeypatch.setenv("TOONGAN_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(toongan.ToonGANError, match="Cannot download http://127.0.0.1:9/.*refused"):
        toongan.prepare(toongan.DataConfig("cartoonset10k", image_size=32))


def test_waits_as_long_as_the_server_asks(monkeypatch):
    class Outcome:
        def exception(self):
            return self.error

    class State:
        outcome, attempt_number = Outcome(), 1

    for after, wanted in ((7.0, 7.0), (7200.0, 60.0), (None, 0)):
        State.outcome.error = downloads.Temporary("slow down", after)
        assert downloads.pause(State) == wanted


def test_disk_full_while_downloading(small_disk, archive):
    small_disk.fill()
    with Server(archive) as server:
        done = small_disk.run("data", "cartoonset10k", "--image-size", 32, TOONGAN_MIRROR=server.url)
        assert done.returncode == 2
        errors = done.stderr.strip().splitlines()
        assert len(errors) == 1 and ("No space left on device" in errors[0] or "File too large" in errors[0])
        assert "free some space and run the same command again" in errors[0]
        small_disk.free()
        done = small_disk.run("data", "cartoonset10k", "--image-size", 32, TOONGAN_MIRROR=server.url)
        assert done.returncode == 0, done.stderr
        assert "64 images of 32 px" in done.stdout


def test_damaged_archive_is_deleted_so_that_the_next_command_fetches_it(home, monkeypatch, archive):
    """A mirror without a hash may serve half a file as if it were whole."""
    with Server(archive[: len(archive) // 2]) as server:
        with pytest.raises(
            toongan.ToonGANError,
            match="of no use: it is damaged or cut short after .* It was deleted; run the same command to download it again",
        ):
            fetch(server, home, monkeypatch)
        server.content = archive
        assert len(fetch(server, home, monkeypatch)) == 64


def test_failed_download_leaves_what_was_packed_before(home, monkeypatch, archive):
    with Server(archive, "good") as server:
        data = fetch(server, home, monkeypatch)
        (home / "data" / "downloads" / "cartoonset10k.tgz").unlink()
        server.behaviours = [404]
        with pytest.raises(toongan.ToonGANError, match="404"):
            toongan.prepare(toongan.DataConfig("cartoonset10k", image_size=64), progress=False)
        again = fetch(server, home, monkeypatch)
        assert again.fingerprint == data.fingerprint


def test_incomplete_set_is_mentioned_and_a_useless_one_deleted(home, monkeypatch, archive, capsys, tmp_path):
    few = make_tar(tmp_path / "few.tgz", cartoon_set(5)).read_bytes()
    with Server(few) as server:
        with pytest.raises(
            toongan.ToonGANError, match="of no use: cartoonset10k holds 5 usable images .* It was deleted"
        ):
            fetch(server, home, monkeypatch)
        server.content = archive
        assert len(fetch(server, home, monkeypatch)) == 64
    assert (
        "cartoonset10k should hold 10,000 images, but 65 were found: is this copy complete?" in capsys.readouterr().out
    )


@pytest.mark.parametrize("mirror", ["127.0.0.1:80", "file:///tmp", "ftp://x"])
def test_mirror_must_be_an_address(home, monkeypatch, mirror):
    monkeypatch.setenv("TOONGAN_MIRROR", mirror)
    with pytest.raises(toongan.ToonGANError, match="TOONGAN_MIRROR must begin with http:// or https://"):
        toongan.prepare(toongan.DataConfig("cartoonset10k", image_size=32))


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan"])
def test_timeout_must_be_a_number(home, monkeypatch, archive, value):
    monkeypatch.setenv("TOONGAN_TIMEOUT", value)
    with pytest.raises(toongan.ToonGANError, match="TOONGAN_TIMEOUT must be a number of seconds"):
        Download("http://127.0.0.1:9/x.tgz", home / "x.tgz").run()


@pytest.mark.parametrize("place", ["cartoonset10k.tgz", "data/cartoonset10k.tgz", "cartoonset10k"])
def test_found_in_google_drive(home, monkeypatch, tmp_path, capsys, place):
    """What lies in Drive is packed from there, and nothing is downloaded."""
    files = cartoon_set(64)
    drive = tmp_path / "drive"
    monkeypatch.setenv("TOONGAN_DRIVE", str(drive))
    make_tar(drive / place, files) if place.endswith(".tgz") else fill_folder(drive / place, files)
    with Server(b"", 404) as server:
        data = fetch(server, home, monkeypatch)
        assert len(data) == 64 and not server.requests
    assert set(data.labels[0]) == set(CARTOON_SET_ATTRIBUTES)
    assert "in Google Drive" in capsys.readouterr().out
    assert home in data.folder.parents


def test_drive_is_a_data_set_of_its_own(home, monkeypatch, tmp_path):
    monkeypatch.setenv("TOONGAN_DRIVE", str(fill_folder(tmp_path / "drive", images(70))))
    assert len(toongan.prepare(toongan.DataConfig("drive", image_size=32), progress=False)) == 70
    fill_folder(tmp_path / "drive" / "mine", images(80, first=100))
    assert len(toongan.prepare(toongan.DataConfig("drive:mine", image_size=32), progress=False)) == 80


def test_kaggle_zip_in_drive_goes_by_its_own_name(home, monkeypatch, tmp_path):
    monkeypatch.setenv("TOONGAN_DRIVE", str(tmp_path))
    make_zip(tmp_path / "animefacedataset.zip", {f"images/{name}": data for name, data in images(66).items()})
    assert len(toongan.prepare(toongan.DataConfig("anime-faces", image_size=32), progress=False)) == 66


def test_home_in_drive_packs_to_the_local_disk(monkeypatch):
    monkeypatch.setenv("TOONGAN_HOME", "/content/drive/MyDrive/projects/cartoons")
    from toongan.paths import checkpoint_folder, data_folder

    assert str(data_folder("avatars")) == "/content/toongan-data/avatars"
    assert str(checkpoint_folder("r")) == "/content/drive/MyDrive/projects/cartoons/checkpoints/r"


def test_two_processes_fetch_an_archive_once(home, archive):
    """The second waits for the first, and says so; it does not write into the same file."""
    with Server(archive) as server:
        environment = {**os.environ, "TOONGAN_HOME": str(home), "TOONGAN_MIRROR": server.url}
        arguments = [sys.executable, "-m", "toongan", "data", "cartoonset10k", "--image-size", "32"]
        both = [
            subprocess.Popen(arguments, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        texts = [process.communicate(timeout=120)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert all("64 images of 32 px" in text for text in texts)
        assert len(server.requests) == 1
