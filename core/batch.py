"""The examples of a step, with targets and groups, and the outputs of a model.

The texts and images of a batch are padded by :mod:`datasets.storage.padding`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from datasets.benchmark import Outputs


class Batch(NamedTuple):
    """The examples of one step, on the device.

    Args:
        inputs: Model inputs: ``(b, ...)``, or a named tuple of tensors for images and texts.
        targets: Targets by task, ``(b, ...)``.
        group: Groups, ``(b,)`` int64, or None where the benchmark has none.
    """

    inputs: Any
    targets: Mapping[str, Tensor]
    group: Tensor | None

    @property
    def y(self) -> Tensor:
        """The labels of classification, ``(b,)`` int64."""
        return self.targets["y"]

    @property
    def size(self) -> int:
        """The number of examples."""
        return len(next(iter(self.targets.values())))


class Output(NamedTuple):
    """The outputs of a model.

    Args:
        outputs: Predictions: logits ``(b, classes)``, or by task.
        representation: The last hidden representation, ``(b, ...)``.
        features: The tensors between shared parameters and task heads, all that the outputs know
            of the shared parameters; None where there are no such tensors, or no heads.
    """

    outputs: Outputs
    representation: Tensor
    features: tuple[Tensor, ...] | None = None
