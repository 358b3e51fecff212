"""Ended runs in the forms of other tools: TensorBoard, Optuna, MLflow, Weights & Biases."""

import logging
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import optuna
import pytest
from tensorboardX.proto.event_pb2 import Event

from common.errors import UserError
from tests.tuning.reporting.test_export import CONTEXT, add_run
from tuning.cli.main import main
from tuning.loggers.base import LoggedRun, RunLogger, read_logged_run
from tuning.loggers.optuna_journal import OptunaLogger
from tuning.loggers.study_logs import StudyLogs, check_loggers, make_study_logs
from tuning.loggers.tensorboard import TensorBoardLogger, make_tags
from tuning.options import Options
from tuning.records.method_records import MethodRecords
from tuning.records.run_data import Phase, TrialStatus

ODD_GROUPS = ["<script>alert(1)</script>", "a/b, 50% \u202eright to left & =cmd()"]
SPACE = {"lr": {"log_uniform": [0.01, 1.0], "default": 0.1}}


@pytest.fixture
def records(tmp_path: Path) -> MethodRecords:
    """Two trials, a failed one, and a confirmation seed with groups of odd names."""
    found = MethodRecords(tmp_path / "r.records" / "d" / "erm")
    found.write_context(replace(CONTEXT, search_space=SPACE, group_names=ODD_GROUPS))
    add_run(found, "search", 0, 0.1, 0.5, 0.4)
    add_run(found, "search", 1, 0.2, 0.3, 0.6)
    add_run(found, "search", 2, 0.3, 0.1, status=TrialStatus.FAILED)
    add_run(found, "confirm", 0, 0.2, 0.5, 0.7)
    add_run(found, "search", 3, 0.4, 0.2, status=TrialStatus.UNFINISHED)
    return found


def log_all(records: MethodRecords, logger: RunLogger) -> None:
    """Log all runs twice, as a resumed study may."""
    context = records.read_context()
    assert context is not None
    for _ in range(2):
        for record in records.list_runs():
            run = read_logged_run(context, record)
            assert (run is None) == (record.read_end() is None)
            if run is not None:
                logger.log_run(run)


def read_events(path: Path) -> list[Event]:
    """Return the events of a file: length, checksum, event, checksum of each."""
    data, events = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event()
        event.ParseFromString(data[12 : 12 + length])
        events.append(event)
        data = data[16 + length :]
    return events


def test_event_files_have_curves_results_and_hyperparameters(
    records: MethodRecords, tmp_path: Path
) -> None:
    log_all(records, TensorBoardLogger(tmp_path))
    folder = tmp_path / "d" / "erm" / "tensorboard"
    files = {str(p.parent.relative_to(folder)): p for p in folder.rglob("*") if p.is_file()}
    assert sorted(files) == [
        "confirmation/seed_0", "trial_0/seed_1000", "trial_1/seed_1000", "trial_2/seed_1000"
    ]  # fmt: skip
    events = read_events(files["trial_1/seed_1000"])
    values = [(v.tag, event.step, v.simple_value) for event in events for v in event.summary.value]
    curve = [entry[1:] for entry in values if entry[0] == "validation/worst_group_accuracy"]
    assert curve == [(1, pytest.approx(0.3)), (2, pytest.approx(0.6))]
    assert ("best/epoch", 2, 2.0) in values
    plugins = {v.tag: v.metadata for event in events for v in event.summary.value if v.metadata}
    assert b"lr" in plugins["_hparams_/session_start_info"].plugin_data.content
    assert b"best/validation_worst_group_accuracy" in (
        plugins["_hparams_/experiment"].plugin_data.content
    )
    tags = {v.tag for e in read_events(files["confirmation/seed_0"]) for v in e.summary.value}
    groups = {tag for tag in tags if tag.startswith("selected/test_group_accuracy")}
    assert len(groups) == 1  # the other group is undefined in seed 0
    assert all(set(tag) <= SAFE for tag in tags)


