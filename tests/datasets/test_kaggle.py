"""Kaggle's own client, run against a server on loopback: the good path and each failure."""

import json
import os
import sys
import types
import zipfile

import pytest
import tenacity
from conftest import command
from makers import Server, images, make_zip

import toongan
from toongan.datasets import downloads
from toongan.datasets import kaggle as kaggle_sets

SLUG = "splcher/animefacedataset"
SECRET = "KGAT_0123456789abcdef"


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> bytes:
    """Padded to over 3 MB: the client writes by the megabyte, and shall have something to resume."""
    files = {f"images/{name}": data for name, data in images(70).items()} | {"padding.txt": os.urandom(3 << 20)}
    return make_zip(tmp_path_factory.mktemp("kaggle") / "a.zip", files).read_bytes()


@pytest.fixture(autouse=True)
def nobody(home, monkeypatch):
    """No credentials, an empty home, no waiting between tries, and never the real Kaggle."""
    for name in [name for name in os.environ if name.startswith("KAGGLE")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setattr(downloads, "PAUSE", tenacity.wait_none())
    monkeypatch.setattr(sys, "stdin", open(os.devnull))


def fetch(server: Server, monkeypatch, timeout: float = 30, dataset: str = "anime-faces") -> toongan.PackedDataset:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("TOONGAN_TIMEOUT", str(timeout))
    return toongan.prepare(toongan.DataConfig(dataset, image_size=32))


def asked(server: Server) -> list[str]:
    return [path.rpartition("/")[2] for path, _ in server.requests]


def tokens(server: Server) -> set[str]:
    return {
        headers["Authorization"].removeprefix("Bearer ") for _, headers in server.requests if "Authorization" in headers
    }


def test_without_an_account(home, monkeypatch, archive, capsys):
    with Server(archive) as server:
        data = fetch(server, monkeypatch)
        assert len(data) == 70 and data.left_out == {"not an image": 1}
        assert data.index[0]["source"] == "images/face-0000.png"
        assert asked(server) == ["GetDatasetMetadata", "DownloadDataset", "archive.zip"] and not tokens(server)
    text = capsys.readouterr().out
    notice = text.index("these faces were collected from the web without the consent of the artists")
    assert notice < text.index("Packing anime-faces"), "the notice comes first"
    assert sorted(path.name for path in (home / "data" / "downloads").glob("[!.]*")) == ["anime-faces.zip"]
    assert "artists" in data.meta["license"]


def test_cartoon_faces_has_no_notice(monkeypatch, archive, capsys):
    with Server(archive) as server:
        data = fetch(server, monkeypatch, dataset="cartoon-faces")
    assert data.meta["license"] == "CC BY 4.0" and "consent" not in capsys.readouterr().out
    assert data.labels[0] == {}


def test_token_from_the_environment(home, monkeypatch, archive, capsys):
    monkeypatch.setenv("KAGGLE_API_TOKEN", SECRET)
    with Server(archive) as server:
        server.needs_token = SECRET
        assert len(fetch(server, monkeypatch)) == 70
        assert tokens(server) == {SECRET}
    assert_secret(home, capsys)


def test_token_from_the_home_folder(home, monkeypatch, archive, capsys):
    (home / ".kaggle").mkdir()
    (home / ".kaggle" / "access_token").write_text(SECRET)
    with Server(archive) as server:
        server.needs_token = SECRET
        assert len(fetch(server, monkeypatch)) == 70
    (home / ".kaggle" / "access_token").unlink()
    assert_secret(home, capsys)


def test_token_from_colab_secrets(home, monkeypatch, archive, capsys):
    """One name is set; another raises what Colab raises."""

    class SecretNotFoundError(Exception):
        pass

    def get(name):
        if name == "KAGGLE_API_TOKEN":
            return SECRET
        raise SecretNotFoundError(name)

    userdata = types.ModuleType("google.colab.userdata")
    userdata.get = get
    colab = types.ModuleType("google.colab")
    colab.userdata = userdata
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    monkeypatch.setitem(sys.modules, "google.colab.userdata", userdata)
    with Server(archive) as server:
        server.needs_token = SECRET
        assert len(fetch(server, monkeypatch)) == 70
    assert "KAGGLE_API_TOKEN" not in os.environ
    assert_secret(home, capsys)


def test_colab_without_secrets_goes_on_to_the_prompt(monkeypatch):
    class TimeoutException(Exception):
        pass

    userdata = types.ModuleType("google.colab.userdata")
    userdata.get = lambda name: (_ for _ in ()).throw(TimeoutException)
    colab = types.ModuleType("google.colab")
    colab.userdata = userdata
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    assert kaggle_sets.colab_secrets() is None


def test_token_asked_for_and_never_shown(home, monkeypatch, archive, capsys):
    class Terminal:
        def isatty(self):
            return True

    prompts = []
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda text: prompts.append(text) or SECRET)
    with Server(archive) as server:
        server.needs_token = SECRET
        assert len(fetch(server, monkeypatch)) == 70
    assert len(prompts) == 1 and "not shown" in prompts[0]
    assert_secret(home, capsys)


