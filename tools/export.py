"""Write the lessons of the package from the chapters: `make export`."""

from pathlib import Path

from nbdev.export import nb_export

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    for chapter in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        nb_export(chapter, lib_path=ROOT / "toongan")
