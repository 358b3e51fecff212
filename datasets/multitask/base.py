"""Benchmarks with several tasks, compared with a single-task model for each (delta-m)."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from common.errors import UserError
from datasets.benchmark import Benchmark, Meter, Outputs
from datasets.multitask.baseline import Baseline
from datasets.multitask.delta_m import compute_task_deltas
from datasets.multitask.metrics import Accumulator
from datasets.multitask.task import Task

BASELINES = Path(__file__).parent / "baselines"


class TaskBenchmark(Benchmark):
    """Several tasks on the same inputs.

    Metrics of a split are the tasks' own by name, ``delta_m`` and ``worst_task_delta`` (the
    largest mean change of a task's metrics), both in percent of the baseline.

    Args:
        data_root: The folder of all data sets.
        baseline: The text of a baseline file in place of the benchmark's own; empty for that.

    Raises:
        UserError: If the baseline is malformed, or of another benchmark.
    """

    tasks: ClassVar[tuple[Task, ...]]
    published_batch_size: ClassVar[int | None] = None  # of the published evaluation
    default_selection_rule = "validation_delta_m"
    reported_metrics: ClassVar[tuple[str, ...]] = ("delta_m", "worst_task_delta")
    provides = frozenset({"tasks"})

    def __init__(self, data_root: Path, baseline: str = "") -> None:
        super().__init__(data_root)
        self._baseline = baseline
        if baseline:
            _ = self.baseline  # refuses a wrong one

    @property
    def output_sizes(self) -> dict[str, int]:
        """The number of outputs by task."""
        return {task.name: task.output_size for task in self.tasks}

    @property
    def task_names(self) -> tuple[str, ...]:
        """The names of the tasks."""
        return tuple(task.name for task in self.tasks)

    @property
    def higher_is_better(self) -> dict[str, bool]:  # type: ignore[override]
        """Delta-m, the worst task's and all tasks' metrics: whether higher is better."""
        return {"delta_m": False, "worst_task_delta": False, **self.task_metrics}

    @property
    def task_metrics(self) -> dict[str, bool]:
        """The metrics of all tasks, and whether higher is better."""
        return {
            name: higher for task in self.tasks for name, higher in task.higher_is_better.items()
        }

    @cached_property
    def baseline(self) -> Baseline:
        """The baseline of delta-m: the given one, else the file of this benchmark's name.

        Without a file every metric is compared with 1, which is enough for the method ``stl`` to
        make one: it chooses per task.
        """
        if self._baseline:
            return self._check_baseline(Baseline.from_json(self._baseline, "--baseline"))
        path = BASELINES / f"{self.name}.json"
        if not path.exists():
            ones = dict.fromkeys(self.task_metrics, 1.0)
            source = "no baseline file: every metric is compared with 1; make one by the method stl"
            return Baseline("none", self.name, "0", source, ones)
        return self._check_baseline(Baseline.from_json(path.read_text(encoding="utf-8"), path.name))

    def _check_baseline(self, baseline: Baseline) -> Baseline:
        if baseline.dataset != self.name:
            raise UserError(f"baseline '{baseline.name}' is of data set '{baseline.dataset}'")
        missing = sorted(set(self.task_metrics) - set(baseline.metrics))
        if missing:
            raise UserError(f"baseline '{baseline.name}' lacks {', '.join(missing)}")
        return baseline

    @property
    def key_version(self) -> str:
        """Version and baseline: delta-m selects, and may steer the learning rate."""
        return f"{self.version}, baseline {self.baseline.digest}"

    def add_deltas(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return metrics with ``delta_m`` and ``worst_task_delta`` added."""
        deltas = compute_task_deltas(values, self.baseline.metrics, self.tasks)
        return {**asdict(deltas), **values}

    @abstractmethod
    def make_accumulators(self) -> dict[str, Accumulator]:
        """Return an accumulator of metrics for each task, by its name."""

    def make_step_meter(self) -> "TaskMeter | None":
        """Return a meter of the predictions that training steps make; None where none is kept.

        Its accumulators must not wait for the device.
        """
        return None

    def make_meter(self, split: str, batch_averaged: bool = False) -> "TaskMeter":
        """Return a meter of all tasks' metrics.

        Args:
            split: The split's name.
            batch_averaged: Whether depth and normal metrics are means over batches of
                :attr:`published_batch_size` examples, as in the published code, in place of
                metrics of the whole split.
        """
        batch_size = self.published_batch_size if batch_averaged else None
        return TaskMeter(self, self.make_accumulators, batch_size)


class TaskMeter(Meter):
    """Accumulates the metrics of all tasks.

    Args:
        benchmark: The benchmark, which adds delta-m.
        make_accumulators: Returns new accumulators by task.
        batch_size: The size of the batches over which metrics are averaged where the published code
            does; None averages nothing.
    """

    def __init__(
        self,
        benchmark: TaskBenchmark,
        make_accumulators: Callable[[], dict[str, Accumulator]],
        batch_size: int | None = None,
    ) -> None:
        self.benchmark = benchmark
        self._make_accumulators = make_accumulators
        self._batch_size = batch_size
        self._accumulators = make_accumulators()
        self._index: list[Tensor] = []
        self._errors: dict[str, list[Tensor]] = {name: [] for name in self._accumulators}
        self._by_batch: list[dict[str, float]] = []

    def update(self, index: Tensor, outputs: Outputs, targets: Mapping[str, Tensor]) -> None:
        """Add a batch."""
        assert not isinstance(outputs, Tensor)
        self._index.append(index)
        for name, accumulator in self._accumulators.items():
            self._errors[name].append(accumulator.update(outputs[name], targets[name]).float())
        if self._batch_size is None:
            return
        for rows in torch.arange(len(index)).split(self._batch_size):
            values: dict[str, float] = {}
            for name, part in self._make_accumulators().items():
                if part.batch_averaged:
                    part.update(outputs[name][rows], targets[name][rows])
                    values |= part.compute_metrics()
            self._by_batch.append(values)

    def compute_metrics(self) -> dict[str, Any]:
        """Return the tasks' metrics, ``delta_m`` and ``worst_task_delta``."""
        values: dict[str, float] = {}
        for accumulator in self._accumulators.values():
            values |= accumulator.compute_metrics()
        if self._by_batch:
            for name in self._by_batch[0]:
                values[name] = sum(batch[name] for batch in self._by_batch) / len(self._by_batch)
        return self.benchmark.add_deltas(values)

    def collect_predictions(self) -> dict[str, Tensor]:
        """Return each example's error by task."""
        index = torch.cat(self._index)
        order = index.argsort()
        errors = {name: torch.cat(parts).cpu()[order] for name, parts in self._errors.items()}
        return {"index": index[order], **{f"error_{name}": e for name, e in errors.items()}}
