"""Execute the series in place, in reading order: `make notebooks`.

Outputs are kept. A progress bar leaves only its last state, images are made as small as 600 KB a notebook ask for, and each
film gets its stills beside it, so that a notebook stays small and diffable, and shows its films where nothing moves.
`python tools/execute.py 03` executes one chapter.
"""

import argparse
import ast
import base64
import io
import json
import sys
from pathlib import Path

import papermill
from PIL import Image, ImageSequence
from tqdm import tqdm

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
MOST_BYTES = 600_000  # of a notebook: GitHub shows it at once
SMALL = 20_000  # letters of an image that is left as it is
# Quality of JPEGs, and width of images in pixels: the first with which a notebook is small enough.
IMAGES = ((75, 1200), (65, 1000), (60, 900), (50, 900), (45, 800), (40, 720), (35, 640), (30, 560))
FEW_COLOURS = 4000
# What chapters train under a name of its own.
RUNS = {"00": ["quickstart"], "03": ["chapter-03"], "08": ["chapter-08"], "09": ["chapter-09", "chapter-09-start"]}


def chapters() -> list[Path]:
    return sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))


def parameters_of(path: Path) -> set[str]:
    """Names set in the cell tagged `parameters`."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            tree = ast.parse("".join(cell["source"]))
            return {target.id for node in tree.body for target in node.targets}
    return set()


def execute(source: Path, target: Path, parameters: dict, progress: bool = True) -> None:
    """Run a chapter from top to bottom into `target`, with the parameters that it knows."""
    known = {name: value for name, value in parameters.items() if name in parameters_of(source)}
    papermill.execute_notebook(
        source,
        target,
        parameters=known,
        cwd=FOLDER,
        kernel_name="python3",
        progress_bar=progress,
        request_save_on_cell_execute=False,
        report_mode=False,
    )


def tidy(path: Path) -> None:
    """Drop what a runner leaves behind: timings, all but the last state of a bar."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    notebook["metadata"] = {
        key: notebook["metadata"][key] for key in ("accelerator", "kernelspec") if key in notebook["metadata"]
    } | {"language_info": {"name": "python"}}
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags")
        cell["metadata"] = {"tags": tags} if tags else {}
        if "outputs" in cell:
            cell["outputs"] = join_streams(cell["outputs"])
    whole = json.dumps(notebook)
    for quality, width in IMAGES:
        notebook = json.loads(whole)
        lighten(notebook, quality, width)
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        if len(text.encode()) <= MOST_BYTES:
            break
    path.write_text(text, encoding="utf-8")


def lighten(notebook: dict, quality: int, width: int) -> None:
    """Make the images of a notebook smaller: line drawings with few colours, others as JPEG; films with stills beside them."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for kind in [kind for kind in ("image/png", "image/jpeg") if len("".join(data.get(kind, ""))) > SMALL]:
                kept, image = smaller(base64.b64decode("".join(data[kind])), quality, width)
                del data[kind]
                data[kept] = base64.b64encode(image).decode() + "\n"
            if "image/gif" in data:
                film, stills = film_and_stills(base64.b64decode("".join(data["image/gif"])), width)
                data["image/gif"], data["image/png"] = (
                    base64.b64encode(each).decode() + "\n" for each in (film, stills)
                )


def smaller(data: bytes, quality: int, width: int) -> tuple[str, bytes]:
    """An image with its kind: a drawing of lines as PNG of 64 colours, any other one as JPEG; as it was if that is smaller."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    if image.getcolors(FEW_COLOURS) is not None:
        kind, made = "image/png", encoded(image.quantize(64, dither=Image.Dither.NONE), "PNG", optimize=True)
    else:
        kind, made = "image/jpeg", encoded(image, "JPEG", quality=quality, optimize=True)
    return (kind, made) if len(made) < len(data) else (kind_of(data), data)


def kind_of(data: bytes) -> str:
    return "image/png" if data.startswith(b"\x89PNG") else "image/jpeg"


def film_and_stills(data: bytes, width: int) -> tuple[bytes, bytes]:
    """A film with at most 12 frames, and four of them, row by row, as a PNG: what is shown where nothing moves."""
    film = Image.open(io.BytesIO(data))
    frames, times = [], []
    for frame in ImageSequence.Iterator(film):
        frames.append(frame.convert("RGB"))
        times.append(frame.info.get("duration", 100))
    last, every = times[-1], max(1, -(-len(frames) // 12))
    kept = frames[:-1:every] + [frames[-1]]
    side = min(1.0, width / 4 / frames[0].width)
    sizes = tuple(max(1, round(length * side)) for length in frames[0].size)
    kept = [frame.resize(sizes, Image.Resampling.LANCZOS).quantize(32, dither=Image.Dither.NONE) for frame in kept]
    shown = [every * time for time in times[:-1:every]] + [last]
    first, *others = kept
    moving = encoded(first, "GIF", save_all=True, append_images=others, duration=shown, loop=0, optimize=True)
    stills = [kept[round(share * (len(kept) - 1))].convert("RGB") for share in (0, 1 / 3, 2 / 3, 1)]
    sheet = Image.new("RGB", (2 * sizes[0] + 4, 2 * sizes[1] + 4), "white")  # two by two: a phone is narrow
    for number, still in enumerate(stills):
        sheet.paste(still, (number % 2 * (sizes[0] + 4), number // 2 * (sizes[1] + 4)))
    return min(moving, data, key=len), encoded(sheet.quantize(64, dither=Image.Dither.NONE), "PNG", optimize=True)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def join_streams(outputs: list[dict]) -> list[dict]:
    """Join what was printed in one go, and keep what a terminal would still show of it."""
    joined = []
    for output in outputs:
        if output["output_type"] != "stream":
            joined.append(output)
        elif joined and joined[-1].get("name") == output["name"]:
            joined[-1]["text"] = [*joined[-1]["text"], *output["text"]]
        else:
            joined.append(output)
    for output in joined:
        if output["output_type"] == "stream":
            lines = [last_state(line) for line in "".join(output["text"]).split("\n")]
            output["text"] = "\n".join(lines).splitlines(keepends=True)
    return [output for output in joined if output.get("text") != []]


def last_state(line: str) -> str:
    """What is left on a line after its carriage returns."""
    return next((state.rstrip() for state in reversed(line.split("\r")) if state.strip()), "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chapters", nargs="*", help="parts of names, such as 03 (default: all)")
    options = parser.parse_args()
    wanted = options.chapters or [""]
    chosen = [path for path in chapters() if any(part in path.name for part in wanted)]
    sys.path.insert(0, str(FOLDER.parent))
    from toongan.runs import Run

    for path in chosen:
        for name in RUNS.get(path.name[:2], ()):  # else a chapter would find its run finished, and show no training
            with Run.named(name).locked():
                Run.named(name).set_aside()
    for path in tqdm(chosen, desc="Chapters", file=sys.stdout):
        finished = path.with_suffix(".executed.ipynb")
        try:
            execute(path, finished, {})
            tidy(finished)
            finished.replace(path)
        finally:
            finished.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
