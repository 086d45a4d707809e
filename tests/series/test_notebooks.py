"""The chapters run, alone and in order; what is committed is clean; the package is what they export."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import execute
import matplotlib.pyplot
import nbformat
import numpy as np
import papermill
import pytest
from conftest import NOTEBOOKS, REPOSITORY, TINY
from PIL import Image, ImageDraw, ImageFilter

import toongan

SMALL = {
    "MINUTES": 0.01,
    "COUNT": 128,
    "IMAGE_SIZE": 32,
    "BASE_CHANNELS": 4,
    "BATCH_SIZE": 16,
    "STEPS": 10,
    "FACES": 16,
}
# Chapter 05 halves what a shipped run held out, which goes by content; in 08 a value needs twenty images to be asked for.
COUNTS = {"05_evaluation": 400, "08_faces_on_request": 640}
IDS = [path.stem for path in NOTEBOOKS]


def small_for(path: Path) -> dict:
    """Parameters with which a chapter takes seconds."""
    return SMALL | ({"COUNT": COUNTS[path.stem]} if path.stem in COUNTS else {})


def cells(path: Path, kind: str | None = None) -> list[dict]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if kind in (None, cell["cell_type"])]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def test_the_series_is_complete():
    names = "quickstart dataset dcgan training results evaluation better_faces when_gans_fail faces_on_request"
    names += " your_own_drawings share_it"
    assert IDS == [f"{number:02d}_{name}" for number, name in enumerate(names.split())]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_runs_on_its_own(path, home, tmp_path, request):
    """Each chapter, opened first, in a home without runs, exercises solved."""
    if path.stem == "04_results":
        request.getfixturevalue("all_faces")
    target = tmp_path / path.name
    with_solutions = tmp_path / f"solved-{path.name}"
    nbformat.write(add_solutions(path), with_solutions)
    execute.execute(with_solutions, target, small_for(path), progress=False)
    images = [
        output
        for cell in cells(target, "code")
        for output in cell["outputs"]
        if {"image/png", "image/gif", "image/jpeg"} & set(output.get("data", {}))
    ]
    assert images, "a chapter shows images"


def add_solutions(path: Path):
    """The chapter with the folded solution of each exercise as a cell at its end."""
    notebook = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    solutions = re.findall(r"<details><summary>Solution</summary>.*?```python\n(.*?)```.*?</details>", text, re.S)
    assert len(solutions) == 3
    notebook.cells += [nbformat.v4.new_code_cell(solution) for solution in solutions]
    return notebook


def bring_shipped_run(home: Path, count: int) -> None:
    """The shipped run, as if it had been trained on fewer images: chapter 04 draws them, and learns to read them."""
    shutil.copytree(REPOSITORY / "generated" / "avatars-64", home / "generated" / "avatars-64")
    folder = shutil.copytree(REPOSITORY / "checkpoints" / "avatars-64", home / "checkpoints" / "avatars-64")
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    info["settings"]["count"] = count
    (folder / "run.json").write_text(json.dumps(info), encoding="utf-8")


# Four of them read what others have made.
@pytest.mark.parametrize(
    "numbers", ["00 03 04 05", pytest.param("00 01 02 03 04 05 06 07 08 09 10", marks=pytest.mark.soak)]
)
def test_runs_in_order(home, tmp_path, numbers):
    """One after the other, in one home; chapter 04 reads what was trained before."""
    bring_shipped_run(home, 400)
    for path in (path for path in NOTEBOOKS if path.name[:2] in numbers.split()):
        attribute = {"ATTRIBUTE": "background_color"}  # which can be read after so few
        execute.execute(path, tmp_path / path.name, SMALL | small_for(path) | attribute, progress=False)
    for run in ("quickstart", "chapter-03"):
        assert {"G.pth", "D.pth", "run.json", "history.csv"} <= {
            file.name for file in (home / "checkpoints" / run).iterdir()
        }
    made = {file.name for file in (home / "generated" / "chapter-04").iterdir()}
    assert {"losses.png", "scores.png", "generated.gif", "interpolation.png", "new-faces.png", "direction.png"} <= made
    text = (tmp_path / "04_results.ipynb").read_text(encoding="utf-8")
    assert "Run quickstart" in text


def test_wrong_parameter_is_shown_without_a_traceback(home, tmp_path):
    """In one sentence, and what follows is not run."""
    says = "image_size must be 32, 64, 128 or 256, not 100"
    with pytest.raises(papermill.PapermillExecutionError, match=f"error: {says}"):
        execute.execute(NOTEBOOKS[0], tmp_path / "out.ipynb", {**SMALL, "IMAGE_SIZE": 100}, progress=False)
    shown = [
        out
        for cell in cells(tmp_path / "out.ipynb", "code")
        for out in cell["outputs"]
        if out["output_type"] == "error"
    ]
    assert [len(error["traceback"]) for error in shown] == [1]
    assert shown[0]["traceback"][0].startswith(f"error: {says}")
    assert not (home / "checkpoints").exists()


WRONG = {
    "MINUTES": 0,
    "DATASET": "folder:nowhere",
    "COUNT": 10,
    "IMAGE_SIZE": 100,
    "BASE_CHANNELS": 0,
    "BATCH_SIZE": 0,
    "LATENT_DIM": 0,
    "STEPS": 0,
    "FACES": 0,
    "SEED": -1,
    "START": "nothing-here",
    "RUN": "nothing-here",
    "VALUE": "pink",
    "DRIVE": True,
    "DOWNLOAD": True,
}
# Of a run that is trained, RUN is only the name; what is not an attribute is said, and the chapter goes on.
FREE = {
    ("00_quickstart", "RUN"),
    ("03_training", "BUTTONS"),
    ("04_results", "ATTRIBUTE"),
    ("04_results", "SLIDERS"),
    ("08_faces_on_request", "SELECTS"),
}
PARAMETERS = [
    (path, name) for path in NOTEBOOKS for name in sorted(execute.parameters_of(path)) if (path.stem, name) not in FREE
]


def run_here(path: Path, parameters: dict) -> None:
    """The cells of a chapter in this process, with the parameters that it knows."""
    names = {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY / "notebooks")
        patch.setattr(matplotlib.pyplot, "show", lambda: matplotlib.pyplot.close("all"))
        for cell in cells(path, "code"):
            exec(compile(source(cell), path.name, "exec"), names)
            if "parameters" in cell["metadata"].get("tags", []):
                names.update({key: value for key, value in parameters.items() if key in names})


@pytest.mark.parametrize("path, name", PARAMETERS, ids=[f"{path.stem}-{name}" for path, name in PARAMETERS])
def test_every_parameter_is_checked(path, name, home, few_faces, quick_speed):
    """Whatever is wrong in a parameters cell is said in a sentence of ours that names it."""
    small = SMALL
    if name == "VALUE":  # a wrong one is found out by the labels: here by those of a small run's images
        toongan.train(toongan.TrainConfig(run="tiny", kimg=0.064, **TINY | {"count": 1000}), progress=False)
        small = SMALL | {"RUN": "tiny", "ATTRIBUTE": "eyes"}
    with pytest.raises(toongan.ToonGANError) as problem:
        run_here(path, small | {name: WRONG[name]})
    assert name.lower() in str(problem.value).lower() or str(WRONG[name]) in str(problem.value)


def test_buttons_move_the_players_of_the_smallest_gan(home, monkeypatch):
    """Each button plays the moves that it names, on the nets of the cells above."""
    import IPython.display

    shown, names = [], {"__name__": "__main__"}
    monkeypatch.setattr(IPython.display, "display", lambda *each: shown.extend(each))
    monkeypatch.setattr(matplotlib.pyplot, "show", lambda: matplotlib.pyplot.close("all"))
    monkeypatch.chdir(REPOSITORY / "notebooks")
    for cell in cells(NOTEBOOKS[3], "code"):
        exec(source(cell), names)
        names.update(BUTTONS=True)
        if cell["id"] == "03-49":
            break
    moves = []
    names.update(d_moves=lambda: moves.append("d"), g_moves=lambda: moves.append("g"))
    row, _stage = shown
    for button in row.children:
        button.click()
    assert "".join(moves) == "d" + "g" + "dg" + "dg" * 100 + "d" + "g" * 10


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("IMAGE_SIZE", 100, "image_size must be 32, 64, 128 or 256, not 100"),
        ("DATASET", "cats", "dataset 'cats' is not known; use avatars"),
        ("MINUTES", 0, "minutes must be more than 0, not 0"),
    ],
)
def test_quickstart_says_what_is_wrong(home, name, value, says):
    """In words that help, before anything is made."""
    with pytest.raises(toongan.ToonGANError, match=f"^{says}"):
        run_here(NOTEBOOKS[0], {**SMALL, name: value})
    assert not (home / "checkpoints").exists()


@pytest.mark.parametrize(
    "path", [path for path in NOTEBOOKS if path.name[:2] in ("04", "05")], ids=lambda path: path.stem
)
def test_a_run_that_wants_wishes_is_not_shown_without(path, home):
    """Random numbers in place of wishes would draw no faces, and nobody would know why."""
    with pytest.raises(toongan.ToonGANError, match="^RUN is on-request-64, which draws on request: see chapter 08"):
        run_here(path, {**SMALL, "RUN": "on-request-64"})


def test_images_and_films_are_made_small(tmp_path):
    """What a notebook shows is the same, in fewer bytes."""
    chance = np.random.default_rng(0)
    noise = Image.fromarray(chance.integers(0, 256, (1400, 1600, 3), np.uint8)).filter(ImageFilter.GaussianBlur(9))
    lines = Image.new("RGB", (800, 400), "white")
    ImageDraw.Draw(lines).line([(x, int(chance.integers(400))) for x in range(0, 800, 2)], "navy")
    frames = [noise.crop((10 * i, 0, 264 + 10 * i, 132)) for i in range(20)]
    film = io.BytesIO()
    frames[0].save(film, "GIF", save_all=True, append_images=frames[1:], duration=[100] * 19 + [2000], loop=0)
    data = [
        {"image/png": execute.encoded(noise, "PNG")},
        {"image/png": execute.encoded(lines, "PNG", compress_level=0)},
    ]
    data.append({"image/gif": film.getvalue()})
    cell = nbformat.v4.new_code_cell("pass", outputs=[
        nbformat.v4.new_output("display_data", {kind: base64.b64encode(each).decode() for kind, each in one.items()}) for one in data
    ])  # fmt: skip
    nbformat.write(
        nbformat.v4.new_notebook(
            cells=[cell], metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        ),
        tmp_path / "a.ipynb",
    )
    execute.tidy(tmp_path / "a.ipynb")
    assert (tmp_path / "a.ipynb").stat().st_size <= execute.MOST_BYTES
    kept = [output["data"] for output in cells(tmp_path / "a.ipynb")[0]["outputs"]]
    assert [sorted(each) for each in kept] == [["image/jpeg"], ["image/png"], ["image/gif", "image/png"]]
    shown = Image.open(io.BytesIO(base64.b64decode(kept[1]["image/png"]))).convert("RGB")
    assert shown.tobytes() == lines.tobytes()
    with Image.open(io.BytesIO(base64.b64decode(kept[2]["image/gif"]))) as moving:
        assert moving.n_frames <= 12
        moving.seek(moving.n_frames - 1)
        assert moving.info["duration"] == 2000, "it rests on its last frame"
    with Image.open(io.BytesIO(base64.b64decode(kept[2]["image/png"]))) as stills:
        assert stills.size == (2 * 264 + 4, 2 * 132 + 4), "four, two by two: a phone is narrow"


def test_first_cell_is_the_same_everywhere():
    firsts = {source(cells(path, "code")[0]) for path in NOTEBOOKS}
    assert len(firsts) == 1
    text = firsts.pop()
    assert "except" not in text and not re.search(r"install.*(torch|numpy)", text)
    assert text.startswith("# @title ") and len(text.splitlines()) <= 10, "Colab folds it to its title"


def test_without_the_series_the_first_cell_says_what_to_do(tmp_path):
    code = source(cells(NOTEBOOKS[0], "code")[0])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(r"ToonGAN was not found near .* from a clone, as the README says\.\n", done.stderr)


def a_copy(folder: Path) -> Path:
    """The repository without what a clone has not."""
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "build", "data", "checkpoints", "generated", "__pycache__", ".*_cache"
    )
    return shutil.copytree(REPOSITORY, folder, ignore=ignored)


def stamp(copy: Path, repository: str) -> subprocess.CompletedProcess:
    command = ["make", "-s", "badges", f"REPO={repository}"]
    return subprocess.run(command, cwd=copy, capture_output=True, text=True)


def test_badges_point_to_the_repository(tmp_path):
    copy = a_copy(tmp_path / "copy")
    for name in ("cats/faces", "some-one/toon.gan"):  # the second replaces the first
        done = stamp(copy, name)
        assert done.returncode == 0, done.stderr
        again = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    stamp(copy, name)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == again
    readme = (copy / "README.md").read_text(encoding="utf-8")
    for path in sorted((copy / "notebooks").glob("[0-9]*.ipynb")):
        address = f"https://colab.research.google.com/github/{name}/blob/main/notebooks/{path.name}"
        assert source(cells(path)[0]).count(address) == 1 and source(cells(path)[0]).startswith("# ")
        assert f'REPOSITORY = "{name}"' in source(cells(path, "code")[0])
        assert re.search(rf"^\|.*\(notebooks/{path.name}\).*{re.escape(address)}.*\|$", readme, re.M)
        nbformat.validate(nbformat.read(path, as_version=4))
    owner, _, project = name.partition("/")
    assert f"](https://{owner}.github.io/{project}/faces.html)" in readme
    assert readme.count(f"git clone https://github.com/{name}") == 2
    assert (
        "cats" not in readme + (copy / "pyproject.toml").read_text()
        and f"github.com/{name}" in (copy / "pyproject.toml").read_text()
    )


def test_badges_want_owner_and_name(tmp_path):
    done = stamp(REPOSITORY, "faces")
    assert done.returncode != 0 and "make badges REPO=owner/name" in done.stderr


def test_fresh_machine_clones_the_repository(tmp_path, monkeypatch):
    """The bootstrap cell, alone in an empty folder, as Colab and Kaggle run it."""
    origin = a_copy(tmp_path / "origin")
    for command in ("init -q -b main", "add -A", "-c user.name=a -c user.email=a@b commit -qm all"):
        subprocess.run(["git", *command.split()], cwd=origin, check=True)
    for name, value in {
        "COUNT": "1",
        "KEY_0": f"url.file://{origin}.insteadOf",
        "VALUE_0": "https://github.com/cats/faces",
    }.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    code = source(cells(NOTEBOOKS[0], "code")[0]).replace('REPOSITORY = ""', 'REPOSITORY = "cats/faces"')
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    script = f"{code}\nimport toongan\nprint(toongan.__file__)"
    for _ in range(2):  # the second finds what the first has cloned
        done = subprocess.run([sys.executable, "-c", script], cwd=fresh, capture_output=True, text=True)
        assert done.stdout.strip() == str(fresh / "toongan" / "toongan" / "__init__.py"), done.stderr


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_hygiene(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    nbformat.validate(nbformat.read(path, as_version=4))
    # Colab gives a GPU to those that ask; free ones are few, and chapters 01, 02 and 10 train nothing.
    asks = {"accelerator"} if path.name[:2] not in ("01", "02", "10") else set()
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"} | asks
    assert notebook["metadata"].get("accelerator", "GPU") == "GPU"
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        assert source(cell).strip()
        assert not source(cell).lstrip().startswith(("!", "%%bash"))
        wide = [line for line in source(cell).splitlines() if len(line) > 110 and "# @param" not in line]
        assert not wide, "a reader would have to scroll sideways"
        assert set(cell["metadata"]) <= {"tags"}
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr", source(cell)
            assert not any("widget" in kind for kind in output.get("data", {}))
    assert path.stat().st_size <= execute.MOST_BYTES, "GitHub would not show it at once"
    films = [output["data"] for cell in code for output in cell["outputs"] if "image/gif" in output.get("data", {})]
    assert all("image/png" in film for film in films), "where nothing moves, stills are shown"
    assert str(REPOSITORY) not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_parameters_are_literals_with_forms(path):
    tagged = [cell for cell in cells(path, "code") if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    for line in source(tagged[0]).splitlines():
        assert re.fullmatch(r'[A-Z_]+ = ("[^"]*"|[\d.]+|True|False)  # @param .+', line), line


def test_the_loop_of_chapter_03_is_short():
    """Losses, nets, optimisers and the loop: what the reader writes, blank lines and all."""
    code = "\n".join(source(cell) for cell in cells(NOTEBOOKS[3], "code"))
    parts = re.findall(r"^(?:def (?:bce|two_nets|adams|fit)|class NonSaturating)\b.*?(?=^\S|\Z)", code, re.M | re.S)
    assert len(parts) == 5 and sum(part.count("\n") for part in parts) < 60


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_reads_as_a_chapter(path):
    text = "\n".join(map(source, cells(path, "markdown")))
    for part in ("**Time:**", "## Recap", "## Exercises", "## To read", "**Next:**"):
        assert part in text
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (path.parent / target).exists(), target
    lengths = sorted(len(source(cell).splitlines()) for cell in cells(path, "code"))
    assert lengths[len(lengths) // 2] <= 9


def test_package_is_what_the_chapters_export(tmp_path):
    """`make export` in a copy changes no byte."""
    copy = a_copy(tmp_path / "copy")
    before = {path.name: path.read_bytes() for path in (copy / "toongan").glob("*.py")}
    exported = [name for name, text in before.items() if b"AUTOGENERATED" in text[:80]]
    assert {"data.py", "models.py", "training.py", "results.py", "metrics.py", "variants.py", "conditional.py"} <= set(
        exported
    )
    for name in ("data.py", "models.py", "training.py", "results.py", "metrics.py", "variants.py", "conditional.py"):
        (copy / "toongan" / name).unlink()
    subprocess.run([sys.executable, "tools/export.py"], cwd=copy, check=True, capture_output=True)
    after = {path.name: path.read_bytes() for path in (copy / "toongan").glob("*.py")}
    assert after.keys() == before.keys()
    assert [name for name in before if before[name] != after[name]] == []


def test_exported_modules_say_where_they_come_from():
    chapters = {
        "data": "01_dataset",
        "models": "02_dcgan",
        "training": "03_training",
        "results": "04_results",
        "metrics": "05_evaluation",
        "variants": "06_better_faces",
        "conditional": "08_faces_on_request",
    }
    for name, chapter in chapters.items():
        first = (REPOSITORY / "toongan" / f"{name}.py").read_text(encoding="utf-8").splitlines()[0]
        assert chapter in first
