"""The alpha-fair equation on a device: no branch depends on a value, so the CPU never waits.

The same steps as :mod:`core.weighting.solvers.alpha_fair_newton`, which explains them: usable
inside a CUDA graph or a compiled step. Each iteration takes one factorization and tries several
lengths of its step at once. With Triton a kernel takes all steps
(:mod:`core.weighting.solvers.alpha_fair_kernel`), otherwise a fixed number of them runs.
"""

from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from .alpha_fair import (
    MAX_SOLVED_RESIDUAL,
    MAX_USABLE_RESIDUAL,
    MIN_HULL_NORM,
    NO_SOLUTION,
    NOT_FINITE,
    SOLVED,
    check_problem,
    get_rounding_noise,
)
from .alpha_fair_newton import (
    CONVEX_STEP_FACTORS,
    LOG_STEP_FACTORS,
    MAX_ADDITIVE_STEP,
    MAX_CONVEX_STEP,
    MAX_ERROR_LENGTH,
    MAX_LOG_STEP,
)

STATUSES = (SOLVED, NO_SOLUTION, NOT_FINITE)


class DeviceSolution(NamedTuple):
    """Result of :func:`core.weighting.solve_alpha_fair_on_device`, in tensors.

    Args:
        weights: Positive finite weights, ``(k,)``.
        residual: Their residual, ``()``, float64.
        status: Index into :data:`STATUSES`, ``()``, int64: above 0 in a fallback step.
    """

    weights: Tensor
    residual: Tensor
    status: Tensor


class _State(NamedTuple):
    """A point, whether its next step is on the convex function, and whether it has converged."""

    u: Tensor
    is_convex: Tensor
    is_done: Tensor


class _Point(NamedTuple):
    """One or several points, ``(..., k)``, and the squared lengths of their errors, ``(...)``."""

    v: Tensor
    image: Tensor
    error: Tensor
    squared_error: Tensor


