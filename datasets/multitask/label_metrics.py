"""Metrics of binary attributes."""

import torch
from torch import Tensor

from datasets.multitask.base import Accumulator


class F1(Accumulator):
    """F1 of one attribute: ``2 tp / (2 tp + fp + fn)``, predicted where the probability is over .5.

    0 where the attribute is neither present nor predicted, as in the published code of FAMO and
    FairGrad, which adds 1e-8 to the denominators.

    Args:
        name: The metric's name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._counts = torch.zeros(3, dtype=torch.int64)

    def add(self, output: Tensor, target: Tensor) -> Tensor:
        """Take in logits ``(b,)`` and labels ``(b,)``, 0 or 1; return 1 where wrong, ``(b,)``."""
        predicted, present = output > 0, target > 0
        wrong = predicted != present
        parts = (predicted & present, predicted & ~present, ~predicted & present)
        counts = torch.stack([part.sum() for part in parts])
        self._counts = self._counts.to(counts.device) + counts
        return wrong.float()

    def values(self) -> dict[str, float]:
        """Return F1."""
        hits, false_alarms, misses = self._counts.tolist()
        denominator = 2 * hits + false_alarms + misses
        return {self.name: 2 * hits / denominator if denominator else 0.0}
