"""Every benchmark, in small."""

import csv
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest
import torch
from conftest import REPOSITORY

import toongan
from benchmarks import ablation, asking, collapse, few, first_loop, jobs, roofline, start
from toongan.devices import Machine
from toongan.evaluation import obedience
from toongan.runs import judge


def test_benchmark_runs(home):
    small = ["--rounds", "1", "--seconds", "0.1", "--base-channels", "4", "--batch-size", "16", "--images", "128"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training_step", *small], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    costs = r"\| [\d,]+ \| \d+% \| [\d,.]+ \| \d+% \|\n"
    rows = rf"\| textbook \| [\d,]+ \| 1\.00 {costs}\| classic \| [\d,]+ \| [\d.]+ {costs}\| modern \| [\d,]+ "
    assert re.search(rows, done.stdout), done.stdout


def test_data_benchmark_runs():
    small = ["--rounds", "1", "--seconds", "0.1", "--jpegs", "200", "--pngs", "70", "--avatars", "70"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.data", *small], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^\| (?:pack|draw|read) .* \| [\d,]+ \([\d,]+ to [\d,]+\) \|$", done.stdout, re.M)) == 5
    assert re.search(r"Reading the packed form is [\d,]+ times as fast", done.stdout)


@pytest.fixture
def benchmark(home, tmp_path, monkeypatch, capsys) -> Callable[..., str]:
    """A benchmark and its jobs, run in this process, where everything is loaded already; gives what it prints."""
    monkeypatch.setattr(jobs, "RESULTS", tmp_path)
    for module, name in (
        (ablation, "TABLE"),
        (ablation, "COSTS"),
        (collapse, "TABLE"),
        (few, "TABLE"),
        (first_loop, "TABLE"),
        (asking, "TABLE"),
        (start, "TABLE"),
    ):
        monkeypatch.setattr(module, name, tmp_path / getattr(module, name).name)

    def run(module: ModuleType, *options: str) -> str:
        def job(command: list[str], **_) -> SimpleNamespace:
            assert command[:4] == [sys.executable, "-m", module.__name__, "--job"]
            return SimpleNamespace(stdout=json.dumps(module.measure(json.loads(command[4]))))

        with monkeypatch.context() as patch:
            patch.setattr(jobs.subprocess, "run", job)
            patch.setattr(sys, "argv", [module.__name__, "--at-once", "1", *options])
            module.main()
        return capsys.readouterr().out

    return run


def test_the_ladder_ends_at_the_modern_recipe():
    from toongan.training import RECIPES

    variants = ablation.variants()
    ladder = [variants[name].recipe for name in ablation.LADDER]
    assert ladder[0] == RECIPES["classic"] and ladder[-1] == RECIPES["modern"]
    assert len(set(ladder)) == len(ladder)


