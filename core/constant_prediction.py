"""The metric of a constant prediction, above which a trial has learned something."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from core.training.selection import Rule
from datasets.benchmark import Benchmark
from datasets.groups.base import GroupBenchmark
from datasets.multitask.base import TaskBenchmark
from datasets.multitask.task import Task


def measure_constant_predictions(benchmark: Benchmark, rules: Sequence[Rule]) -> dict[str, float]:
    """Return the best metric that the same prediction for all examples has, by rule.

    Of groups it is that of one class: the worst-group accuracy 0 where every class has a group, and
    the share of the largest class for the average accuracy. Of tasks each has its own best
    constant: a class, or the mean or the median of its targets. Dense tasks have none.

    Args:
        benchmark: The benchmark, whose splits are read.
        rules: The rules; those that read the test split do it here too.
    """
    found: dict[str, float] = {}
    for split in dict.fromkeys(rule.split for rule in rules):
        candidates = list(_list_constant_metrics(benchmark, split))
        for rule in rules:
            values = [metrics.get(rule.metric) for metrics in candidates if rule.split == split]
            numbers = [float(value) for value in values if isinstance(value, (int, float))]
            if numbers:
                found[rule.name] = min(numbers) if rule.lower_is_better else max(numbers)
    return found


def _list_constant_metrics(benchmark: Benchmark, split: str) -> Iterator[Mapping[str, Any]]:
    """Yield the metrics of each constant prediction on a split."""
    if isinstance(benchmark, GroupBenchmark):
        examples, n_classes = benchmark.splits[split], benchmark.output_sizes["y"]
        for label in range(n_classes):
            meter = benchmark.make_meter(split)
            logits = _repeat_class(label, n_classes, len(examples))
            meter.update(torch.arange(len(examples)), logits, examples.targets)
            yield meter.compute_metrics()
    elif isinstance(benchmark, TaskBenchmark):
        values = _measure_tasks(benchmark, split)
        if values:
            yield benchmark.add_deltas(values)


def _measure_tasks(benchmark: TaskBenchmark, split: str) -> dict[str, float]:
    """Return each task's metric of its best constant; empty unless each has a single metric."""
    targets = benchmark.splits[split].targets
    found: dict[str, float] = {}
    for task in benchmark.tasks:
        target = targets[task.name]
        if target.dim() != 1 or len(task.higher_is_better) != 1:
            return {}
        ((metric, higher_is_better),) = task.higher_is_better.items()
        values = []
        for output in _list_constant_outputs(task, target):
            accumulator = benchmark.make_accumulators()[task.name]
            accumulator.update(output, target)
            values.append(accumulator.compute_metrics()[metric])
        found[metric] = max(values) if higher_is_better else min(values)
    return found


def _list_constant_outputs(task: Task, target: Tensor) -> list[Tensor]:
    """Return the constant outputs of a task, ``(b,)``, or ``(b, classes)`` for labels."""
    if task.loss == "cross_entropy":
        classes = range(task.output_size)
        return [_repeat_class(label, task.output_size, len(target)) for label in classes]
    if task.loss == "binary_cross_entropy":
        return [torch.full((len(target),), logit) for logit in (-1.0, 1.0)]
    numbers = target.double()
    return [value.expand(len(target)) for value in (numbers.mean(), numbers.median())]


def _repeat_class(label: int, n_classes: int, count: int) -> Tensor:
    """Return logits that predict a class for so many examples."""
    logits = torch.zeros(1, n_classes)
    logits[:, label] = 1
    return logits.expand(count, n_classes)
