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

from core.weighting.solvers.alpha_fair_newton import Equation, Vector, add, iterate, least, most
from core.weighting.solvers.gram import check as check_matrix

SOLVED, NO_SOLUTION, NOT_FINITE = "solved", "no_solution", "not_finite"
ACCEPTED = 1e-6  # residual up to which a solution counts as one
USABLE = 1e-2  # residual up to which it serves as well as any replacement
# But for a point of the hull of unit gradients whose square is less: such a direction is the
# rounding of float32 gradients, and its weights are millions.
OPPOSED = 1e-10


class AlphaFairSolution(NamedTuple):
    """What :func:`alpha_fair` found.

    Args:
        weights: Positive finite weights, ``(k,)``, in the matrix's type and place. Without a
            solution they are those of the nearest point found, if its residual is at most 0.01
            (rounding kept it from being less) and the gradients do not cancel to 1e-5, otherwise
            weights under which all gradients are equally long, scaled by the equations' sum for
            orthogonal gradients. Gradients that are 0 are left out first, and get the geometric
            mean of the others' weights.
        residual: ``max |(gram @ w - b) / b|`` with ``b = w ** (-1 / alpha)``, in float64, of these
            weights; Inf for a matrix that is not finite.
        status: ``solved`` (residual at most 1e-6, as a rule 1e-9), ``no_solution`` (0 is in the
            hull of the gradients, or so near to it that the matrix's precision cannot tell) or
            ``not_finite`` (the matrix has NaN or Inf).
    """

    weights: Tensor
    residual: float
    status: str


def alpha_fair(gram: Tensor, alpha: float) -> AlphaFairSolution:
    """Solve ``gram @ w = w ** (-1 / alpha)`` for ``w > 0`` on the host; never fails.

    Scaling the matrix by ``s`` scales the weights by ``s ** (-alpha / (alpha + 1))``.

    Args:
        gram: Inner products of the tasks' gradients, ``(k, k)``. A matrix on a device is copied to
            the host, which waits for it; :func:`core.weighting.alpha_fair_on_device` does not.
        alpha: The fairness, above 0.

    Raises:
        ValueError: If ``alpha`` is not above 0 or the matrix not square: mistakes of the caller.
    """
    check(gram, alpha)
    matrix = gram.detach().to("cpu", torch.float64).numpy()
    with np.errstate(all="ignore"):
        weights, residual, status = _solve(matrix, 1 / alpha, noise(gram.dtype))
    found = torch.from_numpy(weights)
    if gram.dtype != torch.float64:
        limits = torch.finfo(gram.dtype)
        found = found.clamp(limits.tiny, limits.max).to(gram.dtype)
    return AlphaFairSolution(found.to(gram.device), residual, status)


def check(gram: Tensor, alpha: float) -> None:
    """Refuse what is no alpha or no Gram matrix.

    Raises:
        ValueError: If so.
    """
    # A float first: to ask an abstract class takes half a microsecond.
    if not isinstance(alpha, (float, Real)) or not 0 < alpha < math.inf:
        raise ValueError(f"alpha is {alpha!r}, expected a number above 0")
    check_matrix(gram)


@cache
def noise(dtype: torch.dtype) -> float:
    """Return by how much rounding may have moved the inner products of unit gradients."""
    return 16 * torch.finfo(dtype).eps


def _solve(gram: Vector, beta: float, tolerance: float) -> tuple[Vector, float, str]:
    """Return weights, residual and status."""
    if not math.isfinite(add(gram, None)) and not np.isfinite(gram).all():  # a sum may overflow
        return np.full(len(gram), 1 / len(gram)), math.inf, NOT_FINITE
    squares = gram.diagonal()
    if least(squares) <= 0:
        return _without_zeros(gram, beta, tolerance)
    norms = np.sqrt(squares)
    correlations = gram / norms
    correlations /= norms[:, None]
    log_norms = np.log(norms)
    v = iterate(Equation(correlations, (beta - 1) * log_norms, beta), tolerance)
    if v is not None:
        weights = v / norms
        residual = _residual(gram, weights, beta)
        if residual <= ACCEPTED:  # which weights of 0 or Inf never have
            return weights, residual, SOLVED
        if residual <= USABLE and v.dot(correlations.dot(v)) > OPPOSED * v.sum() ** 2:
            return weights, residual, NO_SOLUTION
    weights = _equal_lengths(log_norms, beta)
    return weights, _residual(gram, weights, beta), NO_SOLUTION


def _residual(gram: Vector, weights: Vector, beta: float) -> float:
    right = weights**-beta
    return float(most(np.abs((gram.dot(weights) - right) / right)))


def _equal_lengths(log_norms: Vector, beta: float) -> Vector:
    """Return ``c / norms``, with ``c`` from the sum of the equations for orthogonal gradients."""
    largest = ((beta - 1) * log_norms).max()
    mean = np.exp((beta - 1) * log_norms - largest).mean()
    shift = (largest + math.log(mean)) / (1 + beta)
    weights: Vector = np.exp(shift - log_norms)
    return weights


def _without_zeros(gram: Vector, beta: float, tolerance: float) -> tuple[Vector, float, str]:
    """Solve for the gradients that are not 0: they alone decide the step."""
    kept = gram.diagonal() > 0
    if not kept.any():
        return np.ones(len(gram)), 1.0, NO_SOLUTION
    weights, _, _ = _solve(gram[np.ix_(kept, kept)], beta, tolerance)
    found = np.full(len(gram), np.exp(np.log(weights).mean()))
    found[kept] = weights
    return found, _residual(gram, found, beta), NO_SOLUTION