def test_content_of_kaggle_json_is_a_token_too():
    text = json.dumps({"username": "anna", "key": "0123"})
    assert kaggle_sets.parse_token(text) == {"KAGGLE_USERNAME": "anna", "KAGGLE_KEY": "0123"}
    assert kaggle_sets.parse_token(SECRET) == {"KAGGLE_API_TOKEN": SECRET}
    assert kaggle_sets.parse_token("") is None


def assert_secret(home, capsys) -> None:
    """The token is in no output and in no file."""
    captured = capsys.readouterr()
    assert SECRET not in captured.out + captured.err
    for path in home.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("status", [401, 403])
def test_refused(monkeypatch, archive, status):
    with Server(archive) as server:
        server.api_status = status
        with pytest.raises(toongan.ToonGANError) as caught:
            fetch(server, monkeypatch)
    assert f"Kaggle does not give {SLUG} without a valid account (HTTP {status})" in str(caught.value)
    assert "make a token at kaggle.com/settings" in str(caught.value)


def test_wrong_token_is_refused_and_not_shown(home, monkeypatch, archive, capsys):
    monkeypatch.setenv("KAGGLE_API_TOKEN", SECRET)
    with Server(archive) as server:
        server.needs_token = "another"
        with pytest.raises(toongan.ToonGANError, match="without a valid account"):
            fetch(server, monkeypatch)
    assert_secret(home, capsys)


def test_not_there_any_more(monkeypatch, archive):
    with Server(archive) as server:
        server.api_status = 404
        with pytest.raises(
            toongan.ToonGANError, match=rf"no data set {SLUG} any more \(HTTP 404\); get it from elsewhere"
        ):
            fetch(server, monkeypatch)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "status, says",
    [(429, "Kaggle asks us to slow down"), (500, "Kaggle has a problem on its side"), (503, "problem on its side")],
)
def test_trouble_of_the_server(monkeypatch, archive, status, says):
    with Server(archive) as server:
        server.api_status = status
        with pytest.raises(toongan.ToonGANError, match=f"{says}.*Run the same command again later"):
            fetch(server, monkeypatch)
        assert len(server.requests) == downloads.TRIES


