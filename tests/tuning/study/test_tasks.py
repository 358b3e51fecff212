"""Studies of several tasks: rules, tables, baselines, through the real command line."""

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import datasets
from common.errors import UserError
from core.training import selection
from core.training.selection import RULES, SelectionRow, score_curves, score_epoch, select_epoch
from datasets.multitask.base import TaskBenchmark
from datasets.multitask.baseline import Baseline
from datasets.multitask.delta_m import compute_metric_deltas
from tests.support.command import PATIENCE, ROOT, clean_environment, run_core, run_tune, use_one_cpu
from tests.support.epoch_rows import make_row
from tuning.cli.main import main

pytestmark = pytest.mark.study

DATASET = "imbalanced_tasks"
SMALL = ["--epochs", "2", "--trials", "2", "--seeds", "2", "--set", "batch_size=512"]


def row(number: int, delta: float, worst: float = 0.0, final: bool = False) -> SelectionRow:
    return SelectionRow(make_row(number, final=final, delta_m=delta, worst_task_delta=worst))


@pytest.mark.deviation("task-selection")
def test_the_lowest_delta_wins_and_ties_go_to_the_milder_worst_task() -> None:
    rule = RULES["validation_delta_m"]
    best = select_epoch(
        score_curves(rule, [[row(1, 5.0), row(2, -3.0, 9.0), row(3, -3.0, 4.0), row(4, 1.0)]])
    )
    assert best is not None
    assert best.epoch == 3
    assert rule.read_metric(best) == -3.0


def test_an_epoch_whose_metric_is_not_a_number_is_never_chosen() -> None:
    rule = RULES["validation_delta_m"]
    best = select_epoch(score_curves(rule, [[row(1, 5.0), row(2, float("nan")), row(3, 7.0)]]))
    assert best is not None
    assert best.epoch == 1


def test_published_last10_is_the_mean_of_the_last_ten_and_chooses_no_epoch() -> None:
    rule = RULES["published_last10"]
    rows = [row(i, 0.0, final=i == 14).epoch_row for i in range(1, 15)]
    audit = [{"delta_m": float(i), "worst_task_delta": 2.0 * i} for i in range(1, 15)]
    seen = [selection.make_selection_row(rule, rows, audit, index) for index in range(len(rows))]
    found = [score_epoch(rule, [one]) for one in seen]
    assert found[:-1] == [None] * 13
    assert rule.read_metric(found[-1]) == sum(range(5, 15)) / 10
    assert (
        seen[2].get_metrics("test")["delta_m"] == 2.0
    )  # fewer than ten: the mean of what there is


def test_delta_m_is_as_its_formula_says() -> None:
    benchmark = datasets.load_benchmark("two_digits")
    assert isinstance(benchmark, TaskBenchmark)
    baseline = {"left_accuracy": 0.8, "right_accuracy": 0.5, "sum_mae": 2.0}
    values = {"left_accuracy": 0.6, "right_accuracy": 0.6, "sum_mae": 1.0}
    deltas = compute_metric_deltas(values, baseline, benchmark.tasks)
    assert deltas == pytest.approx({"left_accuracy": 25, "right_accuracy": -20, "sum_mae": -50})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset": "nyuv2"}, "of data set 'nyuv2'"),
        ({"metrics": {"left_accuracy": 1.0}}, "lacks right_accuracy, sum_mae"),
        ({"metrics": {"left_accuracy": 0.0}}, "left_accuracy: 0"),
        ({"unknown": 1}, "not a baseline file"),
    ],
)
def test_a_wrong_baseline_is_refused(change: dict[str, Any], words: str) -> None:
    text = {"name": "x", "dataset": "two_digits", "version": "1", "source": "y", "metrics": {}}
    with pytest.raises(UserError, match=words):
        datasets.load_benchmark("two_digits", "data", json.dumps(text | change))


def test_the_baseline_is_part_of_the_key(tmp_path: Path) -> None:
    values = dict.fromkeys(("left_accuracy", "right_accuracy", "sum_mae"), 0.5)
    text = {"name": "x", "dataset": "two_digits", "version": "1", "source": "y", "metrics": values}
    other = datasets.load_benchmark("two_digits", "data", json.dumps(text))
    assert other.key_version != datasets.load_benchmark("two_digits").key_version
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps(text))
    done = run_core(["--method", "ls", "--dataset", "two_digits", "--epochs", "1", "--json",
                 "--baseline", path, "--set", "batch_size=1000"])  # fmt: skip
    assert done.code == 0, done.err
    metrics = json.loads(done.out.splitlines()[1])["validation"]
    left = (0.5 - metrics["left_accuracy"]) / 0.5
    right = (0.5 - metrics["right_accuracy"]) / 0.5
    total = (metrics["sum_mae"] - 0.5) / 0.5
    assert metrics["delta_m"] == pytest.approx(100 * (left + right + total) / 3)


