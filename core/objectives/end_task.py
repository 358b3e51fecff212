"""The end task's loss."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from core.objectives.base import Losses, Objective, Step
from datasets.benchmark import Benchmark


@dataclass
class EndTask(Objective):
    """Mean cross-entropy of the batch: one loss, ``end_task``."""

    needs: ClassVar[frozenset[str]] = frozenset({"classification"})
    loss_names: ClassVar[str] = "end_task"
    is_example_mean: ClassVar[bool] = True
    has_fixed_kernels: ClassVar[bool] = True

    def name_losses(self, benchmark: Benchmark) -> list[str]:
        """Return ``["end_task"]``."""
        return ["end_task"]

    def compute_losses(self, step: Step) -> Losses:
        """Compute the mean cross-entropy, ``(1,)``."""
        logits = step.output.outputs
        assert isinstance(logits, Tensor)
        value = cross_entropy(logits, step.batch.y)
        return Losses(value[None], torch.full_like(value, step.batch.size)[None])
