"""Every write of a short job is refused once, or the process killed there: one true sentence, and nothing is lost."""

import json
import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY
from faults import FAULTS, JOBS

# In `make test` every so many-th point; `make soak` takes all of them, in all ways.
STRIDE = {"pack": 5, "draw": 12, "pack anew": 9, "train": 29, "train another": 41, "extend": 41, "rebuild": 13}
LESS_LIKELY = {"ENOSPC": ("Permission denied", "Input/output"), "EACCES": ("space",), "EIO": ("space",)}


def walk(job: str, every: int, first: int = 0) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "tests/faults.py", job, str(every), str(first)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    head, *cases = map(json.loads, done.stdout.splitlines())
    assert head["points"] > 5 and cases
    return cases


def problems(case: dict) -> list[str]:
    """What is wrong with how a fault was borne."""
    found, said = [], case["said"]
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if "Traceback" in said or "unforeseen" in said:
        found.append("a traceback")
    if case["fault"] == "kill -9":
        if case["status"] != -9:
            found.append(f"not killed, but {case['status']}")
    elif case["status"] == 2:
        if len(errors) != 1:
            found.append(f"{len(errors)} sentences")
        found += [f"untrue: {word}" for word in LESS_LIKELY[case["fault"]] for error in errors if word in error]
    elif case["status"] != 0:
        found.append(f"exit status {case['status']}")
    if case["lost"] or case["lost_after"]:
        found.append(f"{case['lost']}, then {case['lost_after']} files of the user's are gone")
    if case["again"] != 0:
        found.append(f"the same command then ends with {case['again']}: {case['said_again'][-300:]}")
    found += [f"{name} is not the same" for name in case["different"]]
    return found + [f"{name} is left over" for name in case["more"]]


def check(cases: list[dict]) -> None:
    wrong = [(case["at"], case["fault"], problems(case), case["said"][-300:]) for case in cases if problems(case)]
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("job", [job for job in JOBS if job in STRIDE])
def test_a_write_that_fails(job):
    check(walk(job, STRIDE[job]))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("job", JOBS)
def test_every_write_that_fails(job):
    cases = walk(job, 1)
    print(f"{job}: {len(cases)} faults")
    assert {case["fault"] for case in cases} == set(FAULTS)
    check(cases)
