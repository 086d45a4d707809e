"""Every chapter's cells on a pretended T4, which keeps CUDA's rules and computes on the CPU."""

import sys

import matplotlib.pyplot as plt
import pytest
import torch
from conftest import NOTEBOOKS, REPOSITORY
from pretend_gpu import pretended
from test_notebooks import bring_shipped_run, cells, small_for, source

from toongan.devices import Machine

SOON = ("00", "03")


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=() if path.name[:2] in SOON else pytest.mark.soak) for path in NOTEBOOKS],
)
def test_a_chapter_runs_on_a_t4(path, home, few_faces, monkeypatch):
    bring_shipped_run(home, 400)
    monkeypatch.chdir(REPOSITORY / "notebooks")
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(Machine, "base_channels", 4)  # 64 would take hours without the GPU
    names: dict = {"__name__": "__main__"}
    with pretended("Tesla T4", (7, 5)) as gpu:
        for cell in cells(path, "code"):
            exec(compile(source(cell), f"<cell {cell['id']}>", "exec"), names)
            if "parameters" in cell["metadata"].get("tags", []):
                names.update({name: value for name, value in small_for(path).items() if name in names})
            plt.close("all")
        assert path.name[:2] in ("01", "02") or gpu.launches, "the GPU is used"
    assert not torch.cuda.is_available() or torch.cuda.get_device_name() != "Tesla T4"
