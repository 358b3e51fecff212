"""Benchmarks with several tasks, judged against a model of its own for each (delta-m)."""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from common.errors import UserError
from datasets.benchmark import Benchmark, Meter, Outputs

BASELINES = Path(__file__).parent / "baselines"


@dataclass(frozen=True)
class Task:
    """One task.

    Args:
        name: The name of its target and of the model's outputs for it.
        loss: Its loss: a name of :mod:`core.objectives.task_losses`.
        outputs: The model's outputs for it: channels, classes, or 1.
        metrics: The metrics that judge it, by name: whether higher is better.
    """

    name: str
    loss: str
    outputs: int
    metrics: Mapping[str, bool]


@dataclass(frozen=True)
class Baseline:
    """What single-task models reach: what delta-m compares with.

    As a file: JSON with the keys of this class.

    Args:
        name: The name that results carry.
        dataset: The benchmark.
        version: Raised whenever its values change.
        source: Where the values come from.
        metrics: Value by metric.
        batch_averaged: Whether the values are means over batches of the published code's size.
    """

    name: str
    dataset: str
    version: str
    source: str
    metrics: Mapping[str, float]
    batch_averaged: bool = False

    @classmethod
    def parse(cls, text: str, where: str) -> Self:
        """Return the baseline that a file's text holds.

        Raises:
            UserError: If it is malformed.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise UserError(f"{where}: no baseline file, which is JSON: {error}") from None
        known = {field.name for field in fields(cls)}
        needed = known - {"batch_averaged"}
        if not isinstance(data, dict) or not needed <= set(data) <= known:
            received = ", ".join(map(str, data)) if isinstance(data, dict) else repr(data)[:80]
            raise UserError(
                f"{where}: no baseline file: received {received or 'nothing'}, expected the keys "
                f"{', '.join(sorted(needed))}"
            )
        found = cls(**data)
        if not isinstance(found.metrics, dict):
            raise UserError(
                f"{where}: metrics: received {found.metrics!r}, expected numbers by name"
            )
        for name, value in found.metrics.items():
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value):
                raise UserError(f"{where}: metrics.{name}: received {value!r}, expected a number")
            if value == 0:
                raise UserError(f"{where}: metrics.{name}: 0, so delta-m is undefined")
        return found

    @property
    def digest(self) -> str:
        """Its content's name, 8 hexadecimal digits."""
        text = json.dumps([sorted(self.metrics.items()), self.version])
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def task_deltas(
    values: Mapping[str, float], baseline: Mapping[str, float], tasks: tuple[Task, ...]
) -> dict[str, float]:
    """Return each metric's change against the baseline, in percent; below 0 is better.

    ``(-1)^[higher is better] (M - B) / B x 100`` (Maninis et al., CVPR 2019).
    """
    return {
        metric: (-1 if higher else 1) * (values[metric] - baseline[metric]) / baseline[metric] * 100
        for task in tasks
        for metric, higher in task.metrics.items()
    }


def delta_m(
    values: Mapping[str, float], baseline: Mapping[str, float], tasks: tuple[Task, ...]
) -> float:
    """Return the mean over all metrics of :func:`task_deltas`, in percent; below 0 is better."""
    deltas = task_deltas(values, baseline, tasks)
    return sum(deltas.values()) / len(deltas)