class _Equation(NamedTuple):
    correlations: Tensor
    log_r: Tensor
    beta: float

    def evaluate(self, u: Tensor) -> _Point:
        """Return the points at ``u``; their error is Inf unless the image is positive."""
        v = u.exp()
        image = v @ self.correlations
        error = self.log_r - self.beta * u - image.log()
        return _Point(v, image, error, error.square().sum(-1).nan_to_num(torch.inf, torch.inf))

    def compute_start(self) -> Tensor:
        """Return the solution for orthogonal gradients, scaled to fit the equations' sum."""
        u = self.log_r / (1 + self.beta)
        v = u.exp()
        left = v @ (v @ self.correlations)
        shift = ((v @ v) / left).log() / (1 + self.beta)
        return u + torch.where(left > 0, shift, 0)

    def take_step(self, state: _State) -> _State:
        """Return the state after one step."""
        now = self.evaluate(state.u)
        convex = state.is_convex | now.squared_error.isinf()
        right = (self.log_r - self.beta * state.u).exp()
        extra = self.beta / now.v * torch.where(convex, right, now.image)
        rest = torch.where(convex, right - now.image, now.image * now.error)
        factor = torch.linalg.cholesky_ex(self.correlations + extra.diag())[0]
        x = torch.cholesky_solve(rest[:, None], factor)[:, 0] / now.v
        nearer, gains = self._search_log_step(state.u, x, now.squared_error)
        following = torch.where(convex, self._search_convex_step(state.u, x), nearer)
        done = state.is_done | (now.squared_error < MAX_ERROR_LENGTH**2)
        done = done | (~convex & ~gains & (now.squared_error < 1e-6))  # the rest is rounding
        u = torch.where(done | (~convex & ~gains), state.u, following)
        return _State(u, ~convex & ~gains, done)

    def _search_log_step(self, u: Tensor, x: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best of several points along a step, and whether it gains enough."""
        factors = _halve_from_one(len(LOG_STEP_FACTORS), u)
        length = x.square().sum().sqrt()
        factors = factors.clamp(max=MAX_LOG_STEP / length)
        steps = torch.cat([_step_logarithm(x)[None], factors[:, None] * x])
        needed = (1 - 0.3 * torch.cat([torch.ones_like(factors[:1]), factors])).square() * error
        errors = self.evaluate(u + steps).squared_error
        best = torch.where(errors < needed, errors, torch.inf).argmin()[None]
        gains = (errors < needed).any()
        return u + steps.index_select(0, best)[0], gains

    def _search_convex_step(self, u: Tensor, x: Tensor) -> Tensor:
        """Return the best of several points along a step on the convex function."""
        lengths = CONVEX_STEP_FACTORS[0] * _halve_from_one(len(CONVEX_STEP_FACTORS), u)
        factors = lengths.clamp(max=MAX_CONVEX_STEP / x.abs().max())
        points = u + _step_logarithm(factors[:, None] * x)
        v = points.exp()
        gap = 1 - self.beta
        utility = self.log_r.exp() * (torch.expm1(gap * points) / gap if gap else points)
        values = 0.5 * ((v @ self.correlations) * v).sum(1) - utility.sum(1)
        best = values.nan_to_num(torch.inf, torch.inf, torch.inf).argmin()[None]
        return points.index_select(0, best)[0]


def solve_alpha_fair_on_device(gram: Tensor, alpha: float, iterations: int = 50) -> DeviceSolution:
    """Solve ``gram @ w = w ** (-1 / alpha)`` on the device of the matrix, without waiting for it.

    Args:
        gram: Inner products of the task gradients, ``(k, k)``.
        alpha: The fairness, above 0.
        iterations: Number of Newton steps; 6 suffice for most matrices, 50 for nearly all that
            :func:`core.weighting.solve_alpha_fair` solves, with up to 100. Fewer leave more
            fallback steps, never a wrong solution.

    Raises:
        TypeError: If the matrix is no tensor.
        ValueError: If ``alpha`` is not above 0, or the matrix not square or not of floating-point
            numbers.
    """
    check_problem(gram, alpha)
    beta = 1 / alpha
    matrix = gram.detach().to(torch.float64)
    finite = torch.isfinite(matrix).all()
    identity = torch.eye(len(gram), dtype=torch.float64, device=gram.device)
    matrix = torch.where(finite, matrix, identity)
    kept = matrix.diagonal() > 0
    both = kept[:, None] & kept
    norms = torch.where(kept, matrix.diagonal(), 1).sqrt()
    # A gradient of 0 becomes one that is orthogonal to the others, whose solution stays.
    correlations = torch.where(both, matrix / norms / norms[:, None], identity)
    equation = _Equation(correlations, (beta - 1) * norms.log(), beta)
    u = _iterate(equation, iterations)
    return _select_weights(gram, matrix, equation, u, finite, kept)


def _iterate(equation: _Equation, iterations: int) -> Tensor:
    """Return the end, ``(k,)``, of at most so many steps: by one kernel where there is Triton."""
    start = equation.compute_start()
    if start.is_cuda and _can_run_kernel(start.device):
        from .alpha_fair_kernel import MAX_TASKS, run_newton_steps

        if len(start) <= MAX_TASKS:
            return run_newton_steps(
                equation.correlations, equation.log_r, start, equation.beta, iterations
            )
    no = torch.zeros((), dtype=torch.bool, device=start.device)
    state = _State(start, no, no)
    for _ in range(iterations):
        state = equation.take_step(state)
    return state.u


@cache
def _can_run_kernel(device: torch.device) -> bool:
    """Return whether the kernel runs on a GPU: Triton is there, and the C compiler it needs."""
    if find_spec("triton") is None:
        return False
    from .alpha_fair_kernel import run_newton_steps  # Triton is not everywhere

    zeros = torch.zeros(2, dtype=torch.float64, device=device)
    try:
        run_newton_steps(torch.diag(zeros + 1), zeros, zeros, 0.5, 1)
    except Exception:  # Triton has many
        return False
    return True


def _select_weights(
    gram: Tensor, matrix: Tensor, equation: _Equation, u: Tensor, finite: Tensor, kept: Tensor
) -> DeviceSolution:
    """Return the solution, or its replacement, with residual and status."""
    beta = equation.beta
    point = equation.evaluate(u)
    image = torch.where(kept, point.image, torch.inf)
    v, squares = torch.where(kept, point.v, 0), torch.where(kept, point.v * point.image, 0)
    determined = image.min() > get_rounding_noise(gram.dtype) * v.sum()
    norms = torch.where(kept, matrix.diagonal(), 1).sqrt()
    found = point.v / norms
    residual = _compute_residual(matrix, found, beta, kept)
    proper = torch.isfinite(found).all() & (found > 0).all()
    apart = squares.sum() > MIN_HULL_NORM * v.sum().square()
    near = (residual <= MAX_SOLVED_RESIDUAL) | ((residual <= MAX_USABLE_RESIDUAL) & apart)
    usable = determined & proper & near
    weights = replace_unsolvable(found, usable, norms, beta, finite, kept)
    solved = usable & (residual <= MAX_SOLVED_RESIDUAL) & kept.all()
    status = torch.where(finite, torch.where(solved, 0, 1), 2)
    everything = torch.ones_like(kept)
    residual = torch.where(finite, _compute_residual(matrix, weights, beta, everything), torch.inf)
    limits = torch.finfo(gram.dtype)
    if limits.bits < 64:
        weights = weights.clamp(limits.tiny, limits.max)
    return DeviceSolution(weights.to(gram.dtype), residual, status)


def replace_unsolvable(
    found: Tensor, usable: Tensor, norms: Tensor, beta: float, finite: Tensor, kept: Tensor
) -> Tensor:
    """Return the weights found, ``(k,)``, or their replacement.

    The cases of :func:`core.weighting.solvers.alpha_fair.replace_unsolvable`, without branches.

    Args:
        found: The weights at the end of the iteration, ``(k,)``.
        usable: Whether they solve the equation, or nearly do, ``()`` bool.
        norms: The gradients' norms, 1 for those that are 0, ``(k,)``.
        beta: ``1 / alpha``.
        finite: Whether the matrix is finite, ``()`` bool.
        kept: Mask of the gradients that are not 0, ``(k,)`` bool.
    """
    weights = torch.where(usable, found, _fit_inverse_norm_weights(norms.log(), beta, kept))
    logarithms = torch.where(kept, weights.log(), 0).sum() / kept.sum().clamp(min=1)
    weights = torch.where(kept, weights, logarithms.exp())
    return torch.where(finite, weights, 1 / len(kept))


def _halve_from_one(count: int, like: Tensor) -> Tensor:
    """Return 1, 1/2, 1/4, ..., made on the device: a CUDA graph cannot copy from the CPU."""
    return torch.exp2(-torch.arange(count, dtype=like.dtype, device=like.device))


def _step_logarithm(x: Tensor) -> Tensor:
    """Return steps in ``log v``, ``(..., k)``: short ones, additive in ``v``, as logarithms."""
    return torch.where(x.abs().amax(-1, keepdim=True) < MAX_ADDITIVE_STEP, x.log1p(), x)


def _compute_residual(matrix: Tensor, weights: Tensor, beta: float, counted: Tensor) -> Tensor:
    right = weights.pow(-beta)
    error = ((matrix @ weights - right) / right).abs()
    return torch.where(counted, error, 0).max()


def _fit_inverse_norm_weights(log_norms: Tensor, beta: float, kept: Tensor) -> Tensor:
    """Return ``c / norms`` with ``c`` from the equations' sum for orthogonal gradients."""
    logarithms = torch.where(kept, (beta - 1) * log_norms, -torch.inf)
    mean = logarithms.logsumexp(0) - kept.sum().log()
    weights = (mean / (1 + beta) - log_norms).exp()
    return torch.where(kept.any(), weights, 1)
