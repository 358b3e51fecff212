"""The metric of a constant prediction, above which a trial has learned something."""

import torch

from core.training.selection import Rule
from datasets.benchmark import Benchmark
from datasets.groups.base import GroupBenchmark


def measure_constant_prediction(benchmark: Benchmark, rule: Rule) -> float | None:
    """Return the best metric of a rule that the prediction of one class for all examples has.

    It is the worst-group accuracy 0 where every class has a group, and the share of the largest
    class for the average accuracy. Tasks have none: a constant differs between their metrics.
    """
    if not isinstance(benchmark, GroupBenchmark):
        return None
    split = benchmark.splits[rule.split]
    n_classes = benchmark.output_sizes["y"]
    found: list[float] = []
    for label in range(n_classes):
        meter = benchmark.make_meter(rule.split)
        logits = torch.zeros(len(split), n_classes)
        logits[:, label] = 1
        meter.update(torch.arange(len(split)), logits, split.targets)
        value = meter.compute_metrics().get(rule.metric)
        if isinstance(value, (int, float)):
            found.append(float(value))
    return max(found, default=None)
