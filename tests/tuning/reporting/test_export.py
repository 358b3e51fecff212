"""Exports are made from records alone, also while a study runs."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from common.errors import UserError
from common.hyperparameters import Hyperparameters
from core.environment import detect_environment
from core.training.epoch_row import EpochRow
from tests.support.epoch_rows import make_row
from tests.support.run_records import describe_run
from tuning.cli.main import main
from tuning.records.export_context import CommandOptions, ExportContext
from tuning.records.method_records import MethodRecords
from tuning.records.run_data import Confirmation, Metrics, RunEnd, TrialStatus
from tuning.records.run_record import RunRecord
from tuning.records.version import RECORD_VERSION
from tuning.reporting import intervals
from tuning.reporting.export_method import export_method
from tuning.reporting.intervals import compute_statistics
from tuning.reporting.recorded_study import read_study
from tuning.reporting.summary import Summary, read_summaries, read_summary, write_summary
from tuning.reporting.tables import write_tables

METRICS = ("worst_group_accuracy", "average_accuracy")
CONTEXT = ExportContext(
    method="erm", dataset="d", dataset_version="1", data_hash="0", baseline=None, as_percent=True,
    higher_is_better=dict.fromkeys(METRICS, True), reported_metrics=list(METRICS),
    training_config={"batch_size": 8, "epochs": 9}, needs=[], gradients="exact",
    epochs_per_trial=2, environment=detect_environment(False),
    rule="validation_worst_group_accuracy",
    search="random", scheduler="none", trials=2, search_seeds=1, seeds=2, published=None,
    keep_models=False, group_names=["left", "right"], train_group_names=["a", "b"],
    command=CommandOptions("my data", None, False, "auto", None, False, None, 1),
)  # fmt: skip


def rows(*values: float) -> list[EpochRow]:
    """Rows whose worst-group accuracies are given."""
    return [
        make_row(i, devices=0.5, worst_group_accuracy=value, average_accuracy=0.9)
        for i, value in enumerate(values, start=1)
    ]


def add_run(
    records: MethodRecords,
    phase: str,
    number: int,
    lr: float,
    *values: float,
    status: TrialStatus = TrialStatus.COMPLETED,
    further_seed: int = 0,
) -> RunRecord:
    """Record a run; a seed's test metrics are its best validation value less 0.1."""
    seed = number if phase == "confirm" else 1000 + further_seed
    described = describe_run(number, phase, lr=lr)
    key = replace(described.key, version=str(lr), seed=seed)
    run = records.open_run(key.digest)
    used: Hyperparameters = {"lr": lr, "epochs": 2}
    run.write_description(replace(described, effective=used, key=key))
    run.write_epoch(rows(*values))
    if status.has_ended:
        best = max(values)
        validation = {"worst_group_accuracy": best, "average_accuracy": 0.9}
        test: Metrics = {
            "worst_group_accuracy": best - 0.1, "average_accuracy": 0.8,
            "group_accuracy": [0.95, best - 0.1] if seed else [best - 0.1, None],
        }  # fmt: skip
        result = Confirmation(values.index(best) + 1, validation, test)
        confirmation = result if phase == "confirm" and status != TrialStatus.FAILED else None
        run.write_end(RunEnd(status, "", rows(*values), confirmation=confirmation))
    return run


@pytest.fixture
def records(tmp_path: Path) -> MethodRecords:
    """A study of two trials, of which the second wins, and two seeds, and others' seeds."""
    found = MethodRecords(tmp_path / "records" / "d" / "erm")
    found.write_context(CONTEXT)
    add_run(found, "search", 0, 0.1, 0.5, 0.4)
    add_run(found, "search", 1, 0.2, 0.3, 0.6)
    add_run(found, "confirm", 0, 0.2, 0.5, 0.7)
    add_run(found, "confirm", 1, 0.2, 0.9, 0.8)
    add_run(found, "confirm", 2, 0.2, 0.1, 0.1)  # of an earlier command with more seeds
    add_run(found, "confirm", 0, 0.1, 0.2, 0.2)  # of an earlier winner
    return found


