"""Recorded tables: the curves of all configurations of a method, as arrays in a file."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.selection.planned_runs import (
    CONFIGURATIONS,
    SEEDS,
    PlannedRun,
    TableName,
    load_space,
)
from benchmarks.selection.train_runs import Metrics, RunResult
from common.files import atomic_write
from common.hyperparameters import Hyperparameter, Hyperparameters, parse_hyperparameter

FOLDER = Path(__file__).parent / "tables"


@dataclass(frozen=True)
class RecordedTable:
    """The curves of a method's configurations; number 0 has the defaults.

    Args:
        name: Method and data set.
        space: The hyperparameters from whose domains configurations were drawn.
        rule: The name of the data set's selection rule.
        group_counts: The validation examples of each group; empty for data sets of tasks.
        hyperparameters: Those of each configuration.
        metrics: The names of the metrics; a metric per group has its number behind a colon.
        validation: Metrics of eligible epochs, ``(configurations, seeds, epochs, metrics)``; NaN
            after a run that was not finite, and where a seed is missing.
        test: The same of the test split.
        seconds: The time of epochs, ``(configurations, seeds, epochs)``, ineligible ones included
            in the first.
        ineligible: Ineligible epochs of each configuration.
        trained: Whether a configuration was trained on a seed, ``(configurations, seeds)``.
    """

    name: TableName
    space: dict[str, Hyperparameter]
    rule: str
    group_counts: list[int]
    hyperparameters: list[Hyperparameters]
    metrics: list[str]
    validation: np.ndarray
    test: np.ndarray
    seconds: np.ndarray
    ineligible: np.ndarray
    trained: np.ndarray

    @property
    def seeds(self) -> list[int]:
        """The seeds on which every configuration was trained."""
        return [int(seed) for seed in np.flatnonzero(self.trained.all(axis=0))]

    def list_runs(self) -> list[PlannedRun]:
        """Return the runs that it has."""
        pairs = np.argwhere(self.trained)
        return [PlannedRun(self.name, int(number), int(seed)) for number, seed in pairs]

    def get_metric(self, split: str, name: str) -> np.ndarray:
        """Return a metric of a split, ``(configurations, seeds, epochs)``."""
        values = self.validation if split == "validation" else self.test
        return values[..., self.metrics.index(name)].astype(np.float64)

    def list_groups(self) -> list[str]:
        """Return the names of the accuracies of groups."""
        return [name for name in self.metrics if name.startswith("group_accuracy:")]


def _flatten_metrics(metrics: Metrics) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        values = {name: value} if not isinstance(value, list) else {
            f"{name}:{number}": part for number, part in enumerate(value)
        }  # fmt: skip
        flat |= values
    return flat


def build_table(
    name: TableName, results: Sequence[RunResult], data_root: Path | None = None
) -> RecordedTable:
    """Return the table of the results of a method.

    Args:
        name: The table's name.
        results: Its results, at least one of which has an eligible epoch.
        data_root: The folder of the posts, for their table.
    """
    space = load_space(name, data_root)
    group = space.benchmark.splits["validation"].group
    epochs = max(len(result.validation) for result in results)
    first = next(result for result in results if result.validation)
    names = list(_flatten_metrics(first.validation[0]))
    shape = (CONFIGURATIONS + 1, SEEDS)
    validation = np.full((*shape, epochs, len(names)), np.nan, dtype=np.float32)
    test = validation.copy()
    seconds = np.full((*shape, epochs), np.nan, dtype=np.float32)
    ineligible = np.zeros(shape[0], dtype=np.int16)
    trained = np.zeros(shape, dtype=bool)
    configurations: dict[int, Hyperparameters] = {}
    for result in results:
        place = (result.configuration, result.seed)
        configurations[result.configuration] = result.hyperparameters
        trained[place] = True
        ineligible[result.configuration] = max(ineligible[result.configuration], result.ineligible)
        times = result.seconds[result.ineligible :]
        seconds[place][: len(times)] = times
        seconds[place][0] += sum(result.seconds[: result.ineligible])
        for array, rows in ((validation, result.validation), (test, result.test)):
            for epoch, row in enumerate(rows):
                flat = _flatten_metrics(row)
                array[place][epoch] = [flat[metric] for metric in names]
    return RecordedTable(
        name,
        space.free,
        space.benchmark.default_selection_rule,
        [] if group is None else [int(count) for count in group.bincount()],
        [configurations.get(number, {}) for number in range(shape[0])],
        names,
        validation,
        test,
        seconds,
        ineligible,
        trained,
    )


def write_table(table: RecordedTable, folder: Path = FOLDER) -> Path:
    """Write a table, compressed; return its file."""
    path = folder / f"{table.name}.npz"
    description = {
        "method": table.name.method,
        "dataset": table.name.dataset,
        "space": {name: domain.as_mapping() for name, domain in table.space.items()},
        "rule": table.rule,
        "group_counts": table.group_counts,
        "hyperparameters": table.hyperparameters,
        "metrics": table.metrics,
    }
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            description=np.array(json.dumps(description)),
            validation=table.validation,
            test=table.test,
            seconds=table.seconds.astype(np.float16),
            ineligible=table.ineligible,
            trained=table.trained,
        )
    return path


def read_table(path: Path) -> RecordedTable:
    """Return the table in a file that :func:`write_table` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        description = json.loads(str(arrays["description"]))
        space: dict[str, Hyperparameter] = {}
        for name, text in description["space"].items():
            domain = parse_hyperparameter(f"{path}: {name}", text, [])
            assert domain is not None
            space[name] = domain
        return RecordedTable(
            TableName(description["method"], description["dataset"]),
            space,
            description["rule"],
            description["group_counts"],
            description["hyperparameters"],
            description["metrics"],
            arrays["validation"],
            arrays["test"],
            arrays["seconds"].astype(np.float64),
            arrays["ineligible"],
            arrays["trained"],
        )


