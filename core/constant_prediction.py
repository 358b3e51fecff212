"""The metric of a constant prediction, above which a trial has learned something."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from core.training.selection import Rule
from datasets.benchmark import Benchmark
from datasets.groups.base import GroupBenchmark


def measure_constant_predictions(benchmark: Benchmark, rules: Sequence[Rule]) -> dict[str, float]:
    """Return the best metric that the same prediction for all examples has, by rule.

    It is that of one class: the worst-group accuracy 0 where every class has a group, and the share
    of the largest class for the average accuracy. Tasks have none: a model that has learned one of
    them may be worse in delta-m than constants, which are as good as they can be at all of them.

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
            logits = torch.zeros(len(examples), n_classes)
            logits[:, label] = 1
            meter.update(torch.arange(len(examples)), logits, examples.targets)
            yield meter.compute_metrics()
