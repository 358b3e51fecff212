"""Whole studies through the real command line, on real images."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from common.cpus import count_cpus
from tests.support.command import (
    PATIENCE,
    ROOT,
    clean_environment,
    copy_project,
    ran_to_end,
    run_core,
    run_tune,
    run_tune_in,
)
from tests.support.find_winner import find_winner
from tests.support.undisturbed import ERM, JTT, RUNS, TIMES, once
from tests.support.undisturbed import undisturbed as undisturbed
from tuning.cli.main import main
from tuning.option_values import read_space
from tuning.records.method_records import MethodRecords
from tuning.reporting.export_method import export_method
from tuning.reporting.tables import write_tables

pytestmark = pytest.mark.study

QUICK = ["--dataset", "colored_digits", "--trials", "3", "--seeds", "2", "--epochs", "4"]


def read(results: Path, method: str, name: str) -> pd.DataFrame:
    return pd.read_csv(results / "colored_digits" / method / name)


def best_config(results: Path, method: str) -> dict[str, Any]:
    path = results / "colored_digits" / method / "best_config.yaml"
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a study with all that can be kept; nobody changes them."""

    def make(folder: Path) -> None:
        given = ["--method", "dro", "rwg", *QUICK, "--keep-models", "--results", folder / "results"]
        done = run_tune(given)
        assert done.ran_to_end, done.err
        assert done.err == ""
        assert not re.search(r"warn|ray|deprecat|traceback", done.out, re.IGNORECASE), done.out
        assert "test worst" in done.out

    return once(tmp_path_factory, "study", make) / "results"


def test_exports_are_complete(study: Path) -> None:
    for name in ("table", "../best_configs"):
        for suffix in ("csv", "md", "tex"):
            assert (study / "colored_digits" / f"{name}.{suffix}").stat().st_size > 0
    for method in ("dro", "rwg"):
        folder = study / "colored_digits" / method
        trials, seeds = read(study, method, "trials.csv"), read(study, method, "seeds.csv")
        assert list(trials.trial) == [0, 1, 2]
        assert set(trials.status) <= {"completed", "pruned"}
        assert list(seeds.seed) == [0, 1]
        assert set(seeds.status) == {"completed"}
        assert {"test_worst_group_accuracy", "test_group_accuracy[digit >= 5, channel 1]",
                "test_group_count[digit < 5, channel 0]", "test_worst_group",
                "validation_average_accuracy"} <= set(seeds)  # fmt: skip
        assert not any(str(column).startswith("test") for column in trials)
        assert (folder / "model.safetensors").exists()
        assert len(list((folder / "predictions").glob("seed_*.parquet"))) == 2
        summary = json.loads((folder / "summary.json").read_text())
        assert summary["complete"]
        assert summary["metrics"]["test_worst_group_accuracy"]["mean"] == pytest.approx(
            seeds.test_worst_group_accuracy.mean()
        )
        assert summary["provenance"]["packages"]["ray"]
    table = pd.read_csv(study / "colored_digits" / "table.csv")
    assert list(table.method) == ["dro", "rwg"]
    assert list(table.needs) == ["train_groups", "train_groups"]


def test_exports_can_be_regenerated_from_the_records(study: Path, tmp_path: Path) -> None:
    for method in ("dro", "rwg"):
        records = study.parent / "results.records" / "colored_digits" / method
        export_method(MethodRecords(records), tmp_path)
    write_tables(tmp_path)
    own = (".lock", "study.yaml", "optuna.journal")  # of the command, not exports
    files = [path for path in study.rglob("*") if path.is_file() and path.name not in own]
    paths = [path for path in files if not path.name.startswith("events.out.tfevents.")]
    for method in ("dro", "rwg"):  # an event file of every run
        logged = {p.name.rpartition(".")[2] for p in (study / "colored_digits" / method).rglob("*")}
        runs = study.parent / "results.records" / "colored_digits" / method / "runs"
        assert {run.name for run in runs.iterdir()} <= logged
    assert len(paths) > 15
    for path in paths:
        assert (tmp_path / path.relative_to(study)).read_bytes() == path.read_bytes(), path


