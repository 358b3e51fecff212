r"""The equation of alpha-fair weights, ``gram @ w = w ** (-1 / alpha)`` with ``w > 0``.

Ban & Ji, Fair Resource Allocation in Multi-Task Learning, ICML 2024; at alpha = 1 it is the
bargaining solution of Navon et al., Multi-Task Learning as a Bargaining Game, ICML 2022.

There is at most one solution, and there is one exactly if no point of the gradients' hull is 0.
:mod:`core.weighting.solvers.alpha_fair_newton` finds it.
"""

import math
from functools import cache
from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.weighting.solvers.alpha_fair_newton import (
    Equation,
    Vector,
    reduce_max,
    reduce_min,
    reduce_sum,
    solve_equation,
)
from core.weighting.solvers.gram import check_gram

SOLVED, NO_SOLUTION, NOT_FINITE = "solved", "no_solution", "not_finite"
MAX_SOLVED_RESIDUAL = 1e-6  # residual up to which a solution counts as one
MAX_USABLE_RESIDUAL = 1e-2  # residual up to which it serves as well as any replacement
# Squared norm of a point of the hull of unit gradients below which it does not serve: such a
# direction is the rounding of float32 gradients, and its weights are millions.
MIN_HULL_NORM = 1e-10


class AlphaFairSolution(NamedTuple):
    """Result of :func:`core.weighting.solve_alpha_fair`.

    Args:
        weights: Positive finite weights, ``(k,)``, with the matrix's type and device. Without a
            solution they are those of the nearest point found, if its residual is at most 0.01
            (rounding kept it from being less) and the gradients do not cancel to 1e-5, otherwise
            weights under which all gradients are equally long, scaled by the equations' sum for
            orthogonal gradients. Gradients that are 0 are left out first, and get the geometric
            mean of the others' weights.
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
    """Solve ``gram @ w = w ** (-1 / alpha)`` for ``w > 0`` on the CPU; never fails.

    Scaling the matrix by ``s`` scales the weights by ``s ** (-alpha / (alpha + 1))``.

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


def _solve_gram(gram: Vector, beta: float, tolerance: float) -> tuple[Vector, float, str]:
    """Return weights, residual and status."""
    if (
        not math.isfinite(reduce_sum(gram, None)) and not np.isfinite(gram).all()
    ):  # a sum may overflow
        return np.full(len(gram), 1 / len(gram)), math.inf, NOT_FINITE
    squares = gram.diagonal()
    if reduce_min(squares) <= 0:
        return _solve_without_zeros(gram, beta, tolerance)
    norms = np.sqrt(squares)
    correlations = gram / norms
    correlations /= norms[:, None]
    log_norms = np.log(norms)
    v = solve_equation(Equation(correlations, (beta - 1) * log_norms, beta), tolerance)
    if v is not None:
        weights = v / norms
        residual = _compute_residual(gram, weights, beta)
        if residual <= MAX_SOLVED_RESIDUAL:  # which weights of 0 or Inf never have
            return weights, residual, SOLVED
        if (
            residual <= MAX_USABLE_RESIDUAL
            and v.dot(correlations.dot(v)) > MIN_HULL_NORM * v.sum() ** 2
        ):
            return weights, residual, NO_SOLUTION
    weights = _compute_equal_lengths(log_norms, beta)
    return weights, _compute_residual(gram, weights, beta), NO_SOLUTION


def _compute_residual(gram: Vector, weights: Vector, beta: float) -> float:
    right = weights**-beta
    return float(reduce_max(np.abs((gram.dot(weights) - right) / right)))


def _compute_equal_lengths(log_norms: Vector, beta: float) -> Vector:
    """Return ``c / norms``, with ``c`` from the sum of the equations for orthogonal gradients."""
    largest = ((beta - 1) * log_norms).max()
    mean = np.exp((beta - 1) * log_norms - largest).mean()
    shift = (largest + math.log(mean)) / (1 + beta)
    weights: Vector = np.exp(shift - log_norms)
    return weights


def _solve_without_zeros(gram: Vector, beta: float, tolerance: float) -> tuple[Vector, float, str]:
    """Solve for the gradients that are not 0: they alone determine the step."""
    nonzero = gram.diagonal() > 0
    if not nonzero.any():
        return np.ones(len(gram)), 1.0, NO_SOLUTION
    weights, _, _ = _solve_gram(gram[np.ix_(nonzero, nonzero)], beta, tolerance)
    found = np.full(len(gram), np.exp(np.log(weights).mean()))
    found[nonzero] = weights
    return found, _compute_residual(gram, found, beta), NO_SOLUTION
