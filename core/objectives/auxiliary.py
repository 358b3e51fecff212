"""The base class of auxiliary objectives, which use training examples of their own, unlabelled."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from core.batch import Batch
from core.models.base import Model
from core.objectives.base import Losses, Objective, Step
from datasets.benchmark import Benchmark


@dataclass
class Auxiliary(Objective):
    """One loss of further training examples, which needs an encoder.

    Args:
        batch_size: Examples per step; None or 0 for as many as the end task.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"encoder"})
    is_auxiliary: ClassVar[bool] = True
    name: ClassVar[str]  # of its loss

    batch_size: int | None = None

    def name_losses(self, benchmark: Benchmark) -> list[str]:
        """Return the name of the loss.

        Raises:
            ValueError: If the number of examples is negative.
        """
        if self.batch_size is not None and self.batch_size < 0:
            raise ValueError(f"batch_size {self.batch_size}: expected at least 0")
        return [self.name]

    def compute_losses(self, step: Step) -> Losses:
        """Compute the mean loss of further examples, ``(1,)``."""
        batch = step.draw_batch(self.batch_size or step.batch.size)
        value, hidden = self.compute_loss(step.model, batch)
        step.hidden.append(hidden)
        return Losses(value[None], torch.full_like(value, batch.size)[None])

    @abstractmethod
    def compute_loss(self, model: Model, batch: Batch) -> tuple[Tensor, Tensor]:
        """Compute the mean loss of a batch; return it and the hidden states."""
