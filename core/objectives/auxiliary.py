"""The base class of auxiliary objectives, which use training examples of their own, unlabeled."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from core.batch import Batch
from core.models.base import Model
from core.objectives.base import DrawnExamples, Losses, Objective, Step
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
        drawn = step.drawn.get(self.name)
        for batch, random in drawn or self.draw_examples(
            step.model, step.draw_batch, step.batch.size
        ):
            value, hidden = self.compute_loss(step.model, batch, random)
            step.record_hidden(hidden, batch.inputs, 1 / self.batches)
            values.append(value)
            examples += batch.size
        mean = values[0] if len(values) == 1 else torch.stack(values).mean()
        return Losses(mean[None], torch.full_like(mean, examples)[None])

    def draw_examples(
        self, model: Model, draw_batch: Callable[[int], Batch], size: int
    ) -> Iterator[DrawnExamples]:
        """Draw the batches of a step, each when the iterator comes to it.

        Args:
            model: The model.
            draw_batch: Draws the next batch of a number of training examples.
            size: Examples of the end task's batch.
        """
        for _ in range(self.batches):
            yield self.prepare_batch(model, draw_batch(self.batch_size or size))

    def prepare_batch(self, model: Model, batch: Batch) -> DrawnExamples:
        """Return a batch with all that is drawn for it ahead; nothing by default."""
        return DrawnExamples(batch)

    @abstractmethod
    def compute_loss(
        self, model: Model, batch: Batch, random: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute the mean loss of a batch; return it and the hidden states.

        Args:
            model: The model.
            batch: The batch.
            random: As :meth:`prepare_batch` returned it; None to draw it here.
        """