def test_a_study_with_its_own_baseline_which_changes_meanwhile(tmp_path: Path) -> None:
    results = tmp_path / "results"
    place = ["--dataset", DATASET, "--results", results]
    done = run_tune(["--method", "stl", *place, *SMALL])
    assert done.code == 0, done.err
    done = run_tune(["export", "--baseline", *place])
    assert done.code == 0, done.err
    path = results / DATASET / "stl" / "baseline.json"
    baseline = Baseline.from_json(path.read_text(), path.name)
    summary = json.loads((results / DATASET / "stl" / "summary.json").read_text())
    for metric, value in baseline.metrics.items():
        assert value == summary["metrics"][f"test_{metric}"]["mean"]
    other = tmp_path / "other"
    text = path.read_text()
    changed = {**json.loads(text), "metrics": dict.fromkeys(baseline.metrics, 99.0)}
    with use_one_cpu():
        process = subprocess.Popen(
            [sys.executable, "tune.py", "--method", "ls", "fairgrad", "--dataset", DATASET,
             "--results", other, *SMALL, "--baseline", path],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=clean_environment(),
        )  # fmt: skip
    records = other.with_name("other.records")
    while process.poll() is None and not list(records.rglob("end.json")):
        time.sleep(0.02)
    path.write_text(json.dumps(changed))
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    path.write_text(text)
    table = (other / DATASET / "table.md").read_text()
    assert f"'{baseline.name}', version {baseline.version}" in table
    assert "mean rank" in table
    plain = pd.read_csv(other / DATASET / "table.csv")
    assert sorted(plain["method"]) == ["fairgrad", "ls"]
    assert sorted(plain["mean_rank"]) == sorted(plain["mean_rank"], key=float)
    seeds = pd.read_csv(other / DATASET / "ls" / "seeds.csv")
    benchmark = datasets.load_benchmark(DATASET)
    assert isinstance(benchmark, TaskBenchmark)
    for _, seed in seeds.iterrows():
        values = {name: seed[f"test_{name}"] for name in benchmark.task_metrics}
        deltas = compute_metric_deltas(values, baseline.metrics, benchmark.tasks)
        assert seed["test_delta_m"] == pytest.approx(sum(deltas.values()) / len(deltas))
    ends = [json.loads(end.read_text()) for end in records.rglob("end.json")]
    assert len(ends) == 8
    for row in (end["rows"][0]["validation"] for end in ends):  # the changed file was not read
        deltas = compute_metric_deltas(row, baseline.metrics, benchmark.tasks)
        assert row["delta_m"] == pytest.approx(sum(deltas.values()) / len(deltas))
    predictions = pd.read_parquet(other / DATASET / "ls" / "predictions" / "seed_0.parquet")
    test = predictions[predictions["split"] == "test"]
    assert len(test) == len(benchmark.splits["test"])
    assert {f"error_{task.name}" for task in benchmark.tasks} <= set(test.columns)
    _check_single_run(other / DATASET / "fairgrad")


def _check_single_run(folder: Path) -> None:
    """Run the exported command without Ray, as pasted into a shell, and compare its numbers."""
    exported = yaml.safe_load((folder / "best_config.yaml").read_text())
    assert exported["training_config"]["clip"] == "shared"  # set by the method, not the data set
    python, module, core, *arguments = shlex.split(exported["command_of_one_seed"])
    assert (python, module, core) == ("python", "-m", "core")
    done = run_core([*arguments, "--json"])
    assert done.code == 0, done.err
    first, *rows, test, chosen = [json.loads(line) for line in done.out.splitlines()]
    seed = pd.read_csv(folder / "seeds.csv").iloc[0]
    assert chosen["chosen"]["epoch"] == seed.best_epoch
    assert test["test"]["delta_m"] == seed.test_delta_m
    assert first["key"] == exported["provenance"]["seed_keys"][0]
    curves = pd.read_csv(folder / "curves.csv", dtype={"key": str})
    recorded = curves[curves.key == first["key"]]
    assert recorded.validation_delta_m.tolist() == [row["validation"]["delta_m"] for row in rows]
    for name, found in rows[0]["weights"].items():
        assert recorded[f"weight_{name}_mean"].tolist()[0] == found["mean"]
    assert recorded.negative_cosines.between(0, 1).all()


def test_published_last10_is_labeled_and_needs_the_audit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--method", "ls", "--dataset", DATASET, "--select", "published_last10"]
    assert main([*given, "--results", str(tmp_path / "x")]) == 2
    assert "needs --audit-test" in capsys.readouterr().err
    results = tmp_path / "results"
    done = run_tune([*given, "--audit-test", "--results", results, "--epochs", "3", "--trials", "1",
                 "--seeds", "1", "--set", "batch_size=512"])  # fmt: skip
    assert done.code == 0, done.err
    assert "last ten epochs' TEST metrics" in (results / DATASET / "table.md").read_text()
    (seed,) = pd.read_csv(results / DATASET / "ls" / "seeds.csv", dtype={"key": str}).to_dict(
        "records"
    )
    audit = results.with_name("results.records") / DATASET / "ls" / "runs" / seed["key"]
    tests = json.loads((audit / "audit.json").read_text())
    assert seed["best_epoch"] == len(tests) == 3
    assert seed["test_delta_m"] == pytest.approx(sum(t["delta_m"] for t in tests) / 3)


def test_rules_of_other_data_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--method", "erm", "--dataset", "colored_digits", "--select", "validation_delta_m"]
    assert main(given) == 2
    message = capsys.readouterr().err
    assert "does not report delta_m" in message
    assert "validation_worst_group_accuracy" in message


def test_export_tells_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--results", str(tmp_path / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().err
    given = ["export", "--results", str(tmp_path), "--baseline", "--dataset"]
    assert main([*given, "two_digit"]) == 2
    assert "did you mean 'two_digits'" in capsys.readouterr().err
    assert main([*given, "two_digits"]) == 2
    assert "--method stl" in capsys.readouterr().err
    assert main([*given, "colored_digits"]) == 2
    assert "is not a multi-task data set" in capsys.readouterr().err