SAFE = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_/.-")


def test_tags_of_odd_names_are_safe_and_differ() -> None:
    names = [f"test_group_accuracy[{name}]" for name in (*ODD_GROUPS, "<b>", ">b<", "x%", "x/")]
    tags = make_tags(names)
    assert len(set(tags.values())) == len(names)
    assert all(set(tag) <= SAFE and tag.count("/") == 1 for tag in tags.values())


def test_a_later_winner_replaces_the_seed_of_an_earlier_one(
    records: MethodRecords, tmp_path: Path
) -> None:
    log_all(records, TensorBoardLogger(tmp_path))
    new = add_run(records, "confirm", 0, 0.1, 0.2)
    context = records.read_context()
    assert context is not None
    run = read_logged_run(context, new)
    assert run is not None
    TensorBoardLogger(tmp_path).log_run(run)
    (file,) = (tmp_path / "d" / "erm" / "tensorboard" / "confirmation" / "seed_0").iterdir()
    assert file.name.endswith(new.name)


def read_run(records: MethodRecords, number: int, phase: str = "search") -> LoggedRun:
    """Return a logged run of another role."""
    context = records.read_context()
    assert context is not None
    found = (read_logged_run(context, record) for record in records.list_runs())
    run = next(r for r in found if r and r.is_search and r.description.number == number)
    return replace(run, description=replace(run.description, phase=Phase(phase)))


def test_further_seeds_of_a_finalist_stand_beside_its_trial(
    records: MethodRecords, tmp_path: Path
) -> None:
    log_all(records, TensorBoardLogger(tmp_path))
    run = read_run(records, 0, "finalist")
    key = replace(run.description.key, seed=1001)
    description = replace(run.description, key=key)
    TensorBoardLogger(tmp_path).log_run(replace(run, description=description, digest=key.digest))
    folder = tmp_path / "d" / "erm" / "tensorboard"
    assert {p.name for p in (folder / "trial_0").iterdir()} == {"seed_1000", "seed_1001"}
    assert len(list((folder / "confirmation" / "seed_0").iterdir())) == 1


def test_a_pruned_trial_that_was_promoted_since_is_written_again(
    records: MethodRecords, tmp_path: Path
) -> None:
    run = read_run(records, 1)
    pauses = replace(run.context, scheduler="asha_promotion")
    run = replace(run, context=pauses)
    pruned = replace(run, status=TrialStatus.PRUNED, epochs=run.epochs[:1])
    assert (pruned.may_continue, run.may_continue) == (True, False)
    for make in (TensorBoardLogger, OptunaLogger):
        for one in (pruned, pruned, run, run):
            make(tmp_path).log_run(one)
    (file,) = (tmp_path / "d" / "erm" / "tensorboard" / "trial_1" / "seed_1000").iterdir()
    steps = [event.step for event in read_events(file)]
    assert max(steps) == 2
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.journal"))
    study = optuna.load_study(study_name="d/erm", storage=optuna.storages.JournalStorage(backend))
    assert [t.state.name for t in study.trials] == ["PRUNED", "COMPLETE"]


def test_the_search_is_a_study_of_optuna(records: MethodRecords, tmp_path: Path) -> None:
    log_all(records, OptunaLogger(tmp_path))
    log_all(records, OptunaLogger(tmp_path))  # of another process
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.journal"))
    storage = optuna.storages.JournalStorage(backend)
    study = optuna.load_study(study_name="d/erm", storage=storage)
    trials = sorted(study.trials, key=lambda trial: int(trial.user_attrs["number"]))
    assert [t.state.name for t in trials] == ["COMPLETE", "COMPLETE", "FAIL"]
    assert study.best_trial.params == {"lr": 0.2}
    assert study.best_value == pytest.approx(0.6)
    assert trials[1].intermediate_values == {1: pytest.approx(0.3), 2: pytest.approx(0.6)}


