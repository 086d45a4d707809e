"""The repository itself: layout, make targets, requirements, README."""

import json
import re
import subprocess
import sys

import tyro
from conftest import REPOSITORY


def test_layout():
    for name in (
        "notebooks data checkpoints generated requirements.txt requirements-dev.txt download-dataset.sh README.md "
        "toongan tests tools benchmarks Makefile pyproject.toml LICENSE ATTRIBUTION.md .ci/run"
    ).split():
        assert (REPOSITORY / name).exists(), name


def test_make_targets_exist():
    targets = "faces test soak lint format bench notebooks book lab export gpu help".split()
    done = subprocess.run(["make", "-n", *targets], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0 and "Nothing to be done" not in done.stdout, done.stdout + done.stderr
    minutes = subprocess.run(["make", "-n", "faces", "MINUTES=1"], cwd=REPOSITORY, capture_output=True, text=True)
    assert "train --preset quickstart --minutes 1" in minutes.stdout


def test_files_have_the_form_that_make_lint_checks():
    for arguments in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *arguments], cwd=REPOSITORY, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_workers_do_not_load_torch():
    """Drawing in worker processes must stay light: the package imports torch only on use."""
    code = "import sys, toongan.datasets.folders, toongan.datasets.archives, toongan.datasets.avatars, toongan.cli; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_readme_and_attribution_name_every_set():
    from toongan.datasets.catalogue import REMOTE

    for file in ("README.md", "ATTRIBUTION.md"):
        text = (REPOSITORY / file).read_text(encoding="utf-8")
        for name, one in REMOTE.items():
            row = next(line for line in text.splitlines() if line.startswith("|") and f"`{name}`" in line)
            assert one.credit["license"].split(":")[0] in row, (file, name)
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for word in ("avatars:STYLE", "folder:PATH", "zip:PATH", "tar:PATH", "drive", "TOONGAN_MIRROR", "KAGGLE_API_TOKEN"):
        assert f"`{word}" in readme


def test_readme_commands_exist():
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:^|`)make ([\w-]+)", text, re.M))
    assert {"faces", "test", "notebooks", "lab", "export"} <= targets
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M), target
    from toongan.cli import Command

    commands = re.findall(r"^python -m toongan (.+)$", text, re.M)
    commands += [f"data {rest}" for rest in re.findall(r"^sh download-dataset.sh ([^#\n]+)$", text, re.M)]
    assert len(commands) >= 6
    for arguments in commands:
        tyro.cli(Command, args=arguments.split())
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (REPOSITORY / path).exists(), path


def test_a_part_of_make_gpu_stops_in_time_or_ends_and_judges(home, few_faces):
    """As on a machine with a GPU, but small, and without one."""
    tiny = ["--count", 128, "--image-size", 32, "--base-channels", 4, "--batch-size", 16, "--device", "cpu"]

    def part(seconds: int, *options: str) -> dict:
        command = [sys.executable, "tools/gpu.py", "gpu-64", "--seconds", seconds, "--out", home, "--", *tiny, *options]
        done = subprocess.run(list(map(str, command)), cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads((home / "gpu-64.json").read_text())

    assert part(15, "--kimg", "6400")["finished"] is False, "it would take an hour"
    found = part(200, "--kimg", "0.64", "--restart")
    assert found["finished"] and found["device"].startswith("CPU") and found["card"]["figures"]
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    parts = re.search(r"for part in ([\w -]+);", makefile)[1].split()
    assert parts[:2] == ["tests", "speed"] and parts.count("gpu-64") == 2
