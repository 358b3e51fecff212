"""One loss per task."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from core.objectives.base import Losses, Objective, Step
from datasets.benchmark import Benchmark
from datasets.multitask.base import TaskBenchmark


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy over labels other than -1; 0 if there is none.

    Args:
        output: Logits, ``(b, classes, ...)``.
        target: Labels, ``(b, ...)``.
    """
    total = functional.cross_entropy(output, target.long(), ignore_index=-1, reduction="sum")
    return total / (target != -1).sum().clamp(min=1)


def masked_l1(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute error over pixels with a target, ``(b, 1, h, w)``.

    Pixels whose target is 0 have none; the error is 0 if no pixel has one.
    """
    mask = target != 0
    return ((output - target).abs() * mask).sum() / mask.sum().clamp(min=1)


def cosine(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean of 1 - cosine over pixels whose target is not 0, ``(b, 3, h, w)``."""
    mask = (target != 0).any(dim=1)
    similarity = functional.cosine_similarity(output, target, dim=1)
    return ((1 - similarity) * mask).sum() / mask.sum().clamp(min=1)


def binary_cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of logits, ``(b,)``; labels 0 or 1."""
    return functional.binary_cross_entropy_with_logits(output, target.to(output.dtype))


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error, ``(b,)``."""
    return functional.mse_loss(output, target)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    function.__name__: function
    for function in (cross_entropy, masked_l1, cosine, binary_cross_entropy, squared_error)
}


@dataclass
class TaskLosses(Objective):
    """The loss of each task of the benchmark, by the task's name."""

    needs: ClassVar[frozenset[str]] = frozenset({"tasks"})
    has_fixed_kernels: ClassVar[bool] = True

    def name_losses(self, benchmark: Benchmark) -> list[str]:
        """Return the names of the tasks.

        Raises:
            ValueError: If the benchmark has no tasks.
        """
        if not benchmark.task_names:
            raise ValueError(f"'{benchmark.name}' is not a multi-task data set")
        if isinstance(benchmark, TaskBenchmark):  # of environments, the learner has the losses
            self._losses = {task.name: LOSSES[task.loss] for task in benchmark.tasks}
        return list(benchmark.task_names)

    def compute_losses(self, step: Step) -> Losses:
        """Compute the tasks' losses, as scalars."""
        outputs, targets = step.output.outputs, step.batch.targets
        assert not isinstance(outputs, Tensor)
        values = [loss(outputs[name].float(), targets[name]) for name, loss in self._losses.items()]
        counts = torch.full((len(values),), step.batch.size, device=values[0].device)
        return Losses(values, counts)
