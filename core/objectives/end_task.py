"""The task itself."""

from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from core.batch import Batch, Output
from core.objectives.base import Losses, Objective
from datasets.benchmark import Benchmark


@dataclass
class EndTask(Objective):
    """Mean cross-entropy of the batch: one loss, ``end_task``."""

    def names(self, benchmark: Benchmark) -> list[str]:
        """Return ``["end_task"]``."""
        return ["end_task"]

    def losses(self, batch: Batch, output: Output) -> Losses:
        """Return the mean cross-entropy, ``(1,)``."""
        value = cross_entropy(output.outputs, batch.y)
        return Losses(value[None], torch.full_like(value, len(batch.y))[None])