def test_no_connection_to_kaggle(home, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(downloads, "TRIES", 2)
    with pytest.raises(toongan.ToonGANError, match="Kaggle cannot be reached; is this machine online"):
        toongan.prepare(toongan.DataConfig("anime-faces", image_size=32))
    assert not list((home / "data" / "downloads").glob("[!.]*"))


def test_archive_host_in_trouble(monkeypatch, archive):
    with Server(archive, 503, "good") as server:
        assert len(fetch(server, monkeypatch)) == 70


def test_server_that_stalls_before_the_first_answer(monkeypatch, archive):
    """The client itself would wait for ever."""
    monkeypatch.setattr(downloads, "TRIES", 2)
    with Server(archive, "silent") as server:
        with pytest.raises(toongan.ToonGANError, match="Kaggle was silent for 2 seconds"):
            fetch(server, monkeypatch, timeout=2)


def test_stalled_download_resumes(monkeypatch, archive):
    with Server(archive, "stall", "good") as server:
        assert len(fetch(server, monkeypatch, timeout=3)) == 70
        resumed = [headers["Range"] for _, headers in server.requests if "Range" in headers]
        assert resumed and int(resumed[-1][6:-1]) >= 1 << 20


def test_broken_connection_resumes(monkeypatch, archive):
    with Server(archive, "cut", "good") as server:
        assert len(fetch(server, monkeypatch)) == 70


@pytest.mark.parametrize("behaviour", ["html", "half"])
def test_no_archive_in_the_answer(home, monkeypatch, archive, behaviour):
    """The client checks no content and calls it a success."""
    monkeypatch.setattr(downloads, "TRIES", 2)
    content = archive[: len(archive) // 2] if behaviour == "half" else archive
    with Server(content, "html" if behaviour == "html" else "good") as server:
        with pytest.raises(toongan.ToonGANError, match="what came is not a complete zip archive"):
            fetch(server, monkeypatch)
    assert not list((home / "data" / "downloads").glob("*.zip"))


def test_zip_of_an_earlier_try_proves_nothing(home, monkeypatch, archive):
    """Left behind by another hand under the client's name: half a file, newer than the server's."""
    part = home / "data" / "downloads" / ".anime-faces.part"
    part.mkdir(parents=True)
    (part / "animefacedataset.zip").write_bytes(archive[:100_000])
    with Server(archive) as server:
        assert len(fetch(server, monkeypatch)) == 70


def test_disk_full(home, small_disk, archive):
    small_disk.fill()
    environment = {"KAGGLE_API_ENVIRONMENT": "LOCALHOST", "HOME": str(home)}
    with Server(archive) as server:
        done = small_disk.run("data", "anime-faces", "--image-size", 32, http_proxy=server.url, **environment)
        assert done.returncode == 2
        assert done.stderr.startswith("error: Cannot write") and "No space left on device" in done.stderr, done.stderr
        small_disk.free()
        done = small_disk.run("data", "anime-faces", "--image-size", 32, http_proxy=server.url, **environment)
        assert done.returncode == 0, done.stderr


def test_interrupt_is_no_success(home, monkeypatch, archive):
    """The client answers Ctrl-C with exit status 0; here the file stays unfinished and the exit status is 130."""
    import signal
    import subprocess

    from conftest import REPOSITORY

    with Server(archive, "stall", "good") as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "toongan", "data", "anime-faces", "--image-size", "32"],
            cwd=REPOSITORY,
            env={**os.environ, "http_proxy": server.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        part = home / "data" / "downloads" / ".anime-faces.part" / "animefacedataset.zip"
        while downloads.size_of(part) < 1 << 20:
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130 and "Run the same command again to continue" in errors
        assert not list((home / "data" / "downloads").glob("*.zip"))
        assert len(fetch(server, monkeypatch)) == 70
        assert any("Range" in headers for _, headers in server.requests)


def test_by_script(home, monkeypatch, archive):
    """Nobody at the keyboard: the notice, the data, no question."""
    with Server(archive) as server:
        monkeypatch.setenv("http_proxy", server.url)
        done = command("data", "anime-faces", "--image-size", 32, home=home)
    assert done.returncode == 0, done.stderr
    assert "consent" in done.stdout and "70 images of 32 px" in done.stdout
    assert zipfile.is_zipfile(home / "data" / "downloads" / "anime-faces.zip")
