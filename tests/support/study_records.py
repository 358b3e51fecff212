"""Records of whole studies that nobody ran."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from common.hyperparameters import Hyperparameters
from core.environment import detect_environment
from core.training.epoch_row import EpochRow
from tests.support.run_records import describe_run
from tuning.records.export_context import CommandOptions, ExportContext
from tuning.records.method_records import MethodRecords
from tuning.records.run_data import Confirmation, RunEnd, TrialStatus

GROUP_METRICS = ("worst_group_accuracy", "average_accuracy")
SPACE = {
    "lr": {"log_uniform": [0.001, 0.1], "default": 0.01},
    "batch_size": {"choice": [16, 32, 64], "default": 32},
    "optimizer": {"choice": ["sgd", "adam"], "default": "sgd"},
}


@dataclass(frozen=True)
class StudyNames:
    """The names in a study's records.

    Args:
        dataset: The data set.
        methods: Its methods.
        parts: The groups, or the metrics of tasks.
        has_groups: Whether the parts are groups.
        reason: Why a trial failed.
        choice: A value of a hyperparameter.
    """

    dataset: str = "digits"
    methods: Sequence[str] = ("erm", "dro")
    parts: Sequence[str] = ("left", "right")
    has_groups: bool = True
    reason: str = "the loss is NaN"
    choice: str = "sgd"
    space: dict[str, object] = field(default_factory=lambda: dict(SPACE))


def write_studies(
    root: Path, names: StudyNames, trials: int = 6, epochs: int = 4, seeds: int = 3
) -> None:
    """Write the records of each method's study: pruned, failed and completed trials, and seeds.

    Args:
        root: The folder of records.
        names: The names in them.
        trials: The trials of a search; a third is pruned, one fails, and one has not ended.
        epochs: The epochs of a trial.
        seeds: The confirmation seeds.
    """
    for number, method in enumerate(names.methods):
        records = MethodRecords(root / f"data-{names.has_groups}" / f"method-{number}")
        records.write_context(_make_context(names, method, trials, epochs, seeds))
        draw = np.random.default_rng(number)
        found: list[tuple[float, Hyperparameters]] = []
        for trial in range(trials):
            values: Hyperparameters = {
                "lr": float(10 ** draw.uniform(-3, -1)), "batch_size": int(draw.choice([16, 32])),
                "optimizer": names.choice,
            }  # fmt: skip
            status = TrialStatus.PRUNED if trial % 3 == 2 else TrialStatus.COMPLETED
            status = TrialStatus.FAILED if trial == 1 else status
            status = TrialStatus.UNFINISHED if trial == trials - 1 else status
            length = epochs if status == TrialStatus.COMPLETED else max(1, epochs // 3)
            rows = [_make_row(names, epoch, epochs, draw) for epoch in range(1, length + 1)]
            _write_run(records, names, number, trial, values, rows, status)
            if status == TrialStatus.COMPLETED:
                found.append((max(_read_value(names, row) for row in rows), values))
        for seed in range(seeds):
            rows = [_make_row(names, epoch, epochs, draw) for epoch in range(1, epochs + 1)]
            winner = max(found, key=lambda item: item[0])[1]
            _write_run(records, names, number, seed, winner, rows, TrialStatus.COMPLETED, True)


def _make_context(
    names: StudyNames, method: str, trials: int, epochs: int, seeds: int
) -> ExportContext:
    metrics = GROUP_METRICS if names.has_groups else ("delta_m", "worst_task_delta")
    own = dict.fromkeys(names.parts, True) if not names.has_groups else {}
    kinds = "worst_group_accuracy" if names.has_groups else "delta_m"
    return ExportContext(
        method=method, dataset=names.dataset, dataset_version="1", data_hash="0", baseline=None,
        as_percent=names.has_groups,
        higher_is_better={**dict.fromkeys(metrics, names.has_groups), **own},
        reported_metrics=list(metrics), training_config={"batch_size": 8}, needs=[],
        gradients="exact", epochs_per_trial=epochs, environment=detect_environment(False),
        rule=f"validation_{kinds}", search="random", scheduler="asha", trials=trials,
        search_seeds=1, seeds=seeds, published=None, keep_models=False, slots=2,
        group_names=list(names.parts) if names.has_groups else [], search_space=names.space,
        command=CommandOptions("data", None, False, "auto", None, False, None, 1),
    )  # fmt: skip


def _make_row(names: StudyNames, epoch: int, epochs: int, draw: np.random.Generator) -> EpochRow:
    values = [float(v) for v in draw.uniform(0.3, 0.6, len(names.parts)) + 0.4 * epoch / epochs]
    validation: dict[str, object] = (
        {
            "worst_group_accuracy": min(values), "average_accuracy": sum(values) / len(values),
            "group_accuracy": values, "group_count": [10] * len(values),
        }
        if names.has_groups
        else {
            "delta_m": 100 * (1 - sum(values) / len(values)),
            "worst_task_delta": 100 * (1 - min(values)),
            **dict(zip(names.parts, values, strict=True)),
        }
    )  # fmt: skip
    return EpochRow(
        epoch=epoch, stage=0, stage_epoch=epoch - 1, eligible=True, final=epoch == epochs,
        losses={"end_task": 1 / epoch}, lr=0.1, steps=10, validation=validation, seconds=2.0,
        weights={name: {"mean": 0.5, "min": 0.2, "max": 0.5 + epoch / 10} for name in names.parts},
        conflicts={
            "negative_cosines": 0.1 * epoch, "norms": dict.fromkeys(names.parts, 1.0 + epoch)
        },
    )  # fmt: skip


def _read_value(names: StudyNames, row: EpochRow) -> float:
    """Return the selection metric of an epoch, where higher is better."""
    if names.has_groups:
        return float(row.validation["worst_group_accuracy"])
    return -float(row.validation["delta_m"])


def _write_run(
    records: MethodRecords, names: StudyNames, method: int, number: int, values: Hyperparameters,
    rows: Sequence[EpochRow], status: TrialStatus, confirms: bool = False,
) -> None:  # fmt: skip
    described = describe_run(number, "confirm" if confirms else "search", **values)
    seed = number if confirms else 1000 + number
    key = replace(described.key, version=f"{names.dataset}, {method}, {values['lr']}", seed=seed)
    run = records.open_run(key.digest)
    run.write_description(replace(described, key=key))
    run.write_epoch(rows)
    if status.has_ended:
        best = max(rows, key=lambda row: _read_value(names, row))
        result = Confirmation(best.epoch, best.validation, best.validation) if confirms else None
        reason = names.reason if status == TrialStatus.FAILED else ""
        run.write_end(RunEnd(status, reason, rows, confirmation=result))
