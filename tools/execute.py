"""Execute the series in place, in reading order: `make notebooks`.

Outputs are kept. A progress bar leaves only its last state, so that a notebook stays small and diffable.
`python tools/execute.py 03` executes one chapter.
"""

import argparse
import ast
import json
import sys
from pathlib import Path

import papermill
from tqdm import tqdm

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
RUNS = ("quickstart", "chapter-03", "chapter-08", "chapter-09", "chapter-09-start")


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
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


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

    for name in RUNS:  # else a chapter would find its run finished, and show no training
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
