"""A configuration with a record: replay, exactness after a crash, patience, failures."""

import re
import resource
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file

import datasets
from common.hyperparameters import Hyperparameters
from core.environment import detect_environment
from core.recipe.method_files import load_method
from core.recipe.resolved_method import resolve_method
from core.training.epoch_row import EpochRow
from core.training.run import Run
from datasets.benchmark import Meter
from tests.support.run_records import confirmation_of, end_of, folder_of
from tuning.records.run_data import RunEnd, TrialStatus
from tuning.records.run_record import RunRecord
from tuning.worker.trial_runner import TrialRunner
from tuning.worker.trial_work import STORAGE_FAILED, EpochReport, RunOptions, RunWork, TrialWork


def work(
    folder: Path, seeds: tuple[int, ...] = (0,), method: str = "erm", **changes: Any
) -> TrialWork:
    config = {"epochs": 3, **changes.pop("config", {})}
    benchmark = datasets.load_benchmark("colored_digits")
    resolved = resolve_method(load_method(method), benchmark)
    keys = [resolved.make_key(config, seed, detect_environment()) for seed in seeds]
    options = RunOptions("validation_worst_group_accuracy", False, False, False, "data")
    runs = tuple(RunWork(str(folder / key.digest), key) for key in keys)
    return TrialWork(runs, replace(options, **changes))


def finish(configuration: TrialRunner) -> list[EpochReport]:
    steps = [configuration.train_epoch()]
    while not steps[-1].status:
        steps.append(configuration.train_epoch())
    return steps


def numbers(rows: Sequence[EpochRow]) -> list[dict[str, Any]]:
    measured = ("seconds", "devices")
    return [{k: v for k, v in row.as_dict().items() if k not in measured} for row in rows]


def folders(given: TrialWork) -> list[RunRecord]:
    return [RunRecord(Path(run.folder)) for run in given.runs]


def test_killed_after_any_epoch_goes_on_to_the_same_rows(tmp_path: Path) -> None:
    whole = work(tmp_path / "whole", method="jtt", config={"T": 1, "up": 4})
    finish(TrialRunner(whole))
    (expected,) = folders(whole)
    for done in range(4):
        broken = work(tmp_path / f"broken{done}", method="jtt", config={"T": 1, "up": 4})
        first = TrialRunner(broken)
        for _ in range(done):
            first.train_epoch()
        (folder,) = folders(broken)
        before = folder.read_rows()
        finish(TrialRunner(broken))  # another process would read the same files
        assert numbers(folder.read_rows()) == numbers(expected.read_rows())
        assert folder.read_rows()[:done] == before  # replayed, not trained again: same seconds


def test_killed_between_row_and_state_keeps_the_row(tmp_path: Path) -> None:
    given = work(tmp_path)
    configuration = TrialRunner(given)
    configuration.train_epoch()
    (folder,) = folders(given)
    state = (folder_of(folder) / "last.pt").read_bytes()
    configuration.train_epoch()
    (folder_of(folder) / "last.pt").write_bytes(
        state
    )  # as if the second epoch's state was not written
    second = folder.read_rows()[1]
    finish(TrialRunner(given))
    rows = folder.read_rows()
    assert rows[1] == second  # trained once more to catch up, but recorded once
    assert len(rows) == 3
    whole = work(tmp_path / "whole")
    finish(TrialRunner(whole))
    assert numbers(rows) == numbers(folders(whole)[0].read_rows())


