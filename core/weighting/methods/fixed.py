"""Constant weights."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..base import LossWeighting


class Fixed(LossWeighting):
    """A weighted sum, ``sum_k w_k L_k``.

    Properties: the weights do not depend on the losses.

    Args:
        weights: Weight per loss, by name; a loss that is not named weighs 1. A mapping, or a text
            such as ``depth:2,normals:0.5``.
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.

    Raises:
        ValueError: If a text of weights is malformed.
    """

    has_fixed_kernels = True
    _weights: Tensor

    def __init__(
        self, weights: Mapping[str, float] | str = "", losses: float | str = "plain"
    ) -> None:
        super().__init__(losses)
        self._given = parse_weights(weights) if isinstance(weights, str) else dict(weights)
        self.register_buffer("_weights", torch.ones(0), persistent=False)

    def setup(self, names: Sequence[str]) -> None:
        """Put the weights in the losses' order.

        Raises:
            ValueError: If a weight names no loss.
        """
        unknown = sorted(set(self._given) - set(names))
        if unknown:
            raise ValueError(f"weights of {unknown}, which are no losses; losses: {list(names)}")
        self._weights = torch.tensor([float(self._given.get(name, 1.0)) for name in names])

    def compute_weights(self, losses: Tensor) -> Tensor:
        """Return the given weights, ``(k,)``.

        Raises:
            ValueError: If the names of the losses are unknown.
        """
        if not self._given:
            return torch.ones_like(losses)
        if len(self._weights) != len(losses):
            raise ValueError(
                f"fixed is set up for {len(self._weights)} losses, received {len(losses)}: "
                "call setup with the names of the losses"
            )
        return self._weights.to(losses)


def parse_weights(text: str) -> dict[str, float]:
    """Return the weights by name in a text such as ``depth:2,normals:0.5``.

    Raises:
        ValueError: If the text is not of that form.
    """
    found: dict[str, float] = {}
    for part in text.split(",") if text else []:
        name, _, number = part.partition(":")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not name.strip() or not math.isfinite(value) or name.strip() in found:
            raise ValueError(
                f"weights: received {text!r}, expected a number for each loss that it names, such "
                "as depth:2,normals:0.5"
            )
        found[name.strip()] = value
    return found