def test_exports_of_a_complete_study(records: MethodRecords, tmp_path: Path) -> None:
    export_method(records, tmp_path)
    folder = tmp_path / "d" / "erm"
    trials, seeds = (pd.read_csv(folder / f"{name}.csv") for name in ("trials", "seeds"))
    assert trials[["trial", "lr", "epochs", "epochs_done", "best_epoch"]].to_numpy().tolist() == [
        [0, 0.1, 2, 2, 1], [1, 0.2, 2, 2, 2],
    ]  # fmt: skip
    assert trials.device_hours.tolist() == pytest.approx([2 * 2.0 * 0.5 / 3600] * 2)
    assert seeds.test_worst_group_accuracy.tolist() == pytest.approx([0.6, 0.8])
    summary = read_summary(folder)
    assert summary is not None
    assert summary.complete
    assert (summary.trials, summary.seeds, summary.epochs) == (2, 2, 8)
    assert summary.metrics["test_worst_group_accuracy"].mean == pytest.approx(0.7)
    assert summary.worst_groups == {"left": 1, "right": 1}
    assert seeds.test_worst_group.tolist() == ["left", "right"]
    assert seeds["test_group_accuracy[right]"].dropna().tolist() == [0.8]
    best = yaml.safe_load((folder / "best_config.yaml").read_text())
    assert best["selection"]["trial"] == 1
    key = describe_run(0).key
    assert best["training_config"] == key.training_config.as_dict()
    assert best["recipe"] == key.recipe.as_dict()
    assert "--data-root 'my data'" in best["command"]
    write_tables(tmp_path)
    table = (tmp_path / "d" / "table.md").read_text()
    assert "| erm    | 80.0 ± 14.1 " in table
    assert "Selected by: validation worst group accuracy." in table
    assert "95% confidence interval of the mean to its left (Student's t" in table


def test_exports_while_the_study_runs(records: MethodRecords, tmp_path: Path) -> None:
    records.write_context(replace(CONTEXT, trials=4))
    add_run(records, "search", 2, 0.3, 0.9, status=TrialStatus.UNFINISHED)
    export_method(records, tmp_path)
    trials = pd.read_csv(tmp_path / "d" / "erm" / "trials.csv")
    assert trials.status.tolist() == ["completed", "completed", "unfinished"]
    summary = read_summary(tmp_path / "d" / "erm")
    assert summary is not None
    assert not summary.complete
    assert summary.statuses == {"completed": 2, "unfinished": 1}
    assert summary.hyperparameters == {"lr": 0.2, "epochs": 2}
    assert summary.seeds == 2  # of the winner so far, from an earlier session


def test_a_search_without_a_finished_trial_has_trials_only(tmp_path: Path) -> None:
    records = MethodRecords(tmp_path / "records")
    assert read_study(records) is None
    export_method(records, tmp_path / "results")
    records.write_context(CONTEXT)
    add_run(records, "search", 0, 0.1, 0.5, status=TrialStatus.UNFINISHED)
    export_method(records, tmp_path / "results")
    names = sorted(path.name for path in (tmp_path / "results" / "d" / "erm").iterdir())
    assert names == ["curves.csv", "trials.csv"]


def test_a_published_configuration_has_no_trials(tmp_path: Path) -> None:
    records = MethodRecords(tmp_path / "records")
    published: Hyperparameters = {"lr": 0.2}
    records.write_context(replace(CONTEXT, search="published", trials=0, published=published))
    for seed in range(2):
        add_run(records, "confirm", seed, 0.2, 0.5, 0.7)
    export_method(records, tmp_path)
    summary = read_summary(tmp_path / "d" / "erm")
    assert summary is not None
    assert summary.complete
    assert summary.trials == 0
    best = yaml.safe_load((tmp_path / "d" / "erm" / "best_config.yaml").read_text())
    assert best["hyperparameters"] == {"lr": 0.2, "epochs": 2}
    assert best["selection"]["trial"] is None


