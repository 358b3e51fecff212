"""Delta-m: the mean relative change of all metrics against single-task models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from datasets.multitask.task import Task


@dataclass(frozen=True)
class TaskDeltas:
    """Changes against a baseline in percent; below 0 is better.

    Args:
        delta_m: The mean over all metrics of all tasks.
        worst_task_delta: The largest mean over the metrics of one task.
    """

    delta_m: float
    worst_task_delta: float


def compute_metric_deltas(
    values: Mapping[str, float], baseline: Mapping[str, float], tasks: Sequence[Task]
) -> dict[str, float]:
    """Return each metric's change against the baseline, in percent; below 0 is better.

    ``(-1)^[higher is better] (M - B) / B x 100`` (Maninis et al., CVPR 2019).
    """
    return {
        metric: (-1 if higher else 1) * (values[metric] - baseline[metric]) / baseline[metric] * 100
        for task in tasks
        for metric, higher in task.higher_is_better.items()
    }


def compute_task_deltas(
    values: Mapping[str, float], baseline: Mapping[str, float], tasks: Sequence[Task]
) -> TaskDeltas:
    """Return delta-m, and the change of the task that suffers most."""
    deltas = compute_metric_deltas(values, baseline, tasks)
    by_task = [
        sum(deltas[metric] for metric in task.higher_is_better) / len(task.higher_is_better)
        for task in tasks
    ]
    return TaskDeltas(sum(deltas.values()) / len(deltas), max(by_task))