def read_tables(folder: Path = FOLDER) -> list[RecordedTable]:
    """Return all tables of a folder, in the order of their names."""
    return [read_table(path) for path in sorted(folder.glob("*.npz"))]


def add_runs(table: RecordedTable, known: RecordedTable) -> RecordedTable:
    """Return a table with the runs of another that it lacks.

    Raises:
        ValueError: If the other has other configurations or metrics.
    """
    hyperparameters = [
        mine or theirs
        for mine, theirs in zip(table.hyperparameters, known.hyperparameters, strict=True)
    ]
    if hyperparameters != known.hyperparameters or table.metrics != known.metrics:
        raise ValueError(f"{table.name}: the known table has other configurations or metrics")
    lacking = known.trained & ~table.trained
    return replace(
        table,
        hyperparameters=hyperparameters,
        validation=np.where(lacking[..., None, None], known.validation, table.validation),
        test=np.where(lacking[..., None, None], known.test, table.test),
        seconds=np.where(lacking[..., None], known.seconds, table.seconds),
        ineligible=np.maximum(known.ineligible, table.ineligible),
        trained=known.trained | table.trained,
    )


def pack_tables(
    results: Iterable[RunResult], data_root: Path | None = None, folder: Path = FOLDER
) -> None:
    """Write the tables that results make, where every configuration has a seed.

    Args:
        results: The results.
        data_root: The folder of the posts, for their table.
        folder: Where to; the runs of tables that are there are kept.
    """
    found: dict[TableName, list[RunResult]] = {}
    for result in results:
        found.setdefault(result.planned.table, []).append(result)
    for name, runs in found.items():
        table = build_table(name, runs, data_root)
        path = folder / f"{name}.npz"
        if path.exists():
            table = add_runs(table, read_table(path))
        if not table.seeds:
            print(f"{name}: left out, {len(runs)} runs: no seed of all configurations")
            continue
        path = write_table(table, folder)
        print(f"{name}: {len(runs)} runs, seeds {table.seeds}, {path.stat().st_size / 1e3:.0f} kB")
