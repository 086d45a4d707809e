"""The parts of `make gpu`: what there is to see on a machine with a GPU, in commands of at most nine minutes.

    python tools/gpu.py tests         the tests, on CUDA
    python tools/gpu.py speed         images a second: recipes, sizes, precisions, batches, against the textbook loop
    python tools/gpu.py gpu-64        ten minutes at 64 px: run it twice, the second time it goes on, and judges
    python tools/gpu.py gpu-128       the same at 128 px
    python tools/gpu.py gpu-anime     25 epochs over as many images as the anime faces have, drawn ones

Each leaves a small file in build/gpu/, with device and date. Options after `--` go to `train`.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = ("gpu-64", "gpu-128", "gpu-anime")
SPEEDS = [(64, 64), (64, 256), (64, 1024), (128, 64), (128, 256)]  # size and batch


def python(*arguments, seconds: float) -> tuple[int, str]:
    """Run a command of Python's for so long at most, then stop it as Ctrl-C does; gives its status and what it said."""
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate()
    print(said, flush=True)
    return process.returncode, said


def train_and_judge(name: str, seconds: float, options: list[str]) -> dict:
    """Train a named run for a while, or to its end, and judge it then."""
    end = time.monotonic() + seconds
    status, _ = python("-m", "toongan", "train", "--preset", name, *options, seconds=0.8 * seconds)
    if status == 130:
        return {"finished": False}
    if status:
        sys.exit(status)
    from toongan.runs import Run

    run = Run.named(name)
    status, _ = python("-m", "toongan", "evaluate", "--run", name, seconds=end - time.monotonic())
    card = json.loads((run.checkpoints / "metrics.json").read_text(encoding="utf-8")) if status == 0 else {}
    return {"finished": True, "run": run.info(), "card": card}


def speeds(seconds: float) -> dict:
    """The tables of `benchmarks.training_step`, as far as the time allows."""
    end, tables = time.monotonic() + seconds, {}
    for size, batch in SPEEDS:
        sizes = ("--image-size", size, "--batch-size", batch, "--images", max(2048, 2 * batch))
        left = end - time.monotonic()
        if left > 20:
            brief = ("--rounds", 3, "--seconds", 2)
            tables[f"{size} px, batch {batch}"] = python(
                "-m", "benchmarks.training_step", *sizes, *brief, seconds=left
            )[1]
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("tests", "speed", *RUNS))
    parser.add_argument("--seconds", type=float, default=520.0, help="how long it may take (default: 520)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "gpu", help="folder of the file (default: build/gpu)"
    )
    given, place = sys.argv[1:], sys.argv.index("--") - 1 if "--" in sys.argv else len(sys.argv) - 1
    options, for_train = parser.parse_args(given[:place]), given[place + 1 :]
    sys.path.insert(0, str(ROOT))
    from toongan.devices import Machine, hardware

    machine = Machine.on(hardware.choose_device())
    found = {
        "part": options.part,
        "device": str(machine),
        "precision": machine.precision,
        "date": time.strftime("%Y-%m-%d"),
    }
    if options.part == "tests":
        subset = ("tests/devices", "tests/runs", "tests/features", "tests/test_training.py", "tests/test_models.py")
        status, said = python("-m", "pytest", "-q", "--numprocesses", 4, *subset, seconds=options.seconds)
        found |= {"status": status, "said": said[-2000:]}
    elif options.part == "speed":
        found |= speeds(options.seconds)
    else:
        found |= train_and_judge(options.part, options.seconds, for_train)
    place = options.out / f"{options.part}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(place)
    sys.exit(found.get("status", 0))  # so that make does not go on after tests that fail


if __name__ == "__main__":
    main()
