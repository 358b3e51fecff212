"""The multiple-gradient descent algorithm."""

import numpy as np
from torch import Tensor

from core.weighting.base import GramWeighting
from core.weighting.solvers.active_set import find_min_norm_weights
from core.weighting.solvers.gram import gram_to_array, weights_to_tensor


class MGDA(GramWeighting):
    r"""The shortest vector in the hull of the gradients: ``min |sum_k w_k g_k|`` on the simplex.

    Désidéri, Multiple-gradient descent algorithm for multiobjective optimization, C. R. Math. 2012;
    Sener & Koltun, Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018, whose
    Frank-Wolfe search stops early; here an active set finds the minimum up to rounding. (The
    published multi-task code multiplies the weights by K, as ``times_losses`` does in training.)

    Properties: non-negative, sum 1, unchanged when the matrix is scaled; the direction has no
    negative inner product with a gradient, and is 0 where 0 is in the hull. Permutation equivariant
    where the weights are unique, which the direction always is. A zero gradient gets all weight.

    Args:
        normalise: Whether to use unit gradients, as the "l2" variant of the published code does;
            the weights still multiply the gradients as they are.
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.
    """

    properties = frozenset({"positive", "simplex", "equivariant", "scale_free", "conflict_free"})

    def __init__(self, normalise: bool = False, losses: float | str = "plain") -> None:
        super().__init__(losses)
        self.normalise = normalise

    def solve_weights(self, gram: Tensor) -> Tensor:
        """Return the weights, ``(k,)``."""
        matrix = gram_to_array(gram)
        if self.normalise:
            lengths = matrix.diagonal() ** 0.5
            lengths = np.where(lengths > 0, lengths, 1)
            matrix = matrix / lengths / lengths[:, None]
        return weights_to_tensor(find_min_norm_weights(matrix), gram)