def test_curves_have_every_epoch_and_audited_test_metrics_only(
    records: MethodRecords, tmp_path: Path
) -> None:
    measured = replace(
        rows(0.5)[0],
        weights={"a": {"mean": 0.5, "min": 0.25, "max": 1.0}},
        conflicts={"negative_cosines": 0.25, "norms": {"a": 2.0}},
        training={"group_accuracy": [0.5, None]},
        training_batches={"depth": 0.125},
    )
    key = describe_run(7).key
    run = records.open_run(key.digest)
    run.write_description(replace(describe_run(7), key=key))
    run.write_epoch([measured], [{"worst_group_accuracy": 0.75}])
    export_method(records, tmp_path)
    path = tmp_path / "d" / "erm" / "curves.csv"
    found = pd.read_csv(path)
    assert found.phase.tolist() == ["search"] * 5 + ["confirm"] * 4
    assert found.trial.dropna().tolist() == [0, 0, 1, 1, 7]
    assert found.seed.tolist() == [1000] * 4 + [7, 0, 0, 1, 1]
    assert found.validation_worst_group_accuracy.tolist()[:5] == [0.5, 0.4, 0.3, 0.6, 0.5]
    row = found.iloc[4]
    assert (row.weight_a_mean, row.weight_a_min, row.weight_a_max) == (0.5, 0.25, 1.0)
    assert (row.negative_cosines, row.gradient_norm_a) == (0.25, 2.0)
    assert row["train_group_accuracy[a]"] == 0.5
    assert row.train_batches_depth == 0.125
    assert not any(str(name).startswith("test_") for name in found)
    audited = replace(CONTEXT, command=replace(CONTEXT.command, audit_test=True))
    records.write_context(audited)
    export_method(records, tmp_path)
    assert pd.read_csv(path).test_worst_group_accuracy.tolist()[4] == 0.75


def test_contexts_and_summaries_survive_json(records: MethodRecords, tmp_path: Path) -> None:
    assert ExportContext.from_dict(json.loads(json.dumps(CONTEXT.as_dict()))) == CONTEXT
    export_method(records, tmp_path)
    summary = read_summary(tmp_path / "d" / "erm")
    assert summary is not None
    write_summary(tmp_path / "copy", summary)
    assert read_summary(tmp_path / "copy") == summary


def test_summaries_of_another_version_are_refused_or_left_out(
    records: MethodRecords, tmp_path: Path
) -> None:
    export_method(records, tmp_path)
    path = tmp_path / "d" / "erm" / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "record_version": 1}))
    with pytest.raises(UserError, match=rf"summary\.json.*version 1, expected {RECORD_VERSION}"):
        read_summaries(tmp_path)  # before a study
    (left_out,) = write_tables(tmp_path)
    assert (left_out.file, left_out.reason[:26]) == (str(path), "has record version 1, expe")


def test_hidden_folders_are_no_results(records: MethodRecords, tmp_path: Path) -> None:
    """Notebooks keep copies in .ipynb_checkpoints."""
    export_method(records, tmp_path)
    for copy in (tmp_path / "d" / ".copy", tmp_path / ".trash" / "erm"):
        shutil.copytree(tmp_path / "d" / "erm", copy)
    assert len(read_summaries(tmp_path)) == 1


@pytest.mark.parametrize("status", [TrialStatus.FAILED, TrialStatus.UNFINISHED])
def test_predictions_of_an_earlier_winner_do_not_stay(
    status: TrialStatus, records: MethodRecords, tmp_path: Path
) -> None:
    predictions = tmp_path / "d" / "erm" / "predictions"
    for seed in range(2):
        run = add_run(records, "confirm", seed, 0.2, 0.5)  # recorded already
        run.storage.write_bytes("predictions.parquet", b"earlier")
    export_method(records, tmp_path)
    assert len(list(predictions.iterdir())) == 2
    records.write_context(replace(CONTEXT, trials=3))
    add_run(records, "search", 2, 0.3, 0.95)
    first = add_run(records, "confirm", 0, 0.3, 0.9)
    first.storage.write_bytes("predictions.parquet", b"now")
    second = add_run(records, "confirm", 1, 0.3, 0.9, status=status)
    second.storage.write_bytes("predictions.parquet", b"of a crash before its end was written")
    export_method(records, tmp_path)
    assert {path.name: path.read_bytes() for path in predictions.iterdir()} == {
        "seed_0.parquet": b"now"
    }
    first.storage.delete("predictions.parquet")
    export_method(records, tmp_path)
    assert not list(predictions.iterdir())


