"""Selection by other rules from the records of one sweep, through ``tune.py export --select``."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from core.training.epoch_row import EpochRow
from tests.support.epoch_rows import make_row
from tests.support.run_records import describe_run
from tests.tuning.reporting.test_export import CONTEXT, METRICS
from tuning.cli.main import main
from tuning.records.method_records import MethodRecords
from tuning.records.run_data import Confirmation, Metrics, RunEnd, TrialStatus
from tuning.reporting.export_method import export_method
from tuning.reporting.summary import read_summary

OTHER = "validation_average_accuracy"
Curve = list[tuple[float, float]]  # worst-group and average accuracy of each epoch


def add_run(records: MethodRecords, phase: str, number: int, lr: float, curve: Curve) -> None:
    """Record a run; a seed's test metrics are at its best worst-group accuracy, and are less."""
    described = describe_run(number, phase, lr=lr)
    seed = number if phase == "confirm" else 1000
    key = replace(described.key, version=str(lr), seed=seed)
    run = records.open_run(key.digest)
    run.write_description(replace(described, key=key))
    rows: list[EpochRow] = [
        make_row(i, worst_group_accuracy=worst, average_accuracy=average)
        for i, (worst, average) in enumerate(curve, start=1)
    ]
    tests: list[Metrics] = [
        {"worst_group_accuracy": worst - 0.1, "average_accuracy": average - 0.1}
        for worst, average in curve
    ]
    run.write_epoch(rows, tests)
    best = max(range(len(curve)), key=lambda index: curve[index])
    found = Confirmation(best + 1, rows[best].validation, tests[best])
    confirmation = found if phase == "confirm" else None
    run.write_end(RunEnd(TrialStatus.COMPLETED, "", rows, confirmation=confirmation))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of two trials: one is better for the worst group, the other on average."""
    records = MethodRecords(tmp_path / "results.records" / "d" / "erm")
    records.write_context(CONTEXT)
    add_run(records, "search", 0, 0.1, [(0.5, 0.9), (0.4, 0.7)])
    add_run(records, "search", 1, 0.2, [(0.6, 0.6), (0.3, 0.8)])
    add_run(records, "confirm", 0, 0.2, [(0.6, 0.6), (0.3, 0.8)])
    add_run(records, "confirm", 1, 0.2, [(0.3, 0.8), (0.6, 0.85)])
    export_method(records, tmp_path / "results")
    return tmp_path / "results"


def test_another_winner_names_its_missing_seeds_and_their_command(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in results.rglob("*.csv")}
    assert main(["export", "--results", str(results), "--select", OTHER]) == 0
    out = capsys.readouterr().out
    assert "no test metrics of confirmation seeds 0, 1" in out
    (command,) = [line for line in out.splitlines() if line.startswith("  python tune.py")]
    assert "--search published --seeds 2" in command
    assert f"--select {OTHER}" in command
    summary = read_summary(results / f"by_{OTHER}" / "d" / "erm")
    assert summary is not None
    assert (summary.rule, summary.seeds, summary.complete) == (OTHER, 0, False)
    assert summary.hyperparameters == {"lr": 0.1}
    text = (results / "d" / "selection.md").read_text()
    rows = {
        cells[2]: cells[3:8]
        for line in text.splitlines()
        if (cells := [cell.strip() for cell in line.split("|")])[1:2] == ["erm"]
    }
    assert rows["validation_worst_group_accuracy"] == ["1", "1", "60.0", "50.0 ± 0.0", "2 of 2"]
    assert rows[OTHER] == ["0", "1", "90.0", "-", "0 of 2"]
    assert "oracle_test_worst_group_accuracy" not in rows
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize("constant", [0.85, 0.95])
def test_another_rule_knows_its_own_constant_prediction(results: Path, constant: float) -> None:
    records = MethodRecords(results.with_suffix(".records") / "d" / "erm")
    records.write_context(replace(CONTEXT, constant_metric=0.0, constant_metrics={OTHER: constant}))
    assert main(["export", "--results", str(results), "--select", OTHER]) == 0
    summary = read_summary(results / f"by_{OTHER}" / "d" / "erm")
    assert summary is not None
    assert summary.has_learned == (constant < 0.9)


def test_audited_test_metrics_confirm_another_epoch(results: Path) -> None:
    records = MethodRecords(results.parent / "results.records" / "d" / "erm")
    audited = replace(CONTEXT.command, audit_test=True)
    records.write_context(replace(CONTEXT, command=audited))
    add_run(records, "confirm", 0, 0.1, [(0.6, 0.6), (0.3, 0.8)])
    add_run(records, "confirm", 1, 0.1, [(0.3, 0.8), (0.6, 0.85)])
    assert main(["export", "--results", str(results), "--select", OTHER]) == 0
    folder = results / f"by_{OTHER}" / "d" / "erm"
    seeds = pd.read_csv(folder / "seeds.csv")
    assert seeds.best_epoch.tolist() == [2, 2]
    assert seeds.test_average_accuracy.tolist() == pytest.approx([0.7, 0.75])
    assert main(["export", "--results", str(results), "--select", f"oracle_test_{METRICS[0]}"]) == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--select", "validation_average"], "did you mean 'validation_average_accuracy'"),
        (["--select", "oracle_test_worst_group_accuracy"], "which --audit-test records"),
        (["--select", "validation_delta_m"], "no finished trial of d has the metric"),
        (["--select", OTHER, "--storage", "elsewhere"], "has records in"),
        (["--storage", "elsewhere"], "no effect without --select"),
        (["--dataset", "foo"], "--dataset: no results in"),
    ],
)
def test_what_cannot_be_selected_is_refused(
    given: list[str], words: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--results", str(results), *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
