"""Curves: a row per epoch of every trial and seed, the content of ``curves.csv``."""

from collections.abc import Iterator, Mapping, Sequence

from core.training.epoch_row import EpochRow
from tuning.records.export_context import ExportContext
from tuning.records.method_records import MethodRecords
from tuning.records.run_data import Metrics, Phase
from tuning.reporting.recorded_study import RecordedStudy, RecordedTrial
from tuning.reporting.summary import flatten_metrics


def list_curves(study: RecordedStudy, records: MethodRecords) -> list[dict[str, object]]:
    """Return the epochs of trials, of finalists' further seeds and of the winner's, in order.

    Args:
        study: The study.
        records: The method's records, which hold the test metrics that ``--audit-test`` keeps.
    """
    return [
        row
        for phase, trials in (
            (Phase.SEARCH, study.trials),
            *((Phase.FINALIST, runs) for runs in study.further_runs.values()),
            (Phase.CONFIRM, study.seeds),
        )
        for trial in trials
        for row in _list_epochs(phase, trial, study, records)
    ]


def _list_epochs(
    phase: Phase, trial: RecordedTrial, study: RecordedStudy, records: MethodRecords
) -> Iterator[dict[str, object]]:
    numbers = {"trial": trial.number if phase != Phase.CONFIRM else None}
    for key, seed, curve in zip(trial.keys, trial.training_seeds, trial.curves, strict=True):
        audit: Sequence[Metrics] = ()
        if study.context.command.audit_test:
            audit = records.open_run(key).read_audit()
        for index, row in enumerate(curve):
            test = audit[index] if index < len(audit) else {}
            measured = flatten_epoch(row, test, study.context)
            yield {"phase": phase, **numbers, "seed": seed, "key": key, **measured}


def flatten_epoch(row: EpochRow, test: Metrics, context: ExportContext) -> dict[str, object]:
    """Return all that was measured in an epoch, by column.

    Args:
        row: The epoch.
        test: Its audited test metrics; empty without an audit.
        context: The study.
    """
    conflicts = row.conflicts or {}
    return {
        "epoch": row.epoch,
        "stage": row.stage,
        "eligible": row.eligible,
        "lr": row.lr,
        "steps": row.steps,
        "seconds": row.seconds,
        **{f"loss_{name}": value for name, value in row.losses.items()},
        **flatten_metrics("validation", row.validation, context),
        **flatten_metrics("train", row.training or {}, context),
        **flatten_metrics("train_batches", row.training_batches or {}, context),
        **flatten_metrics("test", test, context),
        **_flatten_weights(row.weights or {}),
        **({"negative_cosines": conflicts["negative_cosines"]} if conflicts else {}),
        **{f"gradient_norm_{name}": v for name, v in conflicts.get("norms", {}).items()},
        **({} if row.flagged is None else {"flagged": row.flagged}),
    }


def _flatten_weights(weights: Mapping[str, Mapping[str, float]]) -> dict[str, object]:
    return {
        f"weight_{name}_{statistic}": value
        for name, found in weights.items()
        for statistic, value in found.items()
    }
