"""Tell the series where it lives on GitHub: `make badges REPO=owner/name`.

Writes the badge that opens a chapter in Colab into its first cell, the address that its bootstrap cell clones, and both
into the README. The one place that keeps the name is `[project.urls]` in pyproject.toml; running it again, with the same
name or another, replaces what was there.
"""

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "https://colab.research.google.com/assets/colab-badge.svg"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+")
BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)")
CONSTANT = re.compile(r'^REPOSITORY = "[^"]*"', re.M)
ADDRESS = re.compile(r'^Repository = "[^"]*"', re.M)


def badge(repository: str, chapter: str) -> str:
    """Markdown for the badge that opens a chapter in Colab."""
    return f"[![Open in Colab]({IMAGE})](https://colab.research.google.com/github/{repository}/blob/main/notebooks/{chapter})"


def stamp_chapter(path: Path, repository: str) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    title, bootstrap = notebook["cells"][0], next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    head, _, rest = "".join(title["source"]).partition("\n")
    rest = BADGE.sub("", rest).lstrip("\n")
    title["source"] = f"{head}\n\n{badge(repository, path.name)}\n\n{rest}".splitlines(keepends=True)
    bootstrap["source"] = CONSTANT.sub(f'REPOSITORY = "{repository}"', "".join(bootstrap["source"])).splitlines(
        keepends=True
    )
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def stamp_readme(text: str, repository: str, chapters: list[str]) -> str:
    """The README with a badge below its promise and one in each chapter's row, and the address to clone."""
    address = f"https://github.com/{repository}"
    text = re.sub(r"git clone (?:<this repository>|https://\S+)", f"git clone {address}", text)
    text = re.sub(
        r"<!-- badge -->.*?<!-- /badge -->", f"<!-- badge -->{badge(repository, chapters[0])}<!-- /badge -->", text
    )
    owner, _, name = repository.partition("/")
    page = f"[Draw some in your browser](https://{owner.lower()}.github.io/{name}/faces.html)"
    text = re.sub(r"<!-- page -->.*?<!-- /page -->", f"<!-- page -->{page}<!-- /page -->", text)
    for chapter in chapters:
        row = re.compile(rf"^(\|.*\(notebooks/{re.escape(chapter)}\))[^|]*(\|)", re.M)
        text = row.sub(lambda found, chapter=chapter: f"{found[1]} {badge(repository, chapter)} {found[2]}", text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", metavar="owner/name")
    parser.add_argument("--root", type=Path, default=ROOT, help="of a clone; this one by default")
    options = parser.parse_args()
    if not NAME.fullmatch(options.repository):
        sys.exit(f"error: give the repository as owner/name, not {options.repository!r}: make badges REPO=owner/name")
    project, readme = options.root / "pyproject.toml", options.root / "README.md"
    address = f'Repository = "https://github.com/{options.repository}"'
    text = project.read_text(encoding="utf-8")
    if not ADDRESS.search(text):
        text = text.replace("\n[build-system]", f"\n[project.urls]\n{address}\n\n[build-system]", 1)
    project.write_text(ADDRESS.sub(address, text), encoding="utf-8")
    chapters = sorted((options.root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    for path in chapters:
        stamp_chapter(path, options.repository)
    text = stamp_readme(readme.read_text(encoding="utf-8"), options.repository, [path.name for path in chapters])
    readme.write_text(text, encoding="utf-8")
    print(f"{len(chapters)} chapters and the README now point to {options.repository}.")


if __name__ == "__main__":
    main()
