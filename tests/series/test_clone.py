"""A clone made where git turns line ends into those of Windows."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from conftest import REPOSITORY


def git(*arguments, **options) -> str:
    line = ["git", "-c", "safe.directory=*", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_scripts_of_a_windows_clone_run(tmp_path):
    clone = tmp_path / "clone"
    git("clone", "--quiet", "--shared", "--config", "core.autocrlf=true", REPOSITORY, clone)
    assert b"\r\n" in (clone / "README.md").read_bytes(), "git did turn what is only read"
    for name in ("download-dataset.sh", "Makefile", ".ci/run", "toongan/cli.py", "notebooks/00_quickstart.ipynb"):
        assert b"\r" not in (clone / name).read_bytes(), name
    for info in clone.glob("checkpoints/*/run.json"):
        for name, digest in json.loads(info.read_text())["sha256"].items():
            assert hashlib.sha256(info.with_name(name).read_bytes()).hexdigest() == digest
    assert git("status", "--porcelain", cwd=clone) == "", "nothing looks changed"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", clone / "download-dataset.sh", "--help"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and "usage: python -m toongan data" in done.stdout, done.stderr
    done = subprocess.run(["make", "help"], cwd=clone, capture_output=True, text=True)
    assert done.returncode == 0 and "make test " in done.stdout
