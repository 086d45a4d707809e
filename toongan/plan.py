"""When a run writes what: after which steps a row of the curves, before which a sample grid."""

import math

GRIDS = 20
HISTORY_ROWS = 200
MIN_STEPS = 20


def steps_of(kimg: float, batch_size: int) -> int:
    """How many steps show the nets `kimg` thousand images; 20 at least."""
    return max(MIN_STEPS, round(kimg * 1000 / batch_size))


def row_steps(steps: int, start: int = 0) -> list[int]:
    """Steps after `start` that end a row of `history.csv`: `HISTORY_ROWS` equal parts, or every step of a short run."""
    rows = min(steps - start, HISTORY_ROWS)
    return [start + round((steps - start) * i / rows) for i in range(1, rows + 1)]


def grid_steps(steps: int) -> list[int]:
    """Steps before which a sample grid is drawn: dense at first, when most changes, and always where a row ends."""
    ends = [0, *row_steps(steps)]
    return sorted({ends[math.ceil((len(ends) - 1) * (i / (GRIDS - 1)) ** 2)] for i in range(GRIDS)})


def more_grid_steps(steps: int, start: int) -> list[int]:
    """The same for the steps that are added to a run of `start`: as many again, at equal distances."""
    ends = row_steps(steps, start)
    return sorted({ends[math.ceil(len(ends) * i / GRIDS) - 1] for i in range(1, GRIDS + 1)})


def rows_of(saved: dict) -> list[int]:
    """The steps that end a row, as a checkpoint planned them."""
    return saved.get("rows") or row_steps(saved["steps"])


def grids_of(saved: dict) -> list[int]:
    """The steps before which a grid is drawn, as a checkpoint planned them; their places are the grids' numbers."""
    return saved.get("grids") or grid_steps(saved["steps"])


def extended(saved: dict, steps: int) -> dict:
    """The plan of a checkpoint, from its last step on made for `steps` steps in all."""
    done = saved["done"]
    earlier = {"at": done, "from": saved["steps"], "to": steps}
    return {
        **saved,
        "steps": steps,
        "rows": [step for step in rows_of(saved) if step <= done] + row_steps(steps, done),
        "grids": [step for step in grids_of(saved) if step <= done] + more_grid_steps(steps, done),
        "extensions": [*saved.get("extensions", []), earlier],
    }
