"""Every command and every snippet of the README is executed, with less data and for less time."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from makers import Server, cartoon_set, fill_folder, images, make_tar
from test_notebooks import a_copy

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
HERE = Path(sys.prefix)
INSTALLED = f"VENV={HERE} -o {HERE}/.ready -o {HERE}/.ready-dev"
TINY = "--image-size 32 --base-channels 4 --kimg 0.64"
# What makes a command small; what is done elsewhere is only looked up (`make -n`).
SMALLER = [
    (r"^git clone <this repository> toongan && cd toongan$", "test -f README.md"),
    (r"^source \.venv/bin/activate$", "true"),
    (r"^py -m venv \.venv$", "true"),
    (r"\.venv\\Scripts\\python", "python"),
    (
        r"toongan train --preset quickstart",
        "toongan train --dataset avatars --preset quickstart --run windows --minutes 5",
    ),
    (r"^make faces$", f"make faces MINUTES=0.02 {INSTALLED}"),
    (r"^make (test|export|notebooks|format)$", rf"make -n \1 {INSTALLED}"),
    (r"--count (20000|50000)", "--count 128"),
    (r"--image-size (64|128)", ""),
    (r"--minutes \d+", TINY),
    (r"^python -m toongan data (.*)$", r"python -m toongan data \1 --image-size 32"),
    (r"^sh download-dataset.sh(.*)$", r"sh download-dataset.sh\1 --image-size 32"),
    (r"(train --dataset (avatars|folder:\S+))", r"\1 --count 128 --batch-size 16"),
    (
        r"--preset eight-gpus(?: --batch-size \d+)?",
        f"--preset eight-gpus --count 128 --batch-size 16 --device cpu {TINY}",
    ),
    (r"--nproc-per-node 8", "--nproc-per-node 2"),
    (r"--nnodes 2", "--nnodes 1"),
    (r"first-machine:29400", "localhost:0"),
]


def commands() -> list[str]:
    """Those in the README's shell blocks, in order."""
    blocks = re.findall(r"^```(?:sh|powershell)\n(.*?)^```$", README, re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [line.partition("  #")[0].strip() for line in lines]
    return found + re.findall(r"`(python -m toongan [^`…]+)`", README)


def smaller(command: str) -> str:
    for pattern, replacement in SMALLER:
        command = re.sub(pattern, replacement, command)
    return command


def test_every_command_runs(home, all_faces, tmp_path, shared_home):
    """`make faces` finds the 20,000 faces that it would draw."""
    clone = a_copy(tmp_path / "toongan")
    fill_folder(clone / "my-drawings", images(128))
    shutil.copytree(shared_home / "checkpoints" / "tiny", home / "checkpoints" / "avatars-64")
    shutil.copytree(REPOSITORY / "checkpoints" / "on-request-64", home / "checkpoints" / "on-request-64")
    with Server(make_tar(tmp_path / "set.tgz", cartoon_set(64)).read_bytes()) as server:
        environment = {
            **os.environ,
            "TOONGAN_HOME": str(home),
            "TOONGAN_MIRROR": server.url,
            "PATH": f"{HERE / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }
        for command in commands():
            done = subprocess.run(
                smaller(command), shell=True, cwd=clone, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, (command, smaller(command), done.stdout[-2000:], done.stderr[-2000:])
    runs = {path.name for path in (home / "checkpoints").iterdir()}
    assert {"quickstart", "windows", "my-run", "mine", "eight-gpus"} <= runs
    assert (clone / "grid.png").is_file() and (home / "checkpoints" / "avatars-64" / "metrics.json").is_file()


@pytest.mark.parametrize("colours", [0, 5])
def test_generator_works_without_the_package(tmp_path, monkeypatch, colours):
    """Whether it has a palette or not."""
    import toongan
    from toongan.models import Generator, init_weights
    from toongan.runs.state_dicts import save_state

    (snippet,) = re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S)
    path = tmp_path / "G.pth"
    save_state(path, init_weights(Generator(64, 20, 8, smooth=True, colours=colours)))
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(snippet, names)
    assert names["faces"].shape == (16, 3, 64, 64) and "toongan" not in snippet
    with torch.no_grad():
        assert torch.allclose(names["faces"], toongan.load_generator(path)(names["latent"]), atol=1e-5)


def test_every_promise_is_held_by_a_test_that_is_there():
    (table,) = re.findall(r"^\| promise \| held by \|\n(.*?)^$", README, re.M | re.S)
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", table)
    assert len(named) >= 9
    for path, name in named:
        assert f"def {name or 'test_'}" in (REPOSITORY / path).read_text(encoding="utf-8"), (path, name)
