"""Conflict-averse gradient descent."""

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..base import GramWeighting
from ..errors import require_at_least
from ..solvers.active_set import Vector, find_min_norm_weights
from ..solvers.gram import gram_to_array, weights_to_tensor

MAX_SEARCH_STEPS = 60  # 3 to 6 are usual
MIN_RELATIVE_LENGTH = 1e-6  # length of g_w, in shortest gradients, below which it counts as 0


class CAGrad(GramWeighting):
    r"""The direction near the mean gradient that is best for the worst task.

    ``max_d min_k g_k d`` over ``|d - g_0| <= c |g_0|``, ``g_0`` the mean gradient: with ``g_w``
    ``= sum_k w_k g_k`` minimizing ``g_w g_0 + c |g_0| |g_w|`` on the simplex, it is
    ``d = g_0 + (c |g_0| / |g_w|) g_w``. Liu, Liu, Jin, Stone & Liu, Conflict-Averse Gradient
    Descent for Multi-task Learning, NeurIPS 2021. The published code minimizes by SLSQP with
    absolute tolerances, which fails for small gradients; it also multiplies ``d`` by K.

    Exact here: ``w`` is the shortest vector in the hull of ``g_k + t g_0`` for the ``t`` with
    ``|g_w| = c |g_0| t``. On one active set ``w`` is linear in ``t``, so that ``t`` solves a
    quadratic equation; a few active sets lead to the right one.

    Properties: unchanged when the matrix is scaled; permutation equivariant where the weights are
    unique, which the direction always is; non-negative unless 0 is in the hull. The direction's
    worst inner product with a gradient is at least that of ``g_0``. Gradients that are 0 count for
    ``g_0`` only, as no direction reduces their losses.

    Args:
        c: Radius around the mean gradient relative to its length, at least 0; 0 is the mean, and
            below 1 the average loss still falls.
        rescale: Divisor of ``d``: 0 for none, 1 for ``1 + c^2`` (published), 2 for ``1 + c``.
        losses: ``plain``, ``log`` or the alpha of alpha-fair losses.

    Raises:
        ValueError: If ``c`` or ``rescale`` is out of its range.
    """

    properties = frozenset({"equivariant", "scale_free"})

    def __init__(self, c: float = 0.4, rescale: int = 1, losses: float | str = "plain") -> None:
        super().__init__(losses)
        require_at_least(0, c=c)
        if rescale not in (0, 1, 2):
            raise ValueError(f"rescale is {rescale}, expected 0, 1 or 2")
        self.c = c
        self.divisor = (1.0, 1 + c**2, 1 + c)[rescale]

    def solve_weights(self, gram: Tensor) -> Tensor:
        """Return the weights, ``(k,)``."""
        matrix = gram_to_array(gram)
        # Sums and quotients of the largest numbers stay finite; a power of 2 rounds nothing.
        matrix = np.ldexp(matrix, -np.frexp(matrix.diagonal().max())[1])
        square = matrix.mean()  # of the mean gradient's length
        nonzero = np.flatnonzero(matrix.diagonal() > 0)
        added = np.zeros(len(matrix))
        # A mean that is rounding compared with the gradients leaves no ball to search.
        if self.c and len(nonzero) and square > 1e-14 * matrix.diagonal().max():
            towards = matrix.mean(1)[nonzero] / square
            added[nonzero] = _compute_correction(
                matrix[np.ix_(nonzero, nonzero)] / square, towards, self.c
            )
        return weights_to_tensor((1 / len(matrix) + added) / self.divisor, gram)


def _compute_correction(gram: Vector, towards: Vector, c: float) -> Vector:
    """Return ``(c / |g_w|) w``, ``(k,)``.

    Args:
        gram: Inner products of gradients that are not 0, ``(k, k)``, relative to ``|g_0|^2``.
        towards: Their inner products with ``g_0``, likewise, ``(k,)``.
        c: The radius.
    """
    squares = gram.diagonal()
    shortest = MIN_RELATIVE_LENGTH * math.sqrt(squares.min()) / c
    low, high = 0.0, math.sqrt(squares.max()) / c
    t = min(1 / c, high)
    for _ in range(MAX_SEARCH_STEPS):
        moved = gram + t * (towards + towards[:, None]) + t * t
        intercept, slope = _solve_on_active_set(
            gram, towards, np.flatnonzero(find_min_norm_weights(moved))
        )
        root = _find_root(gram, intercept, slope, c)
        weights = intercept + t * slope
        if weights @ gram @ weights > (c * t) ** 2:
            low = t
        elif t <= shortest:  # g_w is 0: its slope alone determines the direction
            return slope
        else:
            high = t
        if abs(root - t) <= 1e-12 * t:
            break
        t = max(root if low < root < high else (low + high) / 2 if low else high / 1000, shortest)
    return intercept / t + slope


def _solve_on_active_set(
    gram: Vector, towards: Vector, active: NDArray[np.intp]
) -> tuple[Vector, Vector]:
    """Return ``a`` and ``b``: ``w = a + t b`` is stationary on the active set.

    ``G w + t towards`` is constant there, and the weights sum to 1. Solved for unit gradients.
    """
    size = len(active)
    lengths = np.sqrt(gram.diagonal()[active])
    relative = lengths.min() / lengths
    system = np.zeros((size + 1, size + 1))
    system[:size, :size] = gram[np.ix_(active, active)] / lengths / lengths[:, None]
    system[:size, size] = system[size, :size] = relative
    right = np.zeros((size + 1, 2))
    right[size, 0] = lengths.min()
    right[:size, 1] = -towards[active] / lengths
    found = np.linalg.lstsq(system, right)[0][:size] / lengths[:, None]
    lines = np.zeros((2, len(gram)))
    lines[:, active] = found.T
    return lines[0], lines[1]


def _find_root(gram: Vector, intercept: Vector, slope: Vector, c: float) -> float:
    """Return the least positive ``t`` with ``|g_(a + t b)| = c t``, 0 if there is none."""
    square = float(slope @ gram @ slope) - c * c
    mixed = float(intercept @ gram @ slope)
    rest = max(float(intercept @ gram @ intercept), 0.0)
    inside = mixed * mixed - square * rest
    if inside < 0 or square == 0:
        return 0.0
    roots = ((-mixed + sign * math.sqrt(inside)) / square for sign in (1, -1))
    return min((root for root in roots if root > 0), default=0.0)
