"""The sum of the losses."""

import torch
from torch import Tensor

from core.weighting.base import LossWeighting


class LinearScalarization(LossWeighting):
    """The sum of the losses, ``sum_k L_k``: the baseline of all weightings.

    Properties: positive, permutation equivariant; the step scales with each loss.

    Args:
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.
    """

    properties = frozenset({"positive", "equivariant"})

    def compute_weights(self, losses: Tensor) -> Tensor:
        """Return ones, ``(k,)``."""
        return torch.ones_like(losses)
