"""Train the runs of the recorded tables; each result is a line of JSON, written at once."""

import json
import multiprocessing
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from benchmarks.selection.planned_runs import (
    PlannedRun,
    TableName,
    draw_configurations,
    load_space,
    plan_runs,
)
from common.hyperparameters import Hyperparameters
from core.environment import detect_environment
from core.training.run import NotFinite, Run

# Metrics that others follow from: a worst class from its groups, counts from the data set.
OMITTED = ("class_accuracy", "worst_class_accuracy", "group_count", "training_weighted_accuracy")

Metrics = dict[str, float | list[float]]


@dataclass(frozen=True)
class RunResult:
    """The curves of one run.

    Args:
        method: The method.
        dataset: The data set.
        configuration: The number of the configuration.
        seed: The training seed.
        hyperparameters: The configuration.
        ineligible: Epochs before the first that selection may choose, such as those of JTT's
            first stage.
        failed: Why the run ended early; empty if it did not.
        seconds: The time of each epoch, without the test split's.
        validation: The metrics of each eligible epoch.
        test: The audited test metrics of each eligible epoch.
    """

    method: str
    dataset: str
    configuration: int
    seed: int
    hyperparameters: Hyperparameters
    ineligible: int
    failed: str
    seconds: list[float]
    validation: list[Metrics]
    test: list[Metrics]

    @property
    def planned(self) -> PlannedRun:
        """The run as it was planned."""
        table = TableName(self.method, self.dataset)
        return PlannedRun(table, self.configuration, self.seed)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Return the result in a line of JSON.

        Raises:
            ValueError: If the line is not complete.
        """
        return cls(**json.loads(line))


def train_run(planned: PlannedRun, data_root: Path | None = None) -> RunResult:
    """Train a run on one thread of the CPU; evaluate both splits after every epoch."""
    space = load_space(planned.table, data_root)
    values = draw_configurations(space)[planned.configuration]
    environment = detect_environment(gpu=False, threads=1, precision="float32")
    key = space.resolved.make_key(space.complete(values), planned.seed, environment)
    run = Run(key, space.benchmark)
    validation: list[Metrics] = []
    test: list[Metrics] = []
    seconds: list[float] = []
    failed, ineligible = "", 0

    def audit_epoch() -> None:
        test.append(_keep_metrics(run.evaluate_split("test").compute_metrics()))

    while run.epochs_done < run.total_epochs and not failed:
        try:
            row = run.train_epoch(observe=audit_epoch)
        except NotFinite as error:
            failed = str(error)
            break
        seconds.append(round(row.seconds, 4))
        if row.eligible:
            validation.append(_keep_metrics(row.validation))
        else:
            ineligible += 1
            test.pop()
    return RunResult(
        planned.table.method, planned.table.dataset, planned.configuration, planned.seed,
        values, ineligible, failed, seconds, validation, test,
    )  # fmt: skip


def _keep_metrics(metrics: Mapping[str, Any]) -> Metrics:
    return {name: value for name, value in metrics.items() if name not in OMITTED}


def read_results(path: Path) -> Iterator[RunResult]:
    """Yield the results in a file; a line that was cut off is left out."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            for line in file:
                with suppress(ValueError):
                    yield RunResult.from_json(line)


def train_runs(
    path: Path,
    tables: tuple[TableName, ...],
    processes: int,
    data_root: Path | None,
    known: Iterable[PlannedRun] = (),
) -> None:
    """Train all runs that neither a file nor known tables have, and append them to the file.

    Args:
        path: The file, which may have the results of an earlier call.
        tables: The tables.
        processes: Processes that train at once.
        data_root: The folder of the posts.
        known: The runs of known tables.
    """
    done = {result.planned for result in read_results(path)} | set(known)
    missing = [planned for planned in plan_runs(tables) if planned not in done]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        if path.stat().st_size:
            file.write("\n")  # after a line that was cut off
        for number, result in enumerate(_train_all(missing, processes, data_root), start=1):
            file.write(json.dumps(asdict(result)) + "\n")
            file.flush()
            planned = result.planned
            print(
                f"{number}/{len(missing)} {planned.table} configuration {planned.configuration} "
                f"seed {planned.seed}: {sum(result.seconds):.1f} s {result.failed}",
                flush=True,
            )


def _train_all(
    runs: list[PlannedRun], processes: int, data_root: Path | None
) -> Iterator[RunResult]:
    train = partial(train_run, data_root=data_root)
    if processes == 1:
        yield from map(train, runs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for done in as_completed([pool.submit(train, planned) for planned in runs]):
            yield done.result()