def test_the_exported_model_is_of_the_best_seed_that_has_not_failed(tmp_path: Path) -> None:
    records = MethodRecords(tmp_path / "records")
    records.write_context(replace(CONTEXT, trials=1, seeds=3, keep_models=True))
    add_run(records, "search", 0, 0.2, 0.5)
    completed, failed = TrialStatus.COMPLETED, TrialStatus.FAILED
    for seed, value, status in ((0, 0.6, completed), (1, 0.7, completed), (2, 0.9, failed)):
        run = add_run(records, "confirm", seed, 0.2, value, status=status)
        if status == completed:
            run.storage.write_bytes("model.safetensors", f"seed {seed}".encode())
    export_method(records, tmp_path)
    assert (tmp_path / "d" / "erm" / "model.safetensors").read_bytes() == b"seed 1"


def exported_summary(records: MethodRecords, folder: Path) -> Summary:
    """Return the summary of a study that has just been exported."""
    export_method(records, folder)
    summary = read_summary(folder / "d" / "erm")
    assert summary is not None
    return summary


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, ["left_accuracy", "sum_mae"]), (0.0, ["left_accuracy: 0, so delta-m is undefined"])],
)
def test_a_baseline_without_all_metrics_is_refused_in_one_line(
    value: float | None,
    words: list[str],
    records: MethodRecords,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    summary = exported_summary(records, tmp_path / "made")
    values = {"left_accuracy": value, "right_accuracy": 0.5, "sum_mae": value}
    metrics = {
        f"test_{name}": compute_statistics([value])
        for name, value in values.items()
        if value is not None
    }
    changed = replace(summary, method="stl", dataset="two_digits", metrics=metrics)
    folder = tmp_path / "results" / "two_digits" / "stl"
    write_summary(folder, changed)
    given = ["export", "--results", str(tmp_path / "results"), "--baseline"]
    assert main([*given, "--dataset", "two_digits"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in words)
    assert "right_accuracy" not in line
    assert not (folder / "baseline.json").exists()


def test_csv_tables_hold_values_and_nothing_where_there_is_none(
    records: MethodRecords, tmp_path: Path
) -> None:
    summary = exported_summary(records, tmp_path)
    names = ("delta_m", "left_accuracy")
    tasks = replace(
        summary, dataset="t", as_percent=False, reported_metrics=["delta_m"],
        higher_is_better={"delta_m": False, "left_accuracy": True},
        metrics={f"test_{name}": compute_statistics([0.123456789]) for name in names},
        hyperparameters={"lr": 0.0123456789, "batch_size": 8},
    )  # fmt: skip
    write_summary(tmp_path / "t" / "a", replace(tasks, method="a"))
    write_summary(tmp_path / "t" / "b", replace(tasks, method="b", metrics={}))
    write_tables(tmp_path)
    table = pd.read_csv(tmp_path / "t" / "table.csv")
    assert table["mean_rank"].tolist() == pytest.approx([1.0, float("nan")], nan_ok=True)
    best = pd.read_csv(tmp_path / "best_configs.csv").set_index("method")
    assert best.loc["a", "hyperparameters"] == "lr=0.0123456789, batch_size=8"
    assert best.loc["a", "test_delta_m_mean"] == 0.123456789
    printed = (tmp_path / "best_configs.md").read_text()
    assert "lr=0.01235, batch_size=8" in printed
    for path in tmp_path.rglob("*.csv"):
        cells = pd.read_csv(path, dtype=str, keep_default_na=False).to_numpy().ravel()
        assert "-" not in cells, path


def test_tables_name_the_confidence_of_their_intervals(
    records: MethodRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "CONFIDENCE", 0.9)
    export_method(records, tmp_path)
    write_tables(tmp_path)
    text = (tmp_path / "d" / "table.md").read_text()
    assert "| 90% interval " in text
    assert "is the 90% confidence interval" in text
    assert "95%" not in text


def test_a_folder_without_results_is_no_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--results", str(tmp_path)]) == 2
    assert f"no results in '{tmp_path}'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
