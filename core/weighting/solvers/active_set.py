"""Exact solvers on the CPU: quadratic functions over ``x >= 0``, and shortest vectors of hulls.

Lawson & Hanson, Solving Least Squares Problems, 1974, chapter 23, on the normal equations: the set
of positive variables grows by the one that gains most and shrinks where one would turn negative,
until no variable would gain. Finite, and exact up to rounding, where descent methods stop near the
solution. The linear systems have the size of the positive set.
"""

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
EPSILON = float(np.finfo(np.float64).eps)


def minimize_nonnegative(matrix: Vector, linear: Vector) -> Vector:
    """Return the ``x >= 0``, ``(k,)``, that minimizes ``x matrix x / 2 - linear x``.

    Args:
        matrix: Positive semidefinite, ``(k, k)``, with a diagonal of order 1; the minimum exists.
        linear: ``(k,)``.
    """
    x = np.zeros(len(linear))
    positive = np.zeros(len(linear), dtype=bool)
    refused = np.zeros(len(linear), dtype=bool)  # since the last progress
    for _ in range(10 * len(linear) + 10):
        gain = linear - matrix @ x
        gain[positive | refused] = -np.inf
        entering = int(gain.argmax())
        if gain[entering] <= 10 * EPSILON * len(x) * (1 + np.abs(x).max()):
            break
        positive[entering] = True
        if _minimize_over(matrix, linear, x, positive, entering):
            refused[:] = False
        else:  # its gain was rounding
            refused[entering] = True
    return x


def _minimize_over(
    matrix: Vector, linear: Vector, x: Vector, positive: NDArray[np.bool_], entering: int
) -> bool:
    """Move ``x`` to the minimum over its positive set, dropping variables that turn 0 on the way.

    Returns:
        Whether the variable that enters stayed; where not, ``x`` and the set are as before it came.
    """
    from scipy.linalg.lapack import dposv  # here: slow to import, and few methods need it

    while True:
        index = np.flatnonzero(positive)
        target, failed = dposv(matrix[np.ix_(index, index)], linear[index])[1:]
        entered = target[index == entering][0]
        if failed or np.isnan(entered) or (x[entering] == 0 and entered <= 0):
            positive[entering] = False
            return False
        if target.min() > 0:
            x[:] = 0
            x[index] = target
            return True
        here = x[index]
        reach = np.where(target <= 0, here / (here - target), np.inf)
        x[index] = np.maximum(here + reach.min() * (target - here), 0)
        leaving = index[reach <= reach.min() * (1 + 4 * EPSILON)]
        x[leaving] = 0
        positive[leaving] = False


def find_min_norm_weights(gram: Vector) -> Vector:
    """Return the weights, ``(k,)`` with sum 1, of the shortest vector in a hull.

    Args:
        gram: Inner products of the vectors, ``(k, k)``, finite. The vectors' lengths may differ by
            any factor: the problem is solved for unit vectors.
    """
    lengths = np.sqrt(np.maximum(gram.diagonal(), 0))
    zero = lengths == 0
    if zero.any():
        weights: Vector = zero / zero.sum()
        return weights
    # With x = z / sum(z), the minimum of z (G + 1 1') z / 2 - sum(z) over z >= 0 is at the shortest
    # vector: on both, G z is one constant where z > 0 and nowhere less.
    relative = lengths.min() / lengths
    unit = gram / lengths / lengths[:, None]
    found = minimize_nonnegative(unit + np.outer(relative, relative), relative) * relative
    shares: Vector = found / found.sum()
    return shares
