"""What is printed where the terminal has few characters, where there is none, and when the unforeseen happens."""

import io
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY, command
from makers import fill_folder, images

from toongan import cli
from toongan.system import terminal, unforeseen


@pytest.mark.parametrize("page, shown", [("cp1252", r"é\u6f22"), ("ascii", r"\xe9\u6f22")])
def test_names_beyond_the_code_page(tmp_path, monkeypatch, page, shown):
    monkeypatch.setenv("PYTHONIOENCODING", page)
    fill_folder(tmp_path / "é漢", images(66))
    done = written("data", f"folder:{tmp_path / 'é漢'}", "--image-size", "32", home=tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode(page)
    assert "66 images of 32 px" in said and "100%|##########|" in said
    done = written("data", f"folder:{tmp_path / 'é漢'}x", home=tmp_path)
    assert done.returncode == 2 and f"{shown}x is not there; check the path." in done.stderr.decode(page)


@pytest.mark.parametrize(
    "environment, shown",
    [
        ({"PYTHONIOENCODING": "ascii:strict"}, r"\u6f22\xff.png"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, r"\xe6\xbc\xa2\xff.png"),
    ],
)
def test_images_beyond_the_code_page(shared_home, tmp_path, monkeypatch, environment, shown):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / os.fsdecode("漢".encode() + b"\xff.png")
    done = written("generate", "--run", "tiny", "--out", out, home=shared_home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().rstrip().endswith(shown) and out.is_file()


def written(*arguments, home, **options) -> subprocess.CompletedProcess:
    """`python -m toongan ...`, what it prints as bytes."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    environment = {**os.environ, "TOONGAN_HOME": str(home), "PYTHONUNBUFFERED": ""}
    line = [sys.executable, "-m", "toongan", *map(str, arguments)]
    return subprocess.run(line, cwd=REPOSITORY, env=environment, timeout=120, **streams)


def unread() -> int:
    """The end to write to of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def test_help_that_nobody_reads(tmp_path):
    done = written("train", "--help", home=tmp_path, stdout=unread())
    assert (done.returncode, done.stderr) == (141, b""), "as any program in front of `| head`"


def test_a_path_that_nobody_reads(shared_home, tmp_path):
    done = written("generate", "--run", "tiny", "--out", tmp_path / "x.png", home=shared_home, stdout=unread())
    assert (done.returncode, done.stderr) == (141, b"") and (tmp_path / "x.png").is_file()


def test_data_that_nobody_watches(tmp_path):
    arguments = ("data", "avatars", "--count", "64", "--image-size", "32")
    done = written(*arguments, home=tmp_path, stdout=unread())
    assert done.returncode == 141
    assert done.stderr == b"Stopped: nobody reads the output any more. Run the same command again to continue.\n"
    assert command(*arguments, home=tmp_path).returncode == 0


def test_a_full_disk_behind_the_output(tmp_path):
    with open("/dev/full", "wb") as full:
        done = written("train", "--help", home=tmp_path, stdout=full)
    assert done.returncode == 2
    assert done.stderr == b"error: The output cannot be written (No space left on device).\n"


@pytest.mark.parametrize("closed", ["1", "2", "1 2"])
def test_closed_streams(shared_home, tmp_path, closed):
    def close():
        for number in map(int, closed.split()):
            os.close(number)

    done = written("generate", "--run", "tiny", "--out", tmp_path / "x.png", home=shared_home, preexec_fn=close)
    assert done.returncode == 0, done.stderr
    said = (done.stdout + done.stderr).decode()
    assert not said or (REPOSITORY / said.rstrip("\n")).resolve() == (tmp_path / "x.png").resolve()
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"


def test_without_the_packages():
    bare = Path(sys.base_prefix) / "bin" / "python3"
    environment = {**os.environ, "PYTHONNOUSERSITE": "1"}
    done = subprocess.run(
        [bare, "-m", "toongan", "train"], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert re.fullmatch(r"error: The package \w+ is missing; first run: .* -m pip install -r .*\n", done.stderr)


# --- what nobody has foreseen ----------------------------------------------------------------------------------------


def fails_with(monkeypatch, error: BaseException) -> None:
    def run(command):
        raise error

    monkeypatch.setattr(cli, "run", run)


def status_of(*arguments) -> int:
    with pytest.raises(SystemExit) as leaving:
        cli.main(list(map(str, arguments)))
    return leaving.value.code


def test_the_unforeseen_is_a_sentence_and_a_report(home, monkeypatch, capsys):
    fails_with(monkeypatch, TypeError("'NoneType' object\nis not iterable" + "x" * 1000))
    for number in (1, 2):
        assert status_of("train", "--run", "my-run") == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and len(said) < 600
        assert said.startswith(r"error: something unforeseen happened (TypeError: 'NoneType' object\nis not iterable")
        assert "; run the same command again, and if that does not help, send that file to the authors." in said
        report = Path(re.search(r"The traceback is in (\S+\.txt);", said)[1]).resolve()
        assert report.parent == home.resolve() and len(list(home.iterdir())) == number, "a new name each time"
        text = report.read_text()
        assert "command: python -m toongan train --run my-run\n" in text and f"\ntorch {version('torch')}\n" in text
        assert "Traceback (most recent call last)" in text and "TypeError: 'NoneType'" in text


def test_a_report_finds_a_place_or_is_printed(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TOONGAN_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(unforeseen.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    fails_with(monkeypatch, KeyError("x"))
    assert status_of("data") == 1 and len(list((tmp_path / "tmp").iterdir())) == 1
    assert "The traceback is in " in capsys.readouterr().err
    monkeypatch.setattr(unforeseen.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    assert status_of("data") == 1
    said = capsys.readouterr().err
    assert "No folder can be written to, so the traceback follows.\n" in said and "KeyError: 'x'" in said


class Unprintable(Exception):
    def __str__(self):
        raise ValueError


def test_a_report_never_fails_itself(home, monkeypatch, capsys):
    fails_with(monkeypatch, Unprintable())
    monkeypatch.setattr(unforeseen.platform, "platform", lambda: 1 / 0)
    assert status_of("data") == 1
    assert "something unforeseen happened (Unprintable). The traceback is in" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error, says",
    [
        (PermissionError(13, "Permission denied", "/x/y"), "/x/y cannot be used (Permission denied); change its perm"),
        (OSError(28, "No space left on device", b"/x/\xff"), r"/x/\xff cannot be used (No space left on device); free"),
        (OSError(28, "No space left on device"), "A file cannot be used (No space left on device); free some"),
        (OSError(24, "Too many open files", "/x"), "/x cannot be used (Too many open files); close other programs, or"),
        (FileNotFoundError(2, "No such file or directory", "/x"), "/x cannot be used (No such file or directory);"),
        (MemoryError(), "--batch-size 64 is too much for the memory of this machine; try 32. A run"),
        (torch.OutOfMemoryError("CUDA out of memory."), "--batch-size 64 is too much for the memory of this GPU; try"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), "The package torch is missing; first run: "),
    ],
)  # fmt: skip
def test_what_the_user_can_put_right(home, monkeypatch, capsys, error, says):
    fails_with(monkeypatch, error)
    assert status_of("train") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {says}") and said.count("\n") == 1
    assert list(home.iterdir()) == []


def test_a_pipe_to_another_program_is_not_the_output(home, monkeypatch, capsys):
    fails_with(monkeypatch, BrokenPipeError(32, "Broken pipe"))
    assert status_of("train") == 1
    assert "something unforeseen happened (BrokenPipeError" in capsys.readouterr().err


def test_an_interrupt(home, monkeypatch, capsys):
    fails_with(monkeypatch, KeyboardInterrupt())
    assert status_of("train") == 130
    assert capsys.readouterr().err == "\nInterrupted. Run the same command again to continue.\n"


def test_a_stream_that_cannot_be_reconfigured(monkeypatch):
    """As in a notebook, or under a test."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    terminal.prepare()
    assert terminal.flushed(0) == 0 and terminal.fault() is None
