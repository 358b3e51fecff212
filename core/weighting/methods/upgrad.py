"""UPGrad."""

import numpy as np
from torch import Tensor

from ..base import GramWeighting
from ..solvers.active_set import Vector, minimize_nonnegative
from ..solvers.gram import gram_to_array, weights_to_tensor


class UPGrad(GramWeighting):
    r"""The mean of the gradients, each projected onto the directions that conflict with none.

    ``w = (1 / K) sum_i v_i`` with ``v_i`` the minimum of ``v G v`` over ``v >= e_i``: the dual of
    projecting ``g_i`` onto the cone of all ``d`` with ``d g_j >= 0`` for all ``j``. Quinton & Rey,
    Jacobian Descent for Multi-Objective Optimization, 2024. Exact, by an active set.

    Properties: weights of at least 1/K; unchanged when the matrix is scaled; the direction has no
    negative inner product with a gradient. Permutation equivariant where the weights are unique,
    which the direction always is.

    Args:
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.
    """

    properties = frozenset({"positive", "equivariant", "scale_free", "conflict_free"})

    def solve_weights(self, gram: Tensor) -> Tensor:
        """Return the weights, ``(k,)``."""
        matrix = gram_to_array(gram)
        lengths = np.sqrt(np.maximum(matrix.diagonal(), 0))
        lengths = np.where(lengths > 0, lengths, np.inf)  # a zero gradient conflicts with none
        unit = matrix / lengths / lengths[:, None]
        np.fill_diagonal(unit, 1)
        total = np.ones(len(unit)) + sum(
            lengths[i] * _find_lift(unit, row) / lengths
            for i, row in enumerate(unit)
            if row.min() < 0
        )
        return weights_to_tensor(total / len(unit), gram)


def _find_lift(unit: Vector, row: Vector) -> Vector:
    """Return the weights of unit gradients that, added to one, resolve its conflicts.

    The minimum over ``z >= 0`` of the length of ``u_i + sum_j z_j u_j``.
    """
    return minimize_nonnegative(unit, -row)
