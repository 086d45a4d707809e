"""The series as a site: `make book`. The README is its first page, and the chapters show the outputs they are committed with."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
FIRST = ["glossary", "projects", "what-came-after"]  # of the pages in this folder, under the chapters
OTHERS = sorted({path.stem for path in (ROOT / "book").glob("*.md")} - set(FIRST))

project = "ToonGAN"
author = "The ToonGAN authors"
root_doc = "README"
include_patterns = ["README.md", "ATTRIBUTION.md", "benchmarks/README.md", "book/*.md", "notebooks/*.ipynb"]
exclude_patterns = [".venv", "build", "data", "checkpoints", "tests"]
extensions = ["myst_nb"]
nb_execution_mode = "off"
myst_enable_extensions = ["html_image"]
myst_heading_anchors = 2
html_theme = "sphinx_book_theme"
html_title = "ToonGAN"
html_static_path = ["static"]
html_css_files = ["book.css"]
html_extra_path = sorted(path.name for path in (ROOT / "book").glob("*.html"))
html_theme_options = {
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "use_download_button": False,
    "navbar_persistent": [],
    "toc_title": "On this page",
}
html_show_copyright = html_show_sourcelink = False


SHOWN = "avatars-64"  # the run that draws on the site
FACES = f'\n<p><strong><a href="faces.html">Faces, drawn by your browser</a></strong>: the bundled run {SHOWN} in one page.</p>\n'


def add_page(app) -> None:
    """The page that draws faces, beside the others."""
    sys.path.insert(0, str(ROOT))
    from toongan.config import SharePageConfig
    from toongan.sharing import share

    Path(app.outdir).mkdir(parents=True, exist_ok=True)
    share(SharePageConfig(SHOWN, out=Path(app.outdir) / "faces.html"), progress=False)


def add_contents(app, name: str, source: list[str]) -> None:
    """Sphinx wants the list of pages in the first page; GitHub, which shows the same file, does not."""
    if name == root_doc:
        pages = [f"notebooks/{chapter}" for chapter in CHAPTERS] + [f"book/{page}" for page in FIRST + OTHERS]
        pages = "\n".join([*pages, "benchmarks/README", "ATTRIBUTION"])
        title, line, rest = source[0].partition("\n")
        source[0] = f"{title}{line}{FACES}{rest}"
        source[0] += f"\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"


def setup(app) -> None:
    app.connect("builder-inited", add_page)
    app.connect("source-read", add_contents)
