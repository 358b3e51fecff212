"""Exports of one method from its records: trials, seeds, the winner, a summary.

Only records are read, so exports can be regenerated at any time, also while a study runs.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import yaml

from common.files import atomic_write, write_text
from core.training.selection import Score
from tuning.records.method_records import MethodRecords
from tuning.records.provenance import collect_provenance
from tuning.records.run_data import Metrics
from tuning.records.run_record import RunRecord
from tuning.reporting.curves import list_curves
from tuning.reporting.layout.table_files import write_csv
from tuning.reporting.recorded_study import RecordedStudy, RecordedTrial, read_study
from tuning.reporting.repeat_commands import make_repeat_commands
from tuning.reporting.summary import (
    find_worst_group,
    flatten_metrics,
    make_summary,
    write_summary,
)
from tuning.selection import select_trial

MODEL_NAME = "model.safetensors"
EMPTY_COLUMNS = ["status", "reason", "epochs_done", "best_epoch"]  # of a table without rows


def export_method(
    records: MethodRecords, results: Path, rule: str | None = None
) -> RecordedStudy | None:
    """Rewrite ``results/<dataset>/<method>/`` from a method's records; return its study.

    Args:
        records: The records.
        results: The results folder.
        rule: The rule that selects; None for the study's own.
    """
    study = read_study(records, rule)
    if study is not None:
        _export_study(study, records, results)
    return study


def _export_study(study: RecordedStudy, records: MethodRecords, results: Path) -> None:
    folder = results / study.context.dataset / study.context.method
    _write_csv(folder / "trials.csv", [_make_trial_row(study, t) for t in study.trials])
    _write_csv(folder / "curves.csv", list_curves(study, records))
    if study.winning_hyperparameters is None:
        return
    _write_csv(folder / "seeds.csv", [_make_seed_row(study, seed) for seed in study.seeds])
    if study.winning_run is not None:
        write_text(folder / "best_config.yaml", _describe_winner(study, study.winning_run))
    write_summary(folder, make_summary(study))
    _export_predictions(records, folder, study.confirmed_seeds)
    finished = [seed for seed in study.seeds if seed.is_finished]
    best = select_trial(finished, study.rule) if study.context.keep_models else None
    if best is not None and not best.has_files:
        best = None
    _export_model(None if best is None else records.open_run(best.keys[0]), folder)


def _write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    write_csv(path, pd.DataFrame(rows, columns=None if rows else EMPTY_COLUMNS))


def _make_trial_row(study: RecordedStudy, trial: RecordedTrial) -> dict[str, object]:
    best = trial.best
    return {
        "trial": trial.number,
        "status": trial.status,
        "reason": trial.reason,
        **trial.hyperparameters,
        "epochs_done": trial.epochs,
        "best_epoch": best.epoch if best else None,
        study.rule.name: study.rule.read_metric(best),
        **_average_validation(study, trial, best),
        "seconds": trial.seconds,
        "device_hours": trial.device_hours,
        "keys": " ".join(trial.keys),
    }


def _average_validation(
    study: RecordedStudy, trial: RecordedTrial, best: Score | None
) -> dict[str, object]:
    """Return the validation metrics at the best epoch, averaged over training seeds."""
    if best is None:
        return {}
    chosen = [curve[best.epoch - 1].validation for curve in trial.curves]
    rows = [flatten_metrics("validation", metrics, study.context) for metrics in chosen]
    worst = [find_worst_group("validation", metrics, study.context) for metrics in chosen]
    return {
        **{name: _average([row[name] for row in rows]) for name in rows[0]},
        **_name_worst_groups("validation", worst),
    }


def _name_worst_groups(split: str, names: Sequence[str | None]) -> dict[str, object]:
    """Return the column of the worst group, of each training seed; none without groups."""
    found = dict.fromkeys(name for name in names if name is not None)
    return {f"{split}_worst_group": "; ".join(found)} if found else {}


def _average(values: Sequence[float | None]) -> float | None:
    """Return the mean of values; None if one is undefined. Equal values keep their type."""
    defined = [value for value in values if value is not None]
    if len(set(values)) == 1:
        return values[0]
    return sum(defined) / len(defined) if len(defined) == len(values) else None


def _make_seed_row(study: RecordedStudy, seed: RecordedTrial) -> dict[str, object]:
    result = seed.confirmation
    (key,) = seed.keys
    return {
        "seed": seed.number,
        "status": seed.status,
        "reason": seed.reason,
        "epochs_done": seed.epochs,
        "best_epoch": result.epoch if result else None,
        **_list_results(study, "validation", result.validation if result else {}),
        **_list_results(study, "test", result.test if result else {}),
        "seconds": seed.seconds,
        "device_hours": seed.device_hours,
        "key": key,
    }


def _list_results(study: RecordedStudy, split: str, metrics: Metrics) -> dict[str, object]:
    worst = find_worst_group(split, metrics, study.context)
    named = _name_worst_groups(split, [worst])
    return {**flatten_metrics(split, metrics, study.context), **named}


def _describe_winner(study: RecordedStudy, run: RecordedTrial) -> str:
    """Return the content of ``best_config.yaml``.

    Args:
        study: The study.
        run: A recorded run of the winner.
    """
    context, trial = study.context, study.winner
    best = trial.best if trial else None
    command, single = make_repeat_commands(context, run.key, run.hyperparameters)
    description = {
        "method": context.method,
        "dataset": context.dataset,
        "hyperparameters": dict(run.hyperparameters),
        "selection": {
            "rule": context.rule,
            "search": context.search,
            "search_space": dict(context.search_space),
            "trial": trial.number if trial else None,
            "epoch": best.epoch if best else None,
            "value": study.rule.read_metric(best),
        },
        "command": command,
        "command_of_one_seed": single,
        "training_config": run.key.training_config.as_dict(),
        "recipe": run.key.recipe.as_dict(),
        "provenance": {
            **asdict(collect_provenance()),
            "dataset_version": context.dataset_version,
            "baseline": asdict(context.baseline) if context.baseline else None,
            "data_hash": context.data_hash,
            "environment": asdict(context.environment),
            "search_keys": list(trial.keys) if trial else [],
            "seed_keys": [key for seed in study.seeds for key in seed.keys],
        },
    }
    text: str = yaml.safe_dump(description, sort_keys=False, allow_unicode=True, width=10**6)
    return text


def _export_predictions(
    records: MethodRecords, folder: Path, confirmed: Sequence[RecordedTrial]
) -> None:
    """Copy the predictions of the seeds with a result; delete all others, of earlier winners."""
    predictions = folder / "predictions"
    confirmed = [seed for seed in confirmed if seed.has_files]
    current = {f"seed_{seed.number}.parquet" for seed in confirmed}
    for path in predictions.glob("seed_*.parquet"):
        if path.name not in current:
            path.unlink(missing_ok=True)
    for seed in confirmed:
        target = predictions / f"seed_{seed.number}.parquet"
        _copy_file(records.open_run(seed.keys[0]), "predictions.parquet", target)


def _export_model(run: RunRecord | None, folder: Path) -> None:
    """Copy the weights of a run; delete those of an earlier winner."""
    target = folder / MODEL_NAME
    if run is None:
        target.unlink(missing_ok=True)
    else:
        _copy_file(run, MODEL_NAME, target)


def _copy_file(source: RunRecord, name: str, target: Path) -> None:
    """Copy a file of a record; delete the target, an earlier winner's, where there is none."""
    file = source.open_file(name)
    if file is None:
        target.unlink(missing_ok=True)
        return
    with file, atomic_write(target) as new, new.open("wb") as copied:
        shutil.copyfileobj(file, copied)