def test_the_study_file_has_no_finalists_that_only_follow_from_the_rule(study: Path) -> None:
    content = yaml.safe_load((study / "study.yaml").read_text(encoding="utf-8"))
    assert content["search"] == "auto"
    assert "finalists" not in content


def test_winner_is_the_best_trial_or_the_defaults(study: Path) -> None:
    for method in ("dro", "rwg"):
        trials = read(study, method, "trials.csv")
        chosen = best_config(study, method)
        assert chosen["selection"]["trial"] == find_winner(read(study, method, "curves.csv"))
        winner = trials[trials.trial == chosen["selection"]["trial"]].iloc[0]
        assert chosen["selection"]["value"] == winner.validation_worst_group_accuracy
        assert chosen["selection"]["rule"] == "validation_worst_group_accuracy_or_default"
        space = chosen["selection"]["search_space"]
        file = study.parent / f"{method}_space.yaml"
        file.write_text(yaml.safe_dump(space))
        _, domains = read_space(file)
        assert domains.keys() == space.keys() <= chosen["hyperparameters"].keys()
        for name, domain in domains.items():
            assert domain.find_broken_rule(chosen["hyperparameters"][name]) is None
        for name in ("lr", "weight_decay", "batch_size"):
            assert chosen["hyperparameters"][name] == winner[name]


def test_without_ray_the_numbers_are_the_same(study: Path) -> None:
    for method in ("dro", "rwg"):
        command = best_config(study, method)["command_of_one_seed"].split()
        assert command[:3] == ["python", "-m", "core"]
        done = run_core([*command[3:], "--json"])
        assert done.ran_to_end, done.err
        key, *rows, test, chosen = [json.loads(line) for line in done.out.splitlines()]
        end = json.loads(
            next(
                (study.parent / "results.records").glob(f"*/*/runs/{key['key']}/end.json")
            ).read_text()
        )
        for mine, recorded in zip(rows, end["rows"], strict=True):
            mine.pop("seconds")
            recorded.pop("seconds")
            assert mine == recorded
        seed = read(study, method, "seeds.csv").iloc[0]
        assert chosen["chosen"]["epoch"] == seed.best_epoch == end["confirmation"]["epoch"]
        assert test["test"] == end["confirmation"]["test"]
        assert chosen["chosen"]["test"] == seed.test_worst_group_accuracy


