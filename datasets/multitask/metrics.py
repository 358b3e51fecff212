"""Metrics of tasks: accumulators, and those of one number or one label per example."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor


class Accumulator(ABC):
    """Accumulates the metrics of one task, batch by batch."""

    batch_averaged: ClassVar[bool] = False  # whether the published code averages it over batches

    @abstractmethod
    def update(self, output: Tensor, target: Tensor) -> Tensor:
        """Add a batch, ``(b, ...)``; return each example's error, ``(b,)``, lower is better."""

    @abstractmethod
    def compute_metrics(self) -> dict[str, float]:
        """Return the metrics of all batches."""


class AbsoluteError(Accumulator):
    """The mean absolute error, in the unit in which it is reported.

    Args:
        metric: The metric's name.
        scale: The size of one unit of output and target in the reported unit.
    """

    def __init__(self, metric: str, scale: float = 1.0) -> None:
        self.metric = metric
        self.scale = scale
        self.total: Tensor | float = 0.0  # a tensor does not wait for the device
        self.count = 0

    def update(self, output: Tensor, target: Tensor) -> Tensor:
        """Add ``(b,)`` and ``(b,)``; return absolute errors in the reported unit, ``(b,)``."""
        errors = (output - target).double().abs() * self.scale
        self.total = self.total + errors.sum()
        self.count += len(errors)
        return errors

    def compute_metrics(self) -> dict[str, float]:
        """Return the mean absolute error."""
        return {self.metric: float(self.total) / self.count}


class RelativeError(Accumulator):
    """The root mean square error relative to a deviation: the targets' mean gets 1.

    Args:
        metric: The metric's name.
        deviation: The deviation of the training targets, in the targets' unit.
    """

    def __init__(self, metric: str, deviation: float) -> None:
        self.metric = metric
        self.deviation = deviation
        self.total: Tensor | float = 0.0  # a tensor does not wait for the device
        self.count = 0

    def update(self, output: Tensor, target: Tensor) -> Tensor:
        """Add ``(b,)`` and ``(b,)``; return squared relative errors, ``(b,)``."""
        errors = ((output - target).double() / self.deviation).square()
        self.total = self.total + errors.sum()
        self.count += len(errors)
        return errors

    def compute_metrics(self) -> dict[str, float]:
        """Return the relative root mean square error."""
        return {self.metric: (float(self.total) / self.count) ** 0.5}


class LabelAccuracy(Accumulator):
    """The share of examples whose largest logit is that of the label.

    Args:
        metric: The metric's name.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.total: Tensor | float = 0.0  # a tensor does not wait for the device
        self.count = 0

    def update(self, output: Tensor, target: Tensor) -> Tensor:
        """Add logits ``(b, classes)`` and labels ``(b,)``; return 1 where wrong, ``(b,)``."""
        wrong = (output.argmax(dim=1) != target).to(torch.float64)
        self.total = self.total + wrong.sum()
        self.count += len(wrong)
        return wrong

    def compute_metrics(self) -> dict[str, float]:
        """Return the accuracy, from 0 to 1."""
        return {self.metric: 1 - float(self.total) / self.count}


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

    def update(self, output: Tensor, target: Tensor) -> Tensor:
        """Add logits ``(b,)`` and labels ``(b,)``, 0 or 1; return 1 where wrong, ``(b,)``."""
        predicted, present = output > 0, target > 0
        wrong = predicted != present
        parts = (predicted & present, predicted & ~present, ~predicted & present)
        counts = torch.stack([part.sum() for part in parts])
        self._counts = self._counts.to(counts.device) + counts
        return wrong.float()

    def compute_metrics(self) -> dict[str, float]:
        """Return F1."""
        hits, false_alarms, misses = self._counts.tolist()
        denominator = 2 * hits + false_alarms + misses
        return {self.name: 2 * hits / denominator if denominator else 0.0}