class TaskBenchmark(Benchmark):
    """Several tasks on the same inputs.

    Metrics of a split are the tasks' own by name, ``delta_m`` and ``worst_task_delta`` (the
    largest mean change of a task's metrics), both in percent of the baseline.
    """

    tasks: ClassVar[tuple[Task, ...]]
    published_batch: ClassVar[int | None] = None  # of the published evaluation
    selection_metric = "validation_delta_m"
    reported_metrics = ("delta_m", "worst_task_delta")
    provides = frozenset({"tasks"})

    @property
    def outputs(self) -> dict[str, int]:
        """The number of outputs by task."""
        return {task.name: task.outputs for task in self.tasks}

    @property
    def higher_is_better(self) -> dict[str, bool]:  # type: ignore[override]
        """Delta-m, the worst task's, and all tasks' metrics: whether higher is better."""
        return {"delta_m": False, "worst_task_delta": False, **self.metric_names}

    @property
    def metric_names(self) -> dict[str, bool]:
        """All metrics, and whether higher is better."""
        return {name: up for task in self.tasks for name, up in task.metrics.items()}

    @cached_property
    def baseline(self) -> Baseline:
        """What delta-m compares with: the file of this benchmark's name, or the given one.

        Without a file every metric is compared with 1, which is enough for the method ``stl`` to
        make one: it chooses per task.
        """
        path = BASELINES / f"{self.name}.json"
        if not path.exists():
            ones = dict.fromkeys(self.metric_names, 1.0)
            source = "no baseline file: every metric is compared with 1; make one by the method stl"
            return Baseline("none", self.name, "0", source, ones)
        return self._checked(Baseline.parse(path.read_text(encoding="utf-8"), path.name))

    def use_baseline(self, text: str) -> None:
        """Compare with the baseline that a file's text holds.

        Raises:
            UserError: If it is malformed, or of another benchmark.
        """
        self.__dict__["baseline"] = self._checked(Baseline.parse(text, "--baseline"))

    def _checked(self, baseline: Baseline) -> Baseline:
        if baseline.dataset != self.name:
            raise UserError(f"baseline '{baseline.name}' is of data set '{baseline.dataset}'")
        missing = sorted(set(self.metric_names) - set(baseline.metrics))
        if missing:
            raise UserError(f"baseline '{baseline.name}' lacks {', '.join(missing)}")
        return baseline

    @property
    def key_version(self) -> str:
        """Version and baseline: delta-m selects, and may steer the learning rate."""
        return f"{self.version}, baseline {self.baseline.digest}"

    def judged(self, values: Mapping[str, float]) -> dict[str, Any]:
        """Return metrics with ``delta_m`` and ``worst_task_delta`` added."""
        deltas = task_deltas(values, self.baseline.metrics, self.tasks)
        by_task = [
            sum(deltas[metric] for metric in task.metrics) / len(task.metrics)
            for task in self.tasks
        ]
        mean = sum(deltas.values()) / len(deltas)
        return {"delta_m": mean, "worst_task_delta": max(by_task), **values}

    @abstractmethod
    def accumulators(self) -> "dict[str, Accumulator]":
        """Return an accumulator of metrics for each task, by its name."""

    def meter(self, split: str, batch_averaged: bool = False) -> "TaskMeter":
        """Return a meter of all tasks' metrics.

        Args:
            split: The split's name.
            batch_averaged: Whether depth and normal metrics are means over batches of
                :attr:`published_batch` examples, as in the published code, in place of metrics of
                the whole split.
        """
        size = self.published_batch if batch_averaged else None
        return TaskMeter(self, self.accumulators, size)


class Accumulator(ABC):
    """Gathers what one task's metrics are made of."""

    batch_averaged: ClassVar[bool] = False  # whether the published code averages it over batches

    @abstractmethod
    def add(self, output: Tensor, target: Tensor) -> Tensor:
        """Take in a batch, ``(b, ...)``; return each example's error, ``(b,)``, lower is better."""

    @abstractmethod
    def values(self) -> dict[str, float]:
        """Return the metrics of all that was taken in."""


class TaskMeter(Meter):
    """The metrics of all tasks.

    Args:
        benchmark: The benchmark, which judges them.
        make: Makes fresh accumulators by task.
        batch: The size of the batches over which metrics are averaged where the published code
            does; None averages nothing.
    """

    def __init__(
        self,
        benchmark: TaskBenchmark,
        make: Callable[[], dict[str, Accumulator]],
        batch: int | None = None,
    ) -> None:
        self.benchmark = benchmark
        self._make = make
        self._batch = batch
        self._accumulators = make()
        self._index: list[Tensor] = []
        self._errors: dict[str, list[Tensor]] = {name: [] for name in self._accumulators}
        self._by_batch: list[dict[str, float]] = []

    def add(self, index: Tensor, outputs: Outputs, targets: Mapping[str, Tensor]) -> None:
        """Take in a batch."""
        assert not isinstance(outputs, Tensor)
        self._index.append(index)
        for name, accumulator in self._accumulators.items():
            self._errors[name].append(accumulator.add(outputs[name], targets[name]).float())
        if self._batch is None:
            return
        for rows in torch.arange(len(index)).split(self._batch):
            values: dict[str, float] = {}
            for name, part in self._make().items():
                if part.batch_averaged:
                    part.add(outputs[name][rows], targets[name][rows])
                    values |= part.values()
            self._by_batch.append(values)

    def metrics(self) -> dict[str, Any]:
        """Return the tasks' metrics, ``delta_m`` and ``worst_task_delta``."""
        values: dict[str, float] = {}
        for accumulator in self._accumulators.values():
            values |= accumulator.values()
        if self._by_batch:
            for name in self._by_batch[0]:
                values[name] = sum(batch[name] for batch in self._by_batch) / len(self._by_batch)
        return self.benchmark.judged(values)

    def predictions(self) -> dict[str, Tensor]:
        """Return each example's error by task."""
        index = torch.cat(self._index)
        order = index.argsort()
        errors = {name: torch.cat(parts).cpu()[order] for name, parts in self._errors.items()}
        return {"index": index[order], **{f"error_{name}": e for name, e in errors.items()}}
