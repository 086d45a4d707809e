"""A chapter in a real browser, as its reader runs it."""

import re

import nbformat
from browser import jupyter_lab
from test_notebooks import SMALL, a_copy

CHAPTER = "00_quickstart.ipynb"


def test_quickstart_runs_in_jupyterlab(home, tmp_path_factory, chromium):
    """Open, *Run All Cells*, and see the faces, the curves and the progress, with no error and no warning."""
    clone = a_copy(tmp_path_factory.mktemp("clone") / "toongan")
    path = clone / "notebooks" / CHAPTER
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            for name, value in SMALL.items():
                cell.source = re.sub(rf"^{name} = \S+", f"{name} = {value}", cell.source, flags=re.M)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, path)
    count = sum(cell.cell_type == "code" for cell in notebook.cells)

    with jupyter_lab(clone, home) as address:
        page = chromium.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(f"{address}lab/tree/notebooks/{CHAPTER}")
        page.locator(".jp-Notebook").wait_for(timeout=120_000)
        page.get_by_text("Python 3 (ipykernel) | Idle").first.wait_for(timeout=120_000)
        page.locator(".lm-MenuBar-item", has_text=re.compile("^Run$")).click()
        page.locator(".lm-Menu-item", has_text=re.compile("^Run All Cells$")).click()
        page.locator(".jp-InputPrompt", has_text=f"[{count}]:").wait_for(timeout=300_000)

        page.screenshot(path=home / "lab.png")
        assert page.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0
        assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
        widths = page.eval_on_selector_all(".jp-OutputArea img", "images => images.map(image => image.naturalWidth)")
        assert len(widths) >= 4 and min(widths) > 100, "grids, curves, film"
        said = " ".join(page.locator(".jp-OutputArea-output pre").all_inner_texts())
        assert re.search(r"Training: +100%.*images/s", said) and "G.pth" in said
        page.close()
    assert (home / "generated" / "quickstart" / "generated.gif").is_file()