def test_the_written_command_repeats_the_seeds_and_searches_nothing(
    study: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    command = best_config(study, "rwg")["command"].split()
    command[command.index("--results") + 1] = str(again)
    assert command[command.index("--search") + 1] == "published"
    done = run_tune(command[2:])
    assert done.ran_to_end, done.err
    one, other = read(study, "rwg", "seeds.csv"), read(again, "rwg", "seeds.csv")
    pd.testing.assert_frame_equal(one.drop(columns=TIMES), other.drop(columns=TIMES))
    assert (
        best_config(again, "rwg")["hyperparameters"] == best_config(study, "rwg")["hyperparameters"]
    )
    assert json.loads((again / "colored_digits/rwg/summary.json").read_text())["trials"] == 0


def refuse_ray(address: str | None) -> None:
    raise AssertionError("Ray was about to start")


def test_resume_of_a_finished_study_starts_and_runs_nothing(
    study: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = Path(shutil.copytree(study.parent, tmp_path / "again"), "results")
    records = study.parent / "results.records"
    before = {path: path.stat().st_mtime_ns for path in records.rglob("end.json")}
    table = study / "colored_digits" / "table.csv"
    text = table.read_text()
    table.unlink()
    monkeypatch.setattr("tuning.study.study.join_cluster", refuse_ray)
    arguments = ["--method", "dro", "rwg", *QUICK, "--keep-models", "--results", str(study)]
    assert main([*arguments, "--resume"]) == 0
    assert "test worst" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in records.rglob("end.json")}
    assert table.read_text() == text


def test_resume_of_another_study_is_refused_and_says_what_differs(
    study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.study.study.join_cluster", refuse_ray)
    arguments = ["--method", "dro", "--dataset", "colored_digits", "--trials", "3", "--seeds", "2"]
    given = [*arguments, "--epochs", "5", "--keep-models", "--results", str(study), "--resume"]
    assert main(given) == 2  # before Ray starts
    assert "epochs: the study has 4, this command asks for 5" in capsys.readouterr().err


def test_more_trials_and_seeds_extend_a_finished_search(study: Path, tmp_path: Path) -> None:
    """With TPE and ASHA; what searcher and scheduler then know is tested in test_search."""
    shutil.copytree(study.parent, tmp_path / "longer")
    results = tmp_path / "longer" / "results"
    records = tmp_path / "longer" / "results.records" / "colored_digits"
    ends = {p: p.read_text() for p in records.rglob("dro/runs/*/end.json")}
    done = run_tune(
        ["--method", "dro", *QUICK[:2], "--epochs", "4", "--keep-models", "--results", results,
         "--trials", "6", "--seeds", "3", "--resume"]
    )  # fmt: skip
    assert done.ran_to_end, done.err
    assert list(read(results, "dro", "trials.csv").trial) == list(range(6))
    assert list(read(results, "dro", "seeds.csv").seed) == [0, 1, 2]
    assert len(ends) >= 5
    assert all(path.read_text() == text for path, text in ends.items())
    configs = read(results, "dro", "trials.csv")[["lr", "weight_decay", "batch_size"]]
    assert not configs.duplicated().any()


@pytest.mark.deviation("test-split")
def test_oracle_is_labeled_and_its_metrics_lie_apart(tmp_path: Path) -> None:
    results = tmp_path / "results"
    done = run_tune(
        ["--method", "erm", *QUICK, "--audit-test", "--select", "oracle_test_worst_group_accuracy",
         "--search-seeds", "2", "--results", results]
    )  # fmt: skip
    assert done.ran_to_end, done.err
    assert "Selected on the TEST split" in (results / "colored_digits/table.md").read_text()
    trials = read(results, "erm", "trials.csv")
    winner = trials.iloc[int(trials.oracle_test_worst_group_accuracy.argmax())]
    audits = [
        json.loads(
            (tmp_path / "results.records/colored_digits/erm/runs" / key / "audit.json").read_text()
        )
        for key in winner["keys"].split()
    ]
    assert len(audits) == 2
    means = [
        sum(m["worst_group_accuracy"] for m in metrics) / 2 for metrics in zip(*audits, strict=True)
    ]
    assert max(means) == pytest.approx(winner.oracle_test_worst_group_accuracy)


def test_failed_trials_are_recorded_and_a_study_of_failures_exits_1(tmp_path: Path) -> None:
    results = tmp_path / "results"
    done = run_tune(["--method", "erm", "rwg", *QUICK, "--set", "lr=1000", "--results", results])
    assert done.code == 1
    assert "Traceback" not in done.err
    assert "erm: all search trials or all confirmation seeds failed" in done.err
    trials = read(results, "erm", "trials.csv")
    assert set(trials.status) == {"failed"}
    assert trials.reason.str.contains("loss not finite in epoch 1").all()


def test_two_studies_at_once_write_the_tables_of_one_of_both(
    undisturbed: Path, tmp_path: Path
) -> None:
    results = tmp_path / "together"
    together = [
        subprocess.Popen(
            [sys.executable, "tune.py", *arguments, "--results", str(results)],
            cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=clean_environment(),
        )
        for arguments in (ERM, JTT)
    ]  # fmt: skip
    for process in together:
        _, err = process.communicate(timeout=PATIENCE)
        assert ran_to_end(process.returncode, err.decode()), err
    one, other = (
        pd.read_csv(folder / "colored_digits/table.csv").drop(columns=["device_hours"])
        for folder in (results, undisturbed)
    )
    pd.testing.assert_frame_equal(one, other)
    best = [(folder / "best_configs.md").read_text() for folder in (results, undisturbed)]
    assert best[0] == best[1]


def test_a_grown_process_is_replaced_without_a_trace_in_the_numbers(
    undisturbed: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    done = subprocess.run(
        [sys.executable, "tune.py", *ERM, "--trials", "1", "--seeds", "1", "--results", results],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE,
        env=clean_environment() | {"EVENHAND_GROWTH_LIMIT_GIB": "-100"},
    )  # fmt: skip
    assert ran_to_end(done.returncode, done.stderr), done.stderr

    def processes(folder: Path) -> set[int]:
        ends = folder.with_name(f"{folder.name}.records").rglob("end.json")
        return {json.loads(path.read_text())["process"] for path in ends}

    one, other = (
        read(folder, "erm", "trials.csv").drop(columns=TIMES) for folder in (results, undisturbed)
    )
    pd.testing.assert_frame_equal(one, other.head(1))
    # One for each slot, of which there may be more than runs; seeds may find another one.
    assert len(processes(undisturbed)) <= min(2 * count_cpus(), RUNS - 1)
    assert len(processes(results)) == 2  # a trial, a seed


NEW_METHOD = """
description: GroupDRO and L1 together, which nobody has written a file for.
paper: none
needs: [train_groups]
recipe:
  sampler: class_balanced
  objectives: [group_losses, l1]
  weighting: {fixed: {weights: {l1: reg}}}
  stages: [{identify_errors: {epochs: 1, upweight: 3}}, train]
search:
  reg: {log_uniform: [0.01, 1], default: 0.1}
grid:
  moved: {reg: [0.1]}
"""

BREAKS = """
description: Some of its trials fail.
recipe:
  sampler: uniform
  objectives: [end_task, l1]
  weighting: {fixed: {weights: {l1: reg}}}
  stages: [train]
search:
  reg: {log_uniform: [0.01, 1.0e+38], default: 0.1}
grid:
  moved: {reg: [0.1, 1.0e+38]}
"""

NEW_BENCHMARK = '''
"""Points in the plane."""
import torch
from datasets.benchmark import Split
from datasets.training_config import TrainingConfig
from datasets.groups.base import GroupBenchmark, Groups
from common.hyperparameters import Hyperparameter

class Moved(GroupBenchmark):
    name = "moved"
    version = "1"
    groups = Groups(("no", "yes"), ("left", "right"))
    training_config = TrainingConfig(
        model="digits_cnn", epochs=2, lr=0.05, weight_decay=0.0, batch_size=16
    )
    search_space = {
        "lr": Hyperparameter("log_uniform", (0.01, 0.1), 0.05),
        "batch_size": Hyperparameter("choice", (16, 32, 64), 32),
    }

    def load_splits(self):
        random = torch.Generator().manual_seed(0)
        splits = {}
        for name in ("train", "validation", "test"):
            group = torch.arange(80) % 4
            inputs = torch.randn(80, 2, 8, 8, generator=random) + group[:, None, None, None]
            splits[name] = Split(inputs, {"y": group // 2}, group)
        return splits
'''


def test_a_method_is_one_yaml_a_benchmark_one_file_and_a_grid_tries_all(tmp_path: Path) -> None:
    """Also where a trial fails."""
    project = copy_project(tmp_path / "project")
    (project / "search_spaces" / "sparse_groups.yaml").write_text(NEW_METHOD)
    (project / "search_spaces" / "breaks.yaml").write_text(BREAKS)
    (project / "datasets" / "groups" / "moved.py").write_text(NEW_BENCHMARK)
    done = run_tune_in(
        project,
        ["--method", "sparse_groups", "suby", "breaks", "--dataset", "moved", "--search", "grid",
         "--set", "lr=0.05", "--seeds", "1", "--results", tmp_path / "results"],
    )  # fmt: skip
    assert ran_to_end(done.returncode, done.stderr), done.stderr
    folder = tmp_path / "results" / "moved"
    table = pd.read_csv(folder / "table.csv")
    assert list(table.method) == ["breaks", "sparse_groups", "suby"]
    assert table.test_worst_group_accuracy_mean.notna().all()
    status = {m: list(pd.read_csv(folder / m / "trials.csv").status) for m in table.method}
    assert status["breaks"] == ["completed", "failed"]
    assert status["sparse_groups"] == ["completed"]
    assert sorted(pd.read_csv(folder / "suby" / "trials.csv").batch_size) == [16, 32, 64]