def test_a_value_that_is_not_finite_is_a_failed_trial(
    records: MethodRecords, tmp_path: Path
) -> None:
    context = records.read_context()
    assert context is not None
    runs = (read_logged_run(context, record) for record in records.list_runs())
    run = next(run for run in runs if run is not None and run.status == TrialStatus.COMPLETED)
    logger = OptunaLogger(tmp_path)
    for value in (math.nan, math.inf, 0.5):
        results = dict.fromkeys(run.results, value)
        epochs = tuple(replace(e, metrics=dict.fromkeys(e.metrics, value)) for e in run.epochs)
        logger.log_run(replace(run, digest=str(value), results=results, epochs=epochs))
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.journal"))
    study = optuna.load_study(study_name="d/erm", storage=optuna.storages.JournalStorage(backend))
    assert [trial.state.name for trial in study.trials] == ["FAIL", "FAIL", "COMPLETE"]


class Broken(RunLogger):
    """Fails at every run."""

    calls = 0

    def log_run(self, run: LoggedRun) -> None:
        """Fail."""
        Broken.calls += 1
        raise OSError("no route to host\nand more")


def test_a_logger_that_fails_is_one_warning(records: MethodRecords, tmp_path: Path) -> None:
    warnings: list[str] = []
    makers: dict[str, Callable[[], RunLogger]] = {
        "broken": Broken, "TensorBoard": lambda: TensorBoardLogger(tmp_path)
    }  # fmt: skip
    with StudyLogs(makers, warnings.append) as logs:
        for _ in range(2):
            logs.add_runs(records, [r for r in records.list_runs() if r.read_end() is not None])
    assert Broken.calls == 1
    (warning,) = warnings
    assert warning.startswith("warning: no more logs for broken: OSError: no route to host;")
    assert len(list((tmp_path / "d" / "erm" / "tensorboard").rglob("events*"))) == 4


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_client_that_is_not_installed_is_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if find_spec(name) is not None:
        check_loggers([name])
        return
    arguments = ["--method", "erm", "--dataset", "colored_digits", "--log", name, "--plan"]
    assert main([*arguments, "--results", str(tmp_path / "r")]) == 2
    assert f"-r requirements-{name}.txt" in capsys.readouterr().err
    with pytest.raises(UserError, match=name):
        check_loggers([name])


def log_by_option(name: str, records: MethodRecords, results: Path) -> list[str]:
    """Log all runs twice as ``--log NAME`` does; return the warnings."""
    warnings: list[str] = []
    for _ in range(2):
        with make_study_logs(
            Options(("erm",), "d", results=results, log=(name,)), warnings.append
        ) as logs:
            logs.add_runs(records, records.list_runs())
    return warnings


@pytest.mark.skipif(find_spec("mlflow") is None, reason="in requirements-mlflow.txt")
@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_a_parent_and_a_child_for_each_run(
    records: MethodRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert log_by_option("mlflow", records, tmp_path) == []
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("evenhand/d")
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    children = {run.data.tags["mlflow.runName"]: run for run in runs if run not in parents}
    assert len(children) == len(runs) - 1 == 4
    child = children["erm, trial 1, seed 1000"]
    assert child.data.params["lr"] == "0.2"
    assert child.data.metrics["best/validation_worst_group_accuracy"] == pytest.approx(0.6)
    curve = client.get_metric_history(child.info.run_id, "validation/worst_group_accuracy")
    assert [(m.step, m.value) for m in curve] == [(1, 0.3), (2, 0.6)]
    assert children["erm, trial 2, seed 1000"].info.status == "FAILED"


@pytest.mark.skipif(find_spec("wandb") is None, reason="in requirements-wandb.txt")
@pytest.mark.filterwarnings("ignore")
def test_weights_and_biases_offline(
    records: MethodRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    logging.getLogger("wandb").setLevel(logging.CRITICAL)
    assert log_by_option("wandb", records, tmp_path) == []
    folders = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(folders) == 4
    assert all(list(folder.glob("*.wandb")) for folder in folders)