@pytest.mark.parametrize("name", list(ablation.FURTHER))
def test_what_is_asked_further_trains(name):
    """A step of each moves both players, and differs from one of the modern recipe."""
    images = torch.randint(0, 256, (64, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    machine, ends = Machine(torch.device("cpu")), []
    for variant in (ablation.variants()[name], ablation.variants()["modern"]):
        config = toongan.TrainConfig(**{"base_channels": 4, "device": "cpu", **variant.settings, "batch_size": 16})
        with ablation.in_place_of_modern(variant):
            trainer = variant.trainer(config, images, machine)
            first = [each.detach().clone() for each in trainer.D.parameters()]
            losses = [trainer.step(number, 100).tolist() for number in range(2)]
        assert all(map(math.isfinite, sum(losses, [])))
        assert any(not torch.equal(was, now) for was, now in zip(first, trainer.D.parameters()))
        ends.append([value.sum().item() for value in trainer.generator.state_dict().values()])
    assert ends[0] != ends[1]


def test_a_job_that_fails_takes_no_other_with_it(tmp_path, monkeypatch):
    def run(command, **options):
        number = json.loads(command[-1])["number"]
        if number == 1:
            raise subprocess.CalledProcessError(1, command)
        return SimpleNamespace(stdout=json.dumps({"twice": 2 * number}))

    monkeypatch.setattr(jobs.subprocess, "run", run)
    table, columns = tmp_path / "rows.csv", ("number", "twice")
    with pytest.raises(SystemExit, match="1 of 4 failed; the same command tries them again:\n{'number': 1}"):
        jobs.run_all("benchmarks.any", [{"number": number} for number in range(4)], table, columns, at_once=2)
    assert sorted(table.read_text().split()) == ["0,0", "2,4", "3,6", "number,twice"]


def test_ablation_keeps_rows_and_does_not_measure_twice(benchmark, home, tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "JUDGED", 32)
    (tmp_path / "ablation-costs.csv").write_text("variant,cost\nflips,1.75\n")
    costs = ["--costs", "--rounds", "1", "--seconds", "0.01", "--images", "320"]
    benchmark(ablation, *costs, "--variants", "latent 32")
    known = (tmp_path / "ablation-costs.csv").read_text().splitlines()
    assert known[1] == "flips,1.75", "what was not measured again stays"
    assert sorted(line.partition(",")[0] for line in known[2:]) == ["latent 32", "modern"]
    small = ["--images", "128", "--kimg", "0.64", "--seeds", "0", "--variants", "latent 32"]
    assert benchmark(ablation, *small).count("frechet_distance") == 2
    table = (tmp_path / "ablation.csv").read_text()
    with open(tmp_path / "ablation.csv", newline="", encoding="utf-8") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["real images", "latent 32"], "the floors of all judges, and the variant"
    for name in ("frechet_distance", "shrunk_1", "shrunk_2", "efficientnet", "spectrum"):
        assert float(rows["latent 32"][name]) > float(rows["real images"][name]) > 0, name
    assert len(list((tmp_path / "ablation").glob("*.webp"))) == 1
    assert re.search(r",(\d\.\d:\d+\.\d ){3,}\d\.\d:\d+\.\d$", table, re.M), "the way to the end is kept"
    assert benchmark(ablation, *small) == "" and (tmp_path / "ablation.csv").read_text() == table
    assert not list((home / "checkpoints").iterdir()), "its runs are deleted"


def test_asking_benchmark_measures_both(benchmark, home, tmp_path, monkeypatch):
    monkeypatch.setattr(obedience, "EACH", 2)
    monkeypatch.setattr(obedience, "FACES", 8)
    printed = benchmark(asking, "--images", "640", "--kimg", "0.64", "--seeds", "0", "--base-channels", "4")
    assert printed.count("frechet_distance") == 2
    with open(tmp_path / "asking.csv", newline="", encoding="utf-8") as file:
        plain, asked = csv.DictReader(file)
    assert plain["ask"] == plain["skin_color"] == "" and asked["ask"] == "all"
    assert 0 <= float(asked["skin_color"]) <= 1 and 0.2 < float(asked["skin_color_ceiling"]) <= 1
    assert float(asked["reader"]) > 0


def test_start_benchmark_compares_with_random_nets(benchmark, home, tmp_path, monkeypatch):
    monkeypatch.setattr(start, "JUDGES", 16)
    monkeypatch.setattr(start, "SIZES", (70,))
    toongan.train(
        toongan.TrainConfig(run="avatars-64", kimg=0.64, count=128, base_channels=4, batch_size=16), progress=False
    )
    small = ["--datasets", "avatars:lorelei", "--sizes", "70", "--seeds", "0", "--base-channels", "4", "--many", "128"]
    assert benchmark(start, *small, "--kimg", "0.64").count("'until'") == 2
    with open(tmp_path / "start.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["arm"] for row in rows] == ["random", "start"] and rows[0]["until"] == ""
    assert all(len(row["curve"].split()) >= 2 and float(row["distance"]) > float(row["floor"]) > 0 for row in rows)


def test_collapse_benchmark_counts(benchmark, home, tmp_path, monkeypatch):
    """One loop with a process for the job, as a user has it; the others are added to its table."""
    monkeypatch.setenv("BENCHMARK_RESULTS", str(tmp_path))
    small = ["--images", "160", "--kimg", "0.32", "--seeds", "0", "--datasets", "avatars"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.collapse", *small, "--loops", "modern"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = r"\| modern \| 1 \| [01] \|\n\| modern, flat \| {0} \|\n\| classic \| {0} \|\n\| textbook \| {0} \|"
    assert re.search(rows.replace("{0}", r"0 \| 0"), done.stdout)
    monkeypatch.setattr(collapse, "IMAGES", 64)
    printed = benchmark(collapse, *small)
    assert printed.count("distance_of_mean") == 3, "the first is not measured again"
    assert re.search(rows.replace("{0}", r"1 \| [01]"), printed)
    assert len(list((tmp_path / "collapse").glob("*.webp"))) == 4


def test_few_images_benchmark_judges_all_by_the_same_images(benchmark, home, tmp_path):
    (tmp_path / "ablation-costs.csv").write_text(
        "variant,cost\nmodern,1\nflips,1\nDiffAugment,1.4\n8 colours and differences,1.5\n"
    )
    assert benchmark(few, "--images", "320", "--kimg", "0.64").count("frechet_distance") == 5
    with open(tmp_path / "few.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sorted((row["variant"], row["trained_on"]) for row in rows) == [
        ("8 colours and differences", "140"), ("DiffAugment", "140"), ("flips", "140"), ("modern", "140"), ("modern", "280"),
    ]  # fmt: skip
    assert len({row["judged_by"] for row in rows}) == 1, "all by the same images"
    assert 8 <= int(rows[0]["judged_by"]) < 40, "those of the large set's 40 that the small one has not"
    assert len({(row["frechet_floor"], row["recall_floor"]) for row in rows}) == 1
    assert len(list((tmp_path / "few").glob("*.webp"))) == 5


def test_first_loop_benchmark_trains_every_variant(benchmark, home, tmp_path, monkeypatch):
    some = ("paper", "all three, relativistic")
    monkeypatch.setattr(first_loop, "VARIANTS", {name: first_loop.VARIANTS[name] for name in some})
    assert benchmark(first_loop, "--images", "640", "--steps", "1", "--seeds", "0").count("distance") == 2
    assert len(list((tmp_path / "first-loop").glob("*.webp"))) == 2


def test_roofline_counts_a_step_without_a_gpu(capsys, monkeypatch):
    work = roofline.work_of_a_step("modern", "bf16", 64, 64, 64)
    kernels, flops, moved = len(work), sum(each[1] for each in work), sum(each[2] for each in work)
    assert kernels < 340 and 1.2e9 < moved < 1.3e9, "what a step costs has grown"
    assert abs(flops / 64 / 2.28e9 - 1) < 0.01
    largest = roofline.work_of_a_step("modern", "bf16", 64, 128, 64)
    assert len(largest) == kernels and sum(each[1] for each in largest) > 1.9 * flops
    card = roofline.CARDS["H100"]
    assert roofline.seconds(work, card, "bf16") >= max(
        kernels * card.kernel, flops / card.flops["bf16"], moved / card.bytes
    )
    monkeypatch.setattr(sys, "argv", ["roofline", "--image-size", "32", "--batch-size", "16", "--base-channels", "4"])
    roofline.main()
    rows = re.findall(
        r"^\| (?:modern|classic) \| (?:fp32|bf16|fp16) \| 32 \| 16 \| \d+ ", capsys.readouterr().out, re.M
    )
    assert len(rows) == 6
