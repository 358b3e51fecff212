"""Gradients of the parameters that belong to one or several losses."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .accumulation import accumulate_gradients, list_trainable


class HeadGradients:
    """Gradients of the heads' parameters, by loss where they are weighted, else their sum.

    Args:
        parameters: The parameters.
        is_weighted: Whether each loss's share is multiplied by its weight.
    """

    def __init__(self, parameters: Iterable[Tensor], is_weighted: bool) -> None:
        self.parameters = list_trainable("heads", parameters)
        self.is_weighted = is_weighted
        # For each parameter; the key None holds the sum over losses.
        self._shares: list[dict[int | None, Tensor]] = [{} for _ in self.parameters]

    def add_gradients(
        self, loss: int, gradients: Sequence[Tensor | None], indices: Iterable[int] | None = None
    ) -> None:
        """Add the gradients of one loss.

        Args:
            loss: Its index.
            gradients: Gradients of the parameters; None counts as 0.
            indices: Indices of these parameters; None for all.
        """
        key = loss if self.is_weighted else None
        everything = range(len(self.parameters))
        for index, gradient in zip(
            everything if indices is None else indices, gradients, strict=True
        ):
            shares = self._shares[index]
            if gradient is not None:
                shares[key] = shares[key] + gradient if key in shares else gradient

    def accumulate(self, weights: Tensor | None) -> None:
        """Add the gradients to ``.grad``, with weights, ``(k,)``, where they count."""
        sums: list[Tensor | None] = []
        for shares in self._shares:
            parts = [
                part if loss is None or weights is None else part * weights[loss].to(part)
                for loss, part in shares.items()
            ]
            sums.append(torch.stack(parts).sum(0) if len(parts) > 1 else next(iter(parts), None))
        accumulate_gradients(self.parameters, sums)
