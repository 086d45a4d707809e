"""When a run writes what: the steps that end a row of the curves, and those that begin with a sample grid."""

import math
from dataclasses import asdict, dataclass, field

GRIDS = 20
HISTORY_ROWS = 200
MIN_STEPS = 20


def steps_of(kimg: float, batch_size: int) -> int:
    """How many steps show the nets `kimg` thousand images; at least 20."""
    return max(MIN_STEPS, round(kimg * 1000 / batch_size))


def row_steps(steps: int, start: int = 0) -> list[int]:
    """Steps after `start` that end a row of `history.csv`: `HISTORY_ROWS` equal parts, or every step of a short run."""
    rows = min(steps - start, HISTORY_ROWS)
    return [start + round((steps - start) * i / rows) for i in range(1, rows + 1)]


def grid_steps(steps: int) -> list[int]:
    """Steps before which a sample grid is drawn: always where a row ends, and densest at first, when most changes."""
    ends = [0, *row_steps(steps)]
    return sorted({ends[math.ceil((len(ends) - 1) * (i / (GRIDS - 1)) ** 2)] for i in range(GRIDS)})


def more_grid_steps(steps: int, start: int) -> list[int]:
    """The same for steps added to a run of `start` steps: as many grids again, equally spaced."""
    ends = row_steps(steps, start)
    return sorted({ends[math.ceil(len(ends) * i / GRIDS) - 1] for i in range(1, GRIDS + 1)})


def rows_of(saved: dict) -> list[int]:
    """The steps that end a row, as planned in a checkpoint."""
    return saved.get("rows") or row_steps(saved["steps"])


def grids_of(saved: dict) -> list[int]:
    """The steps before which a grid is drawn, as planned in a checkpoint; grid number i belongs to the i-th step."""
    return saved.get("grids") or grid_steps(saved["steps"])


@dataclass(frozen=True)
class Plan:
    """How long a run is, and what it writes after which step.

    Attributes:
        steps: the number of steps of the whole run.
        length: where that number comes from: `from` kimg, or from minutes and the measured speed.
        rows: steps that end a row of `history.csv`.
        grids: steps before which a sample grid is drawn.
        extensions: the points at which the run was made longer.
    """

    steps: int
    length: dict
    rows: list[int]
    grids: list[int]
    extensions: list[dict] = field(default_factory=list)

    @classmethod
    def new(cls, steps: int, length: dict) -> "Plan":
        return cls(steps, length, row_steps(steps), grid_steps(steps))

    @classmethod
    def of(cls, saved: dict) -> "Plan":
        """The plan in a checkpoint."""
        return cls(saved["steps"], saved["length"], rows_of(saved), grids_of(saved), saved.get("extensions", []))

    def state(self) -> dict:
        """The plan, as a checkpoint holds it."""
        return asdict(self)


def extended(saved: dict, steps: int, length: dict) -> dict:
    """The checkpoint with a new plan from its last step on, for `steps` steps in all."""
    done = saved["done"]
    plan = Plan(
        steps,
        length,
        rows=[step for step in rows_of(saved) if step <= done] + row_steps(steps, done),
        grids=[step for step in grids_of(saved) if step <= done] + more_grid_steps(steps, done),
        extensions=[*saved.get("extensions", []), {"at": done, "from": saved["steps"], "to": steps}],
    )
    return {**saved, **plan.state()}
