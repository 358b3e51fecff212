r"""The equation of alpha-fair weights, ``gram @ w = w ** (-1 / alpha)`` with ``w > 0``.

Ban & Ji, Fair Resource Allocation in Multi-Task Learning, ICML 2024; at alpha = 1 it is the
bargaining solution of Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022.

There is at most one solution, and there is one exactly if 0 is not in the gradients' convex hull.
:mod:`core.weighting.solvers.alpha_fair_newton` finds it, and :func:`replace_unsolvable` lists the
replacements where there is none.
"""

import math
from functools import cache
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .alpha_fair_newton import (
    Equation,
    Vector,
    reduce_max,
    reduce_min,
    reduce_sum,
    solve_equation,
)
from .gram import check_gram

SOLVED, NO_SOLUTION, NOT_FINITE = "solved", "no_solution", "not_finite"
MAX_SOLVED_RESIDUAL = 1e-6  # residual up to which a solution counts as one
MAX_USABLE_RESIDUAL = 1e-2  # residual up to which it serves as well as any replacement
# Squared norm of a point of the hull of unit gradients below which it does not serve: such a
# direction is the rounding of float32 gradients, and its weights are in the millions.
MIN_HULL_NORM = 1e-10


class AlphaFairSolution(NamedTuple):
    """Result of :func:`core.weighting.solve_alpha_fair`.

    Args:
        weights: Positive finite weights, ``(k,)``, with the matrix's type and device. Without a
            solution, gradients that are 0 are left out first, and get the geometric mean of the
            others' weights; the others get those of the nearest point found, if its residual is at
            most 0.01 (rounding kept it from being less) and the gradients do not cancel to 1e-5,
            otherwise inverse-norm weights, under which all gradients are equally long, scaled by
            the equations' sum for orthogonal gradients. For a matrix with NaN or Inf all are equal.
        residual: ``max |(gram @ w - b) / b|`` with ``b = w ** (-1 / alpha)``, in float64, of these
            weights; Inf for a matrix that is not finite.
        status: ``solved`` (residual at most 1e-6, as a rule 1e-9), ``no_solution`` (0 is in the
            hull of the gradients, or too near for the matrix's precision to decide) or
            ``not_finite`` (the matrix has NaN or Inf).
    """

    weights: Tensor
    residual: float
    status: str


def solve_alpha_fair(gram: Tensor, alpha: float) -> AlphaFairSolution:
    """Solve ``gram @ w = w ** (-1 / alpha)`` for ``w > 0`` on the CPU.

    Always returns finite weights. Scaling the matrix by ``s`` scales the weights by
    ``s ** (-alpha / (alpha + 1))``.

    Args:
        gram: Inner products of the task gradients, ``(k, k)``. A matrix on a device is copied to
            the CPU, which waits; :func:`core.weighting.solve_alpha_fair_on_device` does not.
        alpha: The fairness, above 0.

    Returns:
        Weights, ``(k,)``, of unit ``1 / |g|^(2 alpha / (alpha + 1))``, their residual and status.

    Raises:
        TypeError: If the matrix is no tensor.
        ValueError: If ``alpha`` is not above 0, or the matrix not square or not of floating-point
            numbers.
    """
    check_problem(gram, alpha)
    matrix = gram.detach().to("cpu", torch.float64).numpy()
    with np.errstate(all="ignore"):
        weights, residual, status = _solve_gram(matrix, 1 / alpha, get_rounding_noise(gram.dtype))
    found = torch.from_numpy(weights)
    if gram.dtype != torch.float64:
        limits = torch.finfo(gram.dtype)
        found = found.clamp(limits.tiny, limits.max).to(gram.dtype)
    return AlphaFairSolution(found.to(gram.device), residual, status)


def check_problem(gram: Tensor, alpha: float) -> None:
    """Check the arguments of a solver.

    Raises:
        TypeError: If the matrix is no tensor.
        ValueError: If ``alpha`` is not above 0, or the matrix cannot be a Gram matrix.
    """
    # A float first: asking an abstract class takes half a microsecond.
    if not isinstance(alpha, (float, Real)) or not 0 < alpha < math.inf:
        raise ValueError(f"alpha is {alpha!r}, expected a number above 0")
    check_gram(gram)


