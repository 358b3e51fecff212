"""Random loss weighting."""

import torch
from torch import Tensor

from ..base import LossWeighting


class RandomLossWeighting(LossWeighting):
    """Weights drawn anew in every step, ``softmax(z)`` with ``z`` standard normal.

    Lin et al., Reasonable Effectiveness of Random Weighting: A Litmus Test for Multi-Task Learning,
    TMLR 2022. Drawn from torch's global generator.

    Properties: positive, sum 1; permutation equivariant in distribution; the weights do not depend
    on the losses.

    Args:
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.
    """

    properties = frozenset({"positive", "simplex"})
    has_fixed_kernels = True

    def compute_weights(self, losses: Tensor) -> Tensor:
        """Return this step's draw, ``(k,)``."""
        return torch.randn_like(losses).softmax(0)
