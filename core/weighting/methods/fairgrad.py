"""FairGrad."""

import math
from typing import Any

import torch
from torch import Tensor

from core.weighting.base import GramWeighting
from core.weighting.solvers.alpha_fair import SOLVED, alpha_fair
from core.weighting.solvers.alpha_fair_device import alpha_fair_on_device


class FairGrad(GramWeighting):
    r"""Maximises the alpha-fair utility of the tasks' loss decreases: ``G w = w^(-1/alpha)``.

    Ban & Ji, Fair Resource Allocation in Multi-Task Learning, ICML 2024. Solved by
    :func:`core.weighting.alpha_fair`; inside a CUDA graph by its twin that does not wait. The
    published code searches by bounded least squares from 1/K, which ends far from the solution
    where gradients are small; it also multiplies the direction by K and clips its norm to 1.

    Properties: positive, permutation equivariant; scaling the matrix by ``s`` scales the weights by
    ``s^(-alpha/(alpha+1))``; the direction has a positive inner product with every gradient.
    Flagged steps have the solver's replacement
    (:class:`core.weighting.solvers.alpha_fair.AlphaFairSolution`): the solution for the gradients
    that are not 0, otherwise the sum of unit gradients, scaled.

    Args:
        alpha: The fairness, above 0: 1 is proportional fairness (Nash-MTL), large values approach
            max-min fairness of the decreases. Published runs take 2.
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.
    """

    properties = frozenset({"positive", "equivariant", "scale_free", "conflict_free"})

    def __init__(self, alpha: float = 2.0, losses: float | str = "plain") -> None:
        super().__init__(losses)
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha is {alpha}, expected a number above 0")
        self.alpha = alpha
        self.products = 0  # what the last matrix-free step cost; 0 before the first
        self.waited = 0  # exact steps that "auto" took since
        self.fallbacks = 0  # matrix-free steps that did not converge and were made exact

    def set_weights(self, weights: Tensor) -> None:
        """Take note of weights, ``(k,)``, that were found without the Gram matrix."""

    def get_extra_state(self) -> dict[str, int]:
        """Return what the choice of the way to the gradients depends on."""
        return {"products": self.products, "waited": self.waited, "fallbacks": self.fallbacks}

    def set_extra_state(self, state: Any) -> None:
        """Go on from :meth:`get_extra_state`."""
        self.products, self.waited = int(state["products"]), int(state["waited"])
        self.fallbacks = int(state["fallbacks"])

    def solve_weights(self, gram: Tensor) -> Tensor:
        """Return the weights, ``(k,)``."""
        # A graph cannot wait for the host. Elsewhere a copy of K x K numbers there and back is
        # quicker than the couple of thousand small kernels that stay on the device.
        if gram.is_cuda and torch.cuda.is_current_stream_capturing():
            on_device = alpha_fair_on_device(gram, self.alpha)
            self._flag(on_device.status > 0)
            return on_device.weights
        solution = alpha_fair(gram, self.alpha)
        self._flag(solution.status != SOLVED)
        return solution.weights