@cache
def get_rounding_noise(dtype: torch.dtype) -> float:
    """Return the largest rounding error of inner products of unit gradients."""
    return 16 * torch.finfo(dtype).eps


class NearestPoint(NamedTuple):
    """The nearest point to a solution that the iteration found.

    Args:
        weights: Its weights, ``(k,)``.
        residual: Their residual.
        cancels: Whether the unit gradients cancel under them to the rounding of float32.
    """

    weights: Vector
    residual: float
    cancels: bool


def _solve_gram(gram: Vector, beta: float, tolerance: float) -> tuple[Vector, float, str]:
    """Return the solution, or its replacement, with residual and status."""
    # A sum may overflow where the matrix is finite.
    is_finite = math.isfinite(reduce_sum(gram, None)) or bool(np.isfinite(gram).all())
    squares = gram.diagonal()
    nearest = None
    if is_finite and reduce_min(squares) > 0:
        norms = np.sqrt(squares)
        correlations = gram / norms
        correlations /= norms[:, None]
        log_r = (beta - 1) * np.log(norms)
        v = solve_equation(Equation(correlations, log_r, beta), tolerance)
        if v is not None:
            weights = v / norms
            residual = _compute_residual(gram, weights, beta)
            if residual <= MAX_SOLVED_RESIDUAL:  # which weights of 0 or Inf never have
                return weights, residual, SOLVED
            apart = v.dot(correlations.dot(v)) > MIN_HULL_NORM * v.sum() ** 2
            nearest = NearestPoint(weights, residual, not apart)
    return replace_unsolvable(gram, nearest, beta, tolerance)


def replace_unsolvable(
    gram: Vector, nearest: NearestPoint | None, beta: float, tolerance: float
) -> tuple[Vector, float, str]:
    """Return the weights that replace a missing solution, with residual and status.

    The first of these that applies; :mod:`core.weighting.solvers.alpha_fair_device` does the same:

    1. The matrix has NaN or Inf: equal weights ``1 / K``, and the status ``not_finite``.
    2. All gradients are 0: weights of 1.
    3. Some gradients are 0: the others' solution, or its replacement, for they alone determine the
       step; those that are 0 get the geometric mean of these weights.
    4. The nearest point found has a residual of at most :data:`MAX_USABLE_RESIDUAL`, which only
       rounding kept from being less, and the gradients do not cancel: its weights.
    5. Otherwise inverse-norm weights, under which all gradients are equally long, scaled to fit the
       equation.

    Args:
        gram: Inner products of the task gradients, ``(k, k)``.
        nearest: The nearest point found; None if there is none, or in cases 1 to 3.
        beta: ``1 / alpha``.
        tolerance: The largest rounding error of inner products of unit gradients.
    """
    if not np.isfinite(gram).all():
        return np.full(len(gram), 1 / len(gram)), math.inf, NOT_FINITE
    nonzero = gram.diagonal() > 0
    if not nonzero.any():
        return np.ones(len(gram)), 1.0, NO_SOLUTION
    if not nonzero.all():
        others, _, _ = _solve_gram(gram[np.ix_(nonzero, nonzero)], beta, tolerance)
        weights = np.full(len(gram), np.exp(np.log(others).mean()))
        weights[nonzero] = others
    elif nearest is not None and nearest.residual <= MAX_USABLE_RESIDUAL and not nearest.cancels:
        return nearest.weights, nearest.residual, NO_SOLUTION
    else:
        weights = _fit_inverse_norm_weights(np.log(np.sqrt(gram.diagonal())), beta)
    return weights, _compute_residual(gram, weights, beta), NO_SOLUTION


def _compute_residual(gram: Vector, weights: Vector, beta: float) -> float:
    right = weights**-beta
    return float(reduce_max(np.abs((gram.dot(weights) - right) / right)))


def _fit_inverse_norm_weights(log_norms: Vector, beta: float) -> Vector:
    """Return ``c / norms``, with ``c`` from the sum of the equations for orthogonal gradients."""
    largest = ((beta - 1) * log_norms).max()
    mean = np.exp((beta - 1) * log_norms - largest).mean()
    shift = (largest + math.log(mean)) / (1 + beta)
    weights: Vector = np.exp(shift - log_norms)
    return weights
