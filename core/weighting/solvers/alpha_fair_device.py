"""The alpha-fair equation on a device: no branch depends on a value, so the host never waits.

The same steps as :mod:`core.weighting.solvers.alpha_fair_newton`, which explains them, a fixed
number of them: usable inside a CUDA graph or a compiled step. Each iteration takes one
factorisation and tries several lengths of its step at once.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from core.weighting.solvers import alpha_fair as host
from core.weighting.solvers import alpha_fair_newton as newton

STATUSES = (host.SOLVED, host.NO_SOLUTION, host.NOT_FINITE)


class DeviceSolution(NamedTuple):
    """What :func:`alpha_fair_on_device` found; :class:`AlphaFairSolution` in tensors.

    Args:
        weights: Positive finite weights, ``(k,)``.
        residual: Their residual, ``()``, float64.
        status: Index into :data:`STATUSES`, ``()``, int64: above 0 where the step is flagged.
    """

    weights: Tensor
    residual: Tensor
    status: Tensor


class _State(NamedTuple):
    """A point, whether its next step is on the convex function, and whether it rests."""

    u: Tensor
    convex: Tensor
    done: Tensor


class _Point(NamedTuple):
    """One or several points, ``(..., k)``, and the squared length of their errors, ``(...)``."""

    v: Tensor
    image: Tensor
    error: Tensor
    size: Tensor


class _Equation(NamedTuple):
    correlations: Tensor
    log_r: Tensor
    beta: float

    def at(self, u: Tensor) -> _Point:
        """Return the points ``u``; their size is Inf unless the image is positive."""
        v = u.exp()
        image = v @ self.correlations
        error = self.log_r - self.beta * u - image.log()
        return _Point(v, image, error, error.square().sum(-1).nan_to_num(torch.inf, torch.inf))

    def start(self) -> Tensor:
        """Return the solution for orthogonal gradients, scaled to fit the equations' sum."""
        u = self.log_r / (1 + self.beta)
        v = u.exp()
        left = v @ (v @ self.correlations)
        shift = ((v @ v) / left).log() / (1 + self.beta)
        return u + torch.where(left > 0, shift, 0)

    def step(self, state: _State) -> _State:
        """Return the state after one step."""
        now = self.at(state.u)
        convex = state.convex | now.size.isinf()
        right = (self.log_r - self.beta * state.u).exp()
        extra = self.beta / now.v * torch.where(convex, right, now.image)
        rest = torch.where(convex, right - now.image, now.image * now.error)
        factor = torch.linalg.cholesky_ex(self.correlations + extra.diag())[0]
        x = torch.cholesky_solve(rest[:, None], factor)[:, 0] / now.v
        nearer, gains = self._along_logarithms(state.u, x, now.size)
        following = torch.where(convex, self._along_convex(state.u, x), nearer)
        done = state.done | (now.size < newton.PRECISE**2)
        done = done | (~convex & ~gains & (now.size < 1e-6))  # what is left is rounding
        u = torch.where(done | (~convex & ~gains), state.u, following)
        return _State(u, ~convex & ~gains, done)

    def _along_logarithms(self, u: Tensor, x: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best of some points along a step, and whether it gains enough."""
        factors = _halves(len(newton.FACTORS), u)
        length = x.square().sum().sqrt()
        factors = factors.clamp(max=newton.LONGEST_LOG_STEP / length)
        steps = torch.cat([_moved(x)[None], factors[:, None] * x])
        needed = (1 - 0.3 * torch.cat([torch.ones_like(factors[:1]), factors])).square() * size
        sizes = self.at(u + steps).size
        best = torch.where(sizes < needed, sizes, torch.inf).argmin()[None]
        gains = (sizes < needed).any()
        return u + steps.index_select(0, best)[0], gains

    def _along_convex(self, u: Tensor, x: Tensor) -> Tensor:
        """Return the point along a step where the convex function is least."""
        lengths = newton.LENGTHS[0] * _halves(len(newton.LENGTHS), u)
        factors = lengths.clamp(max=newton.LONGEST_CONVEX_STEP / x.abs().max())
        points = u + _moved(factors[:, None] * x)
        v = points.exp()
        gap = 1 - self.beta
        utility = self.log_r.exp() * (torch.expm1(gap * points) / gap if gap else points)
        values = 0.5 * ((v @ self.correlations) * v).sum(1) - utility.sum(1)
        best = values.nan_to_num(torch.inf, torch.inf, torch.inf).argmin()[None]
        return points.index_select(0, best)[0]


def alpha_fair_on_device(gram: Tensor, alpha: float, iterations: int = 50) -> DeviceSolution:
    """Solve ``gram @ w = w ** (-1 / alpha)`` where the matrix is, without waiting for it.

    Args:
        gram: Inner products of the tasks' gradients, ``(k, k)``.
        alpha: The fairness, above 0.
        iterations: Newton steps taken; 6 suffice for most matrices, 50 for nearly all that the
            host solves, with up to 100. Fewer leave more steps flagged, never a wrong solution.

    Raises:
        ValueError: If ``alpha`` is not above 0 or the matrix not square.
    """
    host.check(gram, alpha)
    beta = 1 / alpha
    matrix = gram.detach().to(torch.float64)
    finite = torch.isfinite(matrix).all()
    identity = torch.eye(len(gram), dtype=torch.float64, device=gram.device)
    matrix = torch.where(finite, matrix, identity)
    kept = matrix.diagonal() > 0
    both = kept[:, None] & kept
    norms = torch.where(kept, matrix.diagonal(), 1).sqrt()
    # A gradient of 0 becomes one that meets no other: the others' solution does not notice.
    correlations = torch.where(both, matrix / norms / norms[:, None], identity)
    equation = _Equation(correlations, (beta - 1) * norms.log(), beta)
    no = torch.zeros((), dtype=torch.bool, device=gram.device)
    state = _State(equation.start(), no, no)
    for _ in range(iterations):
        state = equation.step(state)
    return _judged(gram, matrix, equation, state.u, finite, kept)


def _judged(
    gram: Tensor, matrix: Tensor, equation: _Equation, u: Tensor, finite: Tensor, kept: Tensor
) -> DeviceSolution:
    """Return the solution, or what replaces it, with its status."""
    beta = equation.beta
    point = equation.at(u)
    image = torch.where(kept, point.image, torch.inf)
    v, squares = torch.where(kept, point.v, 0), torch.where(kept, point.v * point.image, 0)
    determined = image.min() > host.noise(gram.dtype) * v.sum()
    norms = torch.where(kept, matrix.diagonal(), 1).sqrt()
    found = point.v / norms
    residual = _residual(matrix, found, beta, kept)
    proper = torch.isfinite(found).all() & (found > 0).all()
    apart = squares.sum() > host.OPPOSED * v.sum().square()
    near = (residual <= host.ACCEPTED) | ((residual <= host.USABLE) & apart)
    usable = determined & proper & near
    weights = torch.where(usable, found, _equal_lengths(norms.log(), beta, kept))
    logarithms = torch.where(kept, weights.log(), 0).sum() / kept.sum().clamp(min=1)
    weights = torch.where(kept, weights, logarithms.exp())
    solved = usable & (residual <= host.ACCEPTED) & kept.all()
    status = torch.where(finite, torch.where(solved, 0, 1), 2)
    weights = torch.where(finite, weights, 1 / len(gram))
    everything = torch.ones_like(kept)
    residual = torch.where(finite, _residual(matrix, weights, beta, everything), torch.inf)
    limits = torch.finfo(gram.dtype)
    if limits.bits < 64:
        weights = weights.clamp(limits.tiny, limits.max)
    return DeviceSolution(weights.to(gram.dtype), residual, status)


def _halves(count: int, like: Tensor) -> Tensor:
    """Return 1, 1/2, 1/4, ..., made on the device: a graph cannot copy from the host."""
    return torch.exp2(-torch.arange(count, dtype=like.dtype, device=like.device))


def _moved(x: Tensor) -> Tensor:
    """Return steps in ``log v``, ``(..., k)``: short ones, additive in ``v``, as logarithms."""
    return torch.where(x.abs().amax(-1, keepdim=True) < newton.SHORT, x.log1p(), x)


def _residual(matrix: Tensor, weights: Tensor, beta: float, counted: Tensor) -> Tensor:
    right = weights.pow(-beta)
    error = ((matrix @ weights - right) / right).abs()
    return torch.where(counted, error, 0).max()


def _equal_lengths(log_norms: Tensor, beta: float, kept: Tensor) -> Tensor:
    """Return ``c / norms`` with ``c`` from the equations' sum for orthogonal gradients."""
    logarithms = torch.where(kept, (beta - 1) * log_norms, -torch.inf)
    mean = logarithms.logsumexp(0) - kept.sum().log()
    weights = (mean / (1 + beta) - log_norms).exp()
    return torch.where(kept.any(), weights, 1)
