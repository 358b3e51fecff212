"""What goes into a model and what comes out."""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """The examples of one step.

    Args:
        inputs: Model inputs, ``(b, ...)``.
        y: Labels, ``(b,)`` int64.
        group: Groups, ``(b,)`` int64, or None where the benchmark has none.
    """

    inputs: Tensor
    y: Tensor
    group: Tensor | None


class Output(NamedTuple):
    """What a model returns.

    Args:
        outputs: Predictions, such as logits ``(b, classes)``.
        representation: The last hidden representation, ``(b, ...)``.
    """

    outputs: Tensor
    representation: Tensor
