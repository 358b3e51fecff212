"""The task itself."""

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
    splits: ClassVar[bool] = True

    def names(self, benchmark: Benchmark) -> list[str]:
        """Return ``["end_task"]``."""
        return ["end_task"]

    def losses(self, step: Step) -> Losses:
        """Return the mean cross-entropy, ``(1,)``."""
        logits = step.output.outputs
        assert isinstance(logits, Tensor)
        value = cross_entropy(logits, step.batch.y)
        return Losses(value[None], torch.full_like(value, step.batch.size)[None])
