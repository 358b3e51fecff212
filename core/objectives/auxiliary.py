"""The base class of auxiliary objectives, which use training examples of their own, unlabeled."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from core.batch import Batch
from core.models.base import Model
from core.objectives.base import Losses, Objective, Step
from datasets.benchmark import Benchmark

MAX_BATCHES = 1000  # per step: their graphs are in memory together


@dataclass
class Auxiliary(Objective):
    """One loss of further training examples, which needs an encoder.

    Args:
        batch_size: Examples of a batch; None or 0 for as many as the end task.
        batches: Batches per step, whose losses are averaged: System 1's ``mt_grad_acc``.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"encoder"})
    is_auxiliary: ClassVar[bool] = True
    name: ClassVar[str]  # of its loss

    batch_size: int | None = None
    batches: int = 1

    def name_losses(self, benchmark: Benchmark) -> list[str]:
        """Return the name of the loss.

        Raises:
            ValueError: If a number is out of its range.
        """
        if not 1 <= self.batches <= MAX_BATCHES:
            raise ValueError(f"batches {self.batches:,}: expected 1 to {MAX_BATCHES:,}")
        if self.batch_size is not None and self.batch_size < 0:
            raise ValueError(f"batch_size {self.batch_size}: expected at least 0")
        return [self.name]

    def compute_losses(self, step: Step) -> Losses:
        """Compute the mean loss of further examples, ``(1,)``."""
        values, examples = [], 0
        for _ in range(self.batches):
            batch = step.draw_batch(self.batch_size or step.batch.size)
            value, hidden = self.compute_loss(step.model, batch)
            step.record_hidden(hidden, batch.inputs, 1 / self.batches)
            values.append(value)
            examples += batch.size
        mean = values[0] if len(values) == 1 else torch.stack(values).mean()
        return Losses(mean[None], torch.full_like(mean, examples)[None])

    @abstractmethod
    def compute_loss(self, model: Model, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute the mean loss of a batch; return it and the hidden states."""
