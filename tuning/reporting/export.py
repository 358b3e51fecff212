"""Exports of one method, made from its records: the winner, its trials, its seeds, a summary."""

import json
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from common.files import atomic_write, write_text
from common.hyperparameters import Hyperparameters
from core.environment import Environment
from core.recipe.method import IMPLIED
from datasets.benchmark import Benchmark
from datasets.multitask.base import TaskBenchmark
from tuning import selection
from tuning.option_values import AUTO
from tuning.options import Options
from tuning.records.json_files import write_json
from tuning.records.provenance import provenance
from tuning.records.run_record import RunRecord
from tuning.reporting.statistics import summarise
from tuning.resources import Resources
from tuning.search.method_search import MethodSearch
from tuning.search.space import describe_hyperparameters
from tuning.search.trial import Trial, score_records
from tuning.selection import Score


def export_method(search: MethodSearch, options: Options, resources: Resources) -> None:
    """Write ``results/<dataset>/<method>/`` anew from the method's records.

    Args:
        search: The method; its trials and seeds name the records.
        options: The command.
        resources: What a trial takes, for device-hours.
    """
    folder = options.results / options.dataset / search.name
    _write_csv(folder / "trials.csv", [_trial_row(search, t, resources) for t in _ordered(search)])
    winning = search.select_hyperparameters()
    if winning is None:
        return
    seeds = list(search.list_confirmed_seeds().values())
    rows = [_seed_row(seed, resources) for seed in seeds]
    _write_csv(folder / "seeds.csv", rows)
    write_text(folder / "best_config.yaml", _best_config(search, options, winning))
    write_json(folder / "summary.json", _summary(search, options, rows, resources))
    _export_files(search.rule, folder, seeds, options.keep_models)


def _ordered(search: MethodSearch) -> list[Trial]:
    return [trial for _, trial in sorted(search.trials.items())]


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with atomic_write(path) as new:
        columns = None if rows else ["status", "reason", "epochs", "best_epoch"]
        pd.DataFrame(rows, columns=columns).to_csv(new, index=False)


