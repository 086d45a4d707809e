"""One change at a time to the modern recipe, at equal wall-clock: `python -m benchmarks.ablation`.

Each variant trains anew for the same minutes and is measured as `python -m toongan evaluate` measures: Fréchet distance,
MobileNetV2, to 2,500 held-out pictures. Results go to `benchmarks/results/ablation.csv`, a row a run, as soon as they are
there; a row that is there already is not measured again.
"""

import argparse
import csv
import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "ablation.csv"
COLUMNS = (
    "variant", "seed", "minutes", "kimg", "frechet_distance", "floor", "precision", "recall", "two_sample", "device", "date"
)  # fmt: skip

# Name to changes: those of `Recipe` (chapter 03), and those of the run.
VARIANTS: dict[str, tuple[dict, dict]] = {
    "modern": ({}, {}),
    "batch norm in D": ({"norm": "batch"}, {}),
    "no average": ({"average": False}, {}),
    "no cosine": ({"final_rate": 1.0}, {}),
    "rate 5e-4": ({"learning_rate": 5e-4}, {}),
    "rate 2e-3": ({"learning_rate": 2e-3}, {}),
    "betas 0.5, 0.99": ({"betas": (0.5, 0.99)}, {}),
    "betas 0, 0.99": ({"betas": (0.0, 0.99)}, {}),
    "batch 32": ({}, {"batch_size": 32}),
    "batch 128": ({}, {"batch_size": 128}),
    "12 base channels": ({}, {"base_channels": 12}),
    "24 base channels": ({}, {"base_channels": 24}),
    "latent 64": ({}, {"latent_dim": 64}),
}


def train_and_measure(variant: str, seed: int, minutes: float) -> dict:
    """Runs in a process of its own: it changes the recipe for all of it."""
    import toongan
    from toongan import training

    recipe, settings = VARIANTS[variant]
    training.RECIPES["modern"] = dataclasses.replace(training.RECIPES["modern"], **recipe)
    run = toongan.train(
        toongan.TrainConfig(run="ablation", restart=True, seed=seed, minutes=minutes, **settings), progress=False
    )
    card = toongan.evaluate(toongan.EvaluateConfig(run="ablation"), progress=False)
    return {"kimg": run.info()["kimg"], "card": card}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--one", action="store_true", help="measure in this process, and write a row to standard output")
    options = parser.parse_args()

    if options.one:
        print_row(options.variants[0], options.seeds[0], options.minutes)
        return
    RESULTS.parent.mkdir(exist_ok=True)
    if not RESULTS.exists():
        RESULTS.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    with open(RESULTS, newline="", encoding="utf-8") as file:
        done = {(row["variant"], row["seed"], row["minutes"]) for row in csv.DictReader(file)}
    for seed in options.seeds:
        for variant in options.variants:
            if (variant, str(seed), str(options.minutes)) in done:
                continue
            one = [sys.executable, "-m", "benchmarks.ablation", "--one", "--variants", variant]
            one += ["--seeds", str(seed), "--minutes", str(options.minutes)]
            row = subprocess.run(one, check=True, stdout=subprocess.PIPE, text=True, env=os.environ).stdout.splitlines()[-1]
            with open(RESULTS, "a", encoding="utf-8") as file:
                file.write(row + "\n")
            print(row, flush=True)


def print_row(variant: str, seed: int, minutes: float) -> None:
    found = train_and_measure(variant, seed, minutes)
    card, figures = found["card"], found["card"]["figures"]
    values = {
        "variant": variant,
        "seed": seed,
        "minutes": minutes,
        "kimg": found["kimg"],
        "frechet_distance": figures["frechet_distance"]["generated"],
        "floor": figures["frechet_distance"]["floor"],
        "precision": figures["precision"]["generated"],
        "recall": figures["recall"]["generated"],
        "two_sample": figures["two_sample"]["generated"]["accuracy"],
        "device": card["device"],
        "date": time.strftime("%Y-%m-%d"),
    }
    csv.DictWriter(sys.stdout, COLUMNS).writerow(values)


if __name__ == "__main__":
    main()