@pytest.mark.parametrize("lost", ["last.pt", "rows.json", "audit.json", "best.pt"])
@pytest.mark.parametrize("damage", [None, b"", b"[]"])
def test_any_lost_or_damaged_file_costs_time_only(
    lost: str, damage: bytes | None, tmp_path: Path
) -> None:
    chosen: dict[str, Any] = {"audit": True, "confirm": True}
    whole = work(tmp_path / "whole", **chosen)
    finish(TrialRunner(whole))
    broken = work(tmp_path / "broken", **chosen)
    first = TrialRunner(broken)
    for _ in range(2):
        first.train_epoch()
    (folder,) = folders(broken)
    path = folder_of(folder) / lost
    if damage is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(damage)
    steps = finish(TrialRunner(broken))
    assert steps[-1].status == "completed", steps[-1].reason
    (expected,) = folders(whole)
    assert numbers(folder.read_rows()) == numbers(expected.read_rows())
    assert folder.read_audit() == expected.read_audit()
    assert confirmation_of(folder).test == confirmation_of(expected).test


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """Let no file grow beyond some bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [100, 4000])  # not even a row; a row and no state
def test_a_full_disk_fails_no_configuration(room: int, tmp_path: Path) -> None:
    given = work(tmp_path)
    configuration = TrialRunner(given)
    configuration.train_epoch()
    with full_disk(room):
        step = configuration.train_epoch()
    assert step.status == STORAGE_FAILED
    assert re.search("cannot read or write in .*resume", step.reason)
    (folder,) = folders(given)
    assert folder.read_end() is None
    assert not [path for path in folder_of(folder).iterdir() if path.name.startswith(".new")]
    finish(TrialRunner(given))
    whole = work(tmp_path / "whole")
    finish(TrialRunner(whole))
    assert numbers(folder.read_rows()) == numbers(folders(whole)[0].read_rows())


def test_seeds_of_a_configuration_stay_in_step_when_one_has_ended(tmp_path: Path) -> None:
    given = work(tmp_path, seeds=(1000, 1001))
    configuration = TrialRunner(given)
    configuration.train_epoch()
    one = folders(given)[0]
    one.write_end(RunEnd(TrialStatus.PRUNED, "", one.read_rows()))
    runner = TrialRunner(given)
    reports = finish(runner)
    assert [report.epoch for report in reports] == [1, 2, 3]
    for run in runner.runs:
        assert [row.epoch for row in run.rows] == [1, 2, 3]


def test_confirmation_reads_the_chosen_epoch_even_if_its_state_is_lost(tmp_path: Path) -> None:
    found = []
    for name in ("kept", "lost"):
        given = work(tmp_path / name, confirm=True)
        configuration = TrialRunner(given)
        for _ in range(2):
            configuration.train_epoch()
        (folder,) = folders(given)
        if name == "lost":
            (folder_of(folder) / "best.pt").unlink(missing_ok=True)
        finish(configuration)
        found.append(confirmation_of(folder))
    assert found[0] == found[1]


def test_test_metrics_are_those_of_the_chosen_epoch(tmp_path: Path) -> None:
    given = work(tmp_path, confirm=True)
    finish(TrialRunner(given))
    (folder,) = folders(given)
    chosen = confirmation_of(folder).epoch
    values = [row.validation["worst_group_accuracy"] for row in folder.read_rows()]
    assert values[chosen - 1] == max(values)
    key = resolve_method(load_method("erm"), datasets.load_benchmark("colored_digits")).make_key(
        {"epochs": 3}, 0, detect_environment()
    )
    run = Run(key, datasets.load_benchmark("colored_digits"))
    for _ in range(chosen):
        run.train_epoch()
    assert run.evaluate_split("test").compute_metrics() == confirmation_of(folder).test


def test_search_trials_never_read_the_test_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    original = Run.evaluate_split

    def watched(self: Run, split: str, batch_averaged: bool = False) -> Meter:
        looked.append(split)
        return original(self, split, batch_averaged)

    monkeypatch.setattr(Run, "evaluate_split", watched)
    finish(TrialRunner(work(tmp_path / "search")))
    assert set(looked) == {"validation"}
    looked.clear()
    finish(TrialRunner(work(tmp_path / "confirm", confirm=True)))
    assert looked.count("test") == 1


def test_audit_lies_in_a_file_of_its_own(tmp_path: Path) -> None:
    given = work(tmp_path, audit=True, rule="oracle_test_worst_group_accuracy")
    steps = finish(TrialRunner(given))
    (folder,) = folders(given)
    assert len(folder.read_audit()) == 3
    assert "test" not in folder.read_rows()[0].as_dict()
    scores = [step.score.value for step in steps if step.score]
    assert scores == [metrics["worst_group_accuracy"] for metrics in folder.read_audit()]


def test_several_seeds_are_averaged_and_each_is_its_own_run(tmp_path: Path) -> None:
    both = work(tmp_path / "both", seeds=(1000, 1001))
    runner = TrialRunner(both)
    steps = finish(runner)
    alone = work(tmp_path / "alone", seeds=(1001,))
    finish(TrialRunner(alone))
    assert numbers(folders(both)[1].read_rows()) == numbers(folders(alone)[0].read_rows())
    for index, step in enumerate(steps):
        rows = [run.rows[index] for run in runner.runs]
        assert step.seconds == sum(row.seconds for row in rows)
        values = [row.validation["worst_group_accuracy"] for row in rows]
        assert step.score is not None
        assert step.score.value == pytest.approx(sum(values) / 2)


@pytest.mark.deviation("patience")
@pytest.mark.parametrize(("method", "first"), [("erm", {}), ("jtt", {"T": 2, "up": 4})])
def test_patience_counts_eligible_epochs_without_a_better_value(
    method: str, first: dict[str, int], tmp_path: Path
) -> None:
    config = {"epochs": 30, "patience": 2, "lr": 1e-6, **first}
    given = work(tmp_path, method=method, config=config)
    steps = finish(TrialRunner(given))
    values = [step.score.value for step in steps if step.score]
    assert steps[-1].status == "stopped_early"
    # Two epochs after the first of the best ones: another with the same value is no improvement.
    # Epochs of jtt's first stage do not count.
    assert len(steps) == first.get("T", 0) + values.index(max(values)) + 1 + 2 < 30
    assert folders(given)[0].read_end() is not None


def test_patience_waits_until_a_constant_prediction_is_exceeded(tmp_path: Path) -> None:
    config = {"epochs": 6, "patience": 2, "lr": 1e-6}
    never, always = (work(tmp_path, config=config, constant_metric=level) for level in (1.0, -1.0))
    assert [step.status for step in finish(TrialRunner(never))] == [""] * 5 + ["completed"]
    shutil.rmtree(tmp_path)
    assert finish(TrialRunner(always))[-1].status == "stopped_early"


def test_infinite_loss_ends_the_configuration_with_its_reason(tmp_path: Path) -> None:
    given = work(tmp_path, config={"lr": 1000.0})
    step = finish(TrialRunner(given))[-1]
    assert step.status == "failed"
    assert "loss not finite in epoch" in step.reason
    (folder,) = folders(given)
    assert end_of(folder).reason == step.reason


def test_work_and_report_pass_as_json(tmp_path: Path) -> None:
    given = replace(work(tmp_path, seeds=(0, 1), audit=True), gpu_share=0.25)
    assert TrialWork.from_json(given.to_json()) == given
    for report in (
        TrialRunner(given).train_epoch(),
        EpochReport(status=STORAGE_FAILED, reason="no space left"),
    ):
        assert EpochReport.from_json(report.to_json()) == report


def test_predictions_and_weights_are_kept(tmp_path: Path) -> None:
    given = work(tmp_path, confirm=True, keep_model=True)
    finish(TrialRunner(given))
    (folder,) = folders(given)
    table = pd.read_parquet(folder_of(folder) / "predictions.parquet")
    result = confirmation_of(folder)
    metrics = {"validation": result.validation, "test": result.test}
    for split in ("validation", "test"):
        part = table[table["split"] == split]
        by_group = (part.prediction == part.y).groupby(part.group).mean()
        assert by_group.min() == metrics[split]["worst_group_accuracy"]
        benchmark = datasets.load_benchmark(given.runs[0].key.dataset)
        assert part.id.tolist() == list(map(str, benchmark.list_ids(split) or ()))
        names = benchmark.list_group_names(split)
        assert part.group_name.tolist() == [names[group] for group in part.group]
    weights = load_file(folder_of(folder) / "model.safetensors")
    assert set(weights) >= {"head.weight", "head.bias"}


def test_the_training_split_is_reported_on_request(tmp_path: Path) -> None:
    plain, asked = work(tmp_path / "plain", confirm=True), work(
        tmp_path / "asked", confirm=True, report_training=True
    )  # fmt: skip
    for given in (plain, asked):
        finish(TrialRunner(given))
    (without,), (with_training,) = folders(plain), folders(asked)
    assert all(row.training is None for row in without.read_rows())
    rows = [replace(row, training=None) for row in with_training.read_rows()]
    assert numbers(rows) == numbers(without.read_rows())  # measuring changes nothing
    table = pd.read_parquet(folder_of(with_training) / "predictions.parquet")
    assert table["split"].value_counts().to_dict() == {
        "train": 1079,
        "validation": 359,
        "test": 359,
    }
    best = with_training.read_rows()[confirmation_of(with_training).epoch - 1]
    part = table[table["split"] == "train"]
    by_group = (part.prediction == part.y).groupby(part.group).mean()
    assert best.training is not None
    assert by_group.tolist() == best.training["group_accuracy"]


def test_audits_of_a_stage_s_last_epoch_are_of_its_own_model(tmp_path: Path) -> None:
    erm = work(tmp_path / "erm", audit=True)
    jtt = work(tmp_path / "jtt", audit=True, method="jtt", config={"T": 1, "up": 4})
    for given in (erm, jtt):
        finish(TrialRunner(given))
    (first,), (second,) = folders(erm), folders(jtt)
    assert first.read_rows()[0].validation == second.read_rows()[0].validation
    assert first.read_audit()[0] == second.read_audit()[0]  # before the model starts anew


def test_predictions_have_the_table_s_own_ids(tmp_path: Path) -> None:
    data = tmp_path / "data" / "folder"
    data.mkdir(parents=True)
    random = np.random.default_rng(0)
    rows = []
    for number in range(36):
        name = f"{number}.png"
        Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(data / name)
        label, attribute, split = number % 2, number // 2 % 2, number // 12
        rows.append((f"photo-{number}", name, split, label, attribute))
    table = pd.DataFrame(rows, columns=["id", "filename", "split", "y", "a"]).sample(
        frac=1, random_state=0
    )
    table.to_csv(data / "metadata.csv", index=False)
    benchmark = datasets.load_benchmark("folder", str(data.parent))
    config: Hyperparameters = {"model": "tiny_vit", "epochs": 1, "batch_size": 8}
    key = resolve_method(load_method("erm"), benchmark).make_key(config, 0, detect_environment())
    options = RunOptions(
        "validation_worst_group_accuracy", True, False, False, str(data.parent),
        report_training=True,
    )  # fmt: skip
    given = TrialWork((RunWork(str(tmp_path / "run"), key),), options)
    assert finish(TrialRunner(given))[-1].status == "completed"
    found = pd.read_parquet(tmp_path / "run" / "predictions.parquet").set_index("id")
    assert sorted(found.index) == sorted(table.id)
    expected = table.set_index("id").loc[found.index]
    assert found.y.tolist() == expected.y.tolist()
    assert found.group.tolist() == (2 * expected.y + expected.a).tolist()
    assert found.filename.tolist() == expected.filename.tolist()
