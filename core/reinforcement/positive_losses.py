"""Positive losses for weightings that depend on the losses' sizes."""

import torch
from torch import Tensor

MARGIN = 1.0  # of the lowest loss so far


class LowestLosses:
    """Raises losses of either sign above 0 by the lowest value of each so far.

    An actor's loss is an entropy minus a value, whose zero means nothing. A weighting such as FAMO
    or uncertainty weighting reads it as a distance from the best value: of the raised losses the
    lowest so far is :data:`MARGIN`. Their gradients are those of the losses.

    Args:
        tasks: Number of losses.
        device: Where they are.
        dtype: Type of the numbers.
    """

    def __init__(self, tasks: int, device: torch.device | str, dtype: torch.dtype) -> None:
        self.values = torch.full((tasks,), torch.inf, device=device, dtype=dtype)

    def raise_losses(self, losses: Tensor) -> Tensor:
        """Take losses, ``(k,)``, in and return them raised, differentiable."""
        self.values.copy_(torch.minimum(self.values, losses.detach()))
        return self.raise_again(losses)

    def raise_again(self, losses: Tensor) -> Tensor:
        """Return losses, ``(k,)``, raised as the last ones, at least to a small positive number."""
        return (losses - self.values + MARGIN).clamp(min=1e-3 * MARGIN)
