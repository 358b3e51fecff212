"""Metrics of tasks with one number or one label per example."""

import torch
from torch import Tensor

from datasets.multitask.base import Accumulator


class AbsoluteError(Accumulator):
    """The mean absolute error, in the unit in which it is reported.

    Args:
        metric: The metric's name.
        scale: What one unit of output and target is in the reported unit.
    """

    def __init__(self, metric: str, scale: float = 1.0) -> None:
        self.metric = metric
        self.scale = scale
        self.total: Tensor | float = 0.0  # a tensor does not wait for the device
        self.count = 0

    def add(self, output: Tensor, target: Tensor) -> Tensor:
        """Take in ``(b,)`` and ``(b,)``; return absolute errors in the reported unit, ``(b,)``."""
        errors = (output - target).double().abs() * self.scale
        self.total = self.total + errors.sum()
        self.count += len(errors)
        return errors

    def values(self) -> dict[str, float]:
        """Return the mean absolute error."""
        return {self.metric: float(self.total) / self.count}


class RelativeError(Accumulator):
    """The root mean square error relative to a deviation: 1 is what the targets' mean reaches.

    Args:
        metric: The metric's name.
        deviation: The deviation of the training targets, in the targets' unit.
    """

    def __init__(self, metric: str, deviation: float) -> None:
        self.metric = metric
        self.deviation = deviation
        self.total: Tensor | float = 0.0  # a tensor does not wait for the device
        self.count = 0

    def add(self, output: Tensor, target: Tensor) -> Tensor:
        """Take in ``(b,)`` and ``(b,)``; return squared relative errors, ``(b,)``."""
        errors = ((output - target).double() / self.deviation).square()
        self.total = self.total + errors.sum()
        self.count += len(errors)
        return errors

    def values(self) -> dict[str, float]:
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

    def add(self, output: Tensor, target: Tensor) -> Tensor:
        """Take in logits ``(b, classes)`` and labels ``(b,)``; return 1 where wrong, ``(b,)``."""
        wrong = (output.argmax(dim=1) != target).to(torch.float64)
        self.total = self.total + wrong.sum()
        self.count += len(wrong)
        return wrong

    def values(self) -> dict[str, float]:
        """Return the accuracy, from 0 to 1."""
        return {self.metric: 1 - float(self.total) / self.count}
