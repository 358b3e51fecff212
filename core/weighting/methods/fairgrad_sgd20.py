"""FairGrad as its reinforcement learning was published."""

import math

import torch
from torch import Tensor

from ..base import GramWeighting

STEPS, STEP_SIZE, MOMENTUM, MAX_NORM = 20, 0.1, 0.5, 1.0
OFFSET = 1e-8  # of weights, which stay at least as large


class FairGradSGD20(GramWeighting):
    r"""FairGrad's equation after 20 steps of descent, as in System 2's reinforcement learning.

    Ban & Ji, Fair Resource Allocation in Multi-Task Learning, ICML 2024. Descends
    ``|G w - (w + 1e-8)^(-1/alpha)|^2`` from 1/K by steps of 0.1 with momentum 0.5 and gradients
    clipped to norm 1, and keeps the best of the points before each step. These do not solve the
    equation: a step moves weights by at most about 0.2, so gradients that are long or short leave
    them far from the solution. :mod:`fairgrad <core.weighting.methods.fairgrad>` is exact.

    Properties: positive. Long steps grow the rounding of a sum's order, so that reordering tasks
    may reorder the weights up to some percent only. Waits for no device.

    Args:
        alpha: The fairness, above 0. Published runs take 2.
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.

    Raises:
        ValueError: If ``alpha`` is not above 0.
    """

    properties = frozenset({"positive"})
    has_fixed_kernels = True

    def __init__(self, alpha: float = 2.0, losses: float | str = "plain") -> None:
        super().__init__(losses)
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha is {alpha}, expected a number above 0")
        self.alpha = alpha

    def solve_weights(self, gram: Tensor) -> Tensor:
        """Return the weights, ``(k,)``."""
        power = -1 / self.alpha
        weights = torch.full_like(gram[0], 1 / len(gram))
        moving = torch.zeros_like(weights)
        best, lowest = weights, torch.full_like(weights[0], torch.inf)
        for _ in range(STEPS):
            error = gram @ weights - (weights + OFFSET) ** power
            square = error.square().sum()
            best = torch.where(square < lowest, weights, best)
            lowest = torch.minimum(square, lowest)
            slope = 2 * (gram @ error - power * (weights + OFFSET) ** (power - 1) * error)
            slope = slope * (MAX_NORM / (slope.norm() + 1e-6)).clamp(max=1)
            moving = MOMENTUM * moving + slope
            weights = (weights - STEP_SIZE * moving).clamp(min=OFFSET)
        return best