def flatten(prefix: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics as columns: ``<prefix>_<metric>``, lists as ``<prefix>_<metric>_<index>``."""
    columns: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, list):
            columns |= {f"{prefix}_{name}_{i}": item for i, item in enumerate(value)}
        else:
            columns[f"{prefix}_{name}"] = value
    return columns


def _status(trial: Trial) -> str:
    return trial.status if trial.is_finished else "unfinished"


def _seconds(folders: list[RunRecord]) -> tuple[int, float]:
    """Return the epochs and seconds of records, over all training seeds."""
    rows = [row for folder in folders for row in folder.read_rows()]
    return len(rows), sum(float(row["seconds"]) for row in rows)


def _trial_row(search: MethodSearch, trial: Trial, resources: Resources) -> dict[str, Any]:
    scores = score_records(search.rule, trial.runs)
    best = max((score for score in scores if score is not None), default=None)
    epochs, seconds = _seconds(trial.runs)
    return {
        "trial": trial.number,
        "status": _status(trial),
        "reason": trial.reason,
        **describe_hyperparameters(search.space, trial.hyperparameters),
        "epochs": epochs,
        "best_epoch": best.epoch if best else None,
        search.rule.name: search.rule.read_metric(best),
        **_validation_at(trial.runs, best),
        "seconds": seconds,
        "device_hours": seconds * trial.device_share(resources) / 3600,
        "keys": " ".join(folder.name for folder in trial.runs),
    }


def _validation_at(folders: list[RunRecord], best: Score | None) -> dict[str, Any]:
    """Return the validation metrics at the best epoch, averaged over training seeds."""
    if best is None:
        return {}
    rows = [
        flatten("validation", folder.read_rows()[best.epoch - 1]["validation"])
        for folder in folders
    ]
    means: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        same = len(set(values)) == 1  # such as a group's count, which is to stay whole
        means[name] = values[0] if same else None if None in values else sum(values) / len(values)
    return means


def _seed_row(seed: Trial, resources: Resources) -> dict[str, Any]:
    (folder,) = seed.runs
    end = folder.read_end()
    result = end.confirmation if end else None
    epochs, seconds = _seconds(seed.runs)
    return {
        "seed": seed.number,
        "status": _status(seed),
        "reason": seed.reason,
        "epochs": epochs,
        "best_epoch": result.epoch if result else None,
        **flatten("validation", result.validation if result else {}),
        **flatten("test", result.test if result else {}),
        "seconds": seconds,
        "device_hours": seconds * seed.device_share(resources) / 3600,
        "key": folder.name,
    }


def commands(
    options: Options, method: str, used: Mapping[str, Any], environment: Environment
) -> tuple[str, str]:
    """Return the commands that repeat a configuration: with its seeds, and one run without Ray."""
    sets = [f"--set {shlex.quote(f'{k}={_scalar(v)}')}" for k, v in used.items() if k != "epochs"]
    common = [f"--method {method} --dataset {options.dataset}"]
    if "epochs" in used:
        common.append(f"--epochs {used['epochs']}")
    if options.data_root != Path("data"):
        common.append(f"--data-root {shlex.quote(str(options.data_root))}")
    if options.baseline is not None:
        common.append(f"--baseline {shlex.quote(str(options.baseline))}")
    if options.deterministic:
        common.append("--deterministic")
    if options.precision != "auto":
        common.append(f"--precision {options.precision}")
    study = [f"--search published --seeds {options.seeds}"]
    if options.select:
        study.append(f"--select {options.select}")
    if options.audit_test:
        study.append("--audit-test")
    if options.gpus_per_trial is not None:
        asked = options.gpus_per_trial
        study.append(f"--gpus-per-trial {asked if asked == AUTO else format(asked, 'g')}")
    if options.cpus_per_trial != 1:
        study.append(f"--cpus-per-trial {options.cpus_per_trial}")
    single = [f"--seed 0 --threads {environment.threads} --device {environment.device}"]
    return (
        " ".join(["python tune.py", *common, *study, *sets, "--results results-repeated"]),
        " ".join(["python -m core", *common, *single, *sets]),
    )


def _scalar(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _best_config(search: MethodSearch, options: Options, winning: Hyperparameters) -> str:
    benchmark = search.space.benchmark
    used = describe_hyperparameters(search.space, winning)
    trial = search.select_winner() if search.searcher is not None else None
    best = trial.best if trial else None
    fields = benchmark.training_config.as_dict()
    repeat, single = commands(options, search.name, used, search.environment)
    description = {
        "method": search.name,
        "dataset": benchmark.name,
        "hyperparameters": used,
        "selection": {
            "rule": search.rule.name,
            "search": options.search,
            "trial": trial.number if trial else None,
            "epoch": best.epoch if best else None,
            "value": search.rule.read_metric(best),
        },
        "command": repeat,
        "command_of_one_seed": single,
        "training_config": fields | {k: v for k, v in used.items() if k in fields},
        "provenance": {
            **provenance(),
            "dataset_version": benchmark.version,
            "baseline": _baseline(benchmark),
            "data_hash": benchmark.data_hash,
            "environment": asdict(search.environment),
            "search_keys": [folder.name for folder in trial.runs] if trial else [],
            "seed_keys": [s.runs[0].name for s in search.list_confirmed_seeds().values()],
        },
    }  # fmt: skip
    text: str = yaml.safe_dump(description, sort_keys=False, allow_unicode=True, width=10**6)
    return text


def _baseline(benchmark: Benchmark) -> dict[str, Any] | None:
    """Return which single-task models delta-m compares with."""
    if not isinstance(benchmark, TaskBenchmark):
        return None
    found = benchmark.baseline
    return {
        "name": found.name,
        "version": found.version,
        "source": found.source,
        "batch_averaged": found.batch_averaged,
    }


def _summary(
    search: MethodSearch, options: Options, rows: list[dict[str, Any]], resources: Resources
) -> dict[str, Any]:
    """Return what tables are made of."""
    benchmark = search.space.benchmark
    confirmed = [row for row in rows if row["best_epoch"] is not None]
    names = [
        n for n in (confirmed[0] if confirmed else {}) if n.startswith(("validation_", "test_"))
    ]
    metrics = {}
    for name in names:
        values = [float(row[name]) for row in confirmed if row[name] is not None]
        if values:
            metrics[name] = asdict(summarise(values))
    winning = search.select_hyperparameters() or {}
    trials = _ordered(search)
    runs = [*trials, *search.list_confirmed_seeds().values()]
    costs = [(t, *_seconds(t.runs)) for t in runs]
    statuses = [_status(trial) for trial in trials]
    return {
        "method": search.name,
        "dataset": benchmark.name,
        "dataset_version": benchmark.version,
        "baseline": _baseline(benchmark),
        "as_percent": benchmark.as_percent,
        "higher_is_better": dict(benchmark.higher_is_better),
        "gradients": search.key_settings()["gradients"],
        "rule": search.rule.name,
        "oracle": search.rule.oracle,
        "search": options.search,
        "scheduler": options.scheduler,
        "search_seeds": options.search_seeds,
        "needs": sorted(search.space.method.needs - IMPLIED),
        "reported_metrics": list(benchmark.reported_metrics),
        "complete": search.is_done and len(confirmed) == options.seeds,
        "trials": len(trials),
        "statuses": {status: statuses.count(status) for status in dict.fromkeys(statuses)},
        "epochs_per_trial": search.count_epochs()[0],
        "seeds": len(confirmed),
        "epochs": sum(epochs for _, epochs, _ in costs),
        "device": search.environment.device_class,
        "device_hours": sum(s * t.device_share(resources) for t, _, s in costs) / 3600,
        "hyperparameters": describe_hyperparameters(search.space, winning),
        "metrics": metrics,
        "provenance": provenance(),
    }


def _export_files(
    rule: selection.Rule, folder: Path, seeds: list[Trial], keep_models: bool
) -> None:
    """Copy the seeds' predictions, and the best seed's weights where they are kept."""
    predictions = folder / "predictions"
    kept = {f"seed_{seed.number}.parquet" for seed in seeds}
    for path in (*predictions.glob("seed_*.parquet"), folder / "model.safetensors"):
        if path.name not in kept:  # of an earlier winner, or of more seeds
            path.unlink(missing_ok=True)
    for seed in seeds:
        _copy(seed.runs[0], "predictions.parquet", predictions / f"seed_{seed.number}.parquet")
    best = selection.select_winner((seed.number, seed.best) for seed in seeds if seed.is_finished)
    if keep_models and best is not None:
        source = next(seed for seed in seeds if seed.number == best).runs[0]
        _copy(source, "model.safetensors", folder / "model.safetensors")


def _copy(source: RunRecord, name: str, target: Path) -> None:
    file = source.storage.open_file(name)
    if file is not None:
        with file, atomic_write(target) as new, new.open("wb") as copied:
            shutil.copyfileobj(file, copied)
