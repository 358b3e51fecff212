"""The iteration of :mod:`core.weighting.solvers.alpha_fair_device` as one Triton kernel.

There every operation on K numbers is a kernel, thousands for 50 steps, and a CUDA graph cannot
leave a loop early. One program of a kernel keeps the system in registers, and ends with the
iteration. Triton is installed with torch for CUDA.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .alpha_fair_newton import (
    CONVEX_STEP_FACTORS,
    LOG_STEP_FACTORS,
    MAX_ADDITIVE_STEP,
    MAX_CONVEX_STEP,
    MAX_ERROR_LENGTH,
    MAX_LOG_STEP,
)

MAX_TASKS = 64  # whose system fits the registers of a program
LOG_STEPS, CONVEX_STEPS = len(LOG_STEP_FACTORS), len(CONVEX_STEP_FACTORS)
LONGEST_CONVEX_STEP = float(CONVEX_STEP_FACTORS[0])


def run_newton_steps(
    correlations: Tensor, log_r: Tensor, start: Tensor, beta: float, iterations: int
) -> Tensor:
    """Return the end, ``(k,)``, of the iteration from a start; nothing waits for the device.

    Args:
        correlations: Inner products of the unit gradients, ``(k, k)`` float64.
        log_r: ``(k,)`` float64.
        start: ``(k,)`` float64.
        beta: ``1 / alpha``.
        iterations: The largest number of steps.
    """
    tasks = len(start)
    padded = max(triton.next_power_of_2(tasks), 2)
    found = torch.empty_like(start)
    numbers = torch.full((1,), beta, dtype=torch.float64, device=start.device)
    _iterate[(1,)](
        correlations.contiguous(), log_r.contiguous(), start.contiguous(), numbers, found, tasks,
        iterations, padded, MAX_ERROR_LENGTH**2, MAX_ADDITIVE_STEP, MAX_LOG_STEP, MAX_CONVEX_STEP,
        LOG_STEPS, CONVEX_STEPS, LONGEST_CONVEX_STEP, num_warps=1 if padded <= 16 else 8,
    )  # fmt: skip
    return found


@triton.jit
def _log1p(x):  # type: ignore[no-untyped-def]
    """Return ``log(1 + x)``; NaN for ``x < -1``."""
    y = 1.0 + x
    return tl.where(y == 1.0, x, tl.log(y) * x / tl.where(y == 1.0, 1.0, y - 1.0))


@triton.jit
def _expm1(x):  # type: ignore[no-untyped-def]
    """Return ``exp(x) - 1``."""
    y = tl.exp(x)
    is_small = (tl.abs(x) < 0.5) & (y != 1.0)
    near = (y - 1.0) * x / tl.log(tl.where(is_small, y, 2.0))
    return tl.where(y == 1.0, x, tl.where(is_small, near, y - 1.0))


@triton.jit  # type: ignore[untyped-decorator]
def _step_logarithm(x, largest, max_additive: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return a step in ``log v``: a short one, additive in ``v``, as a logarithm."""
    return tl.where(largest < max_additive, _log1p(x), x)


@triton.jit
def _compute_image(matrix, u):  # type: ignore[no-untyped-def]
    return tl.sum(matrix * tl.exp(u)[:, None], axis=0)


@triton.jit
def _compute_squared_error(matrix, log_r, beta, u):  # type: ignore[no-untyped-def]
    """Return the squared length of the error at ``u``, Inf unless the image is positive."""
    image = _compute_image(matrix, u)
    error = log_r - beta * u - tl.log(tl.where(image > 0, image, 1.0))
    square = tl.sum(error * error, axis=0)
    proper = (tl.min(image, axis=0) > 0) & (square < float("inf"))
    return tl.where(proper, square, float("inf"))


@triton.jit  # type: ignore[untyped-decorator]
def _solve_system(system, right, tasks, size: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the solution of a positive definite system, by elimination without pivots."""
    index = tl.arange(0, size)
    for j in range(tasks):
        row = tl.sum(tl.where(index[:, None] == j, system, 0.0), axis=0)
        column = tl.sum(tl.where(index[None, :] == j, system, 0.0), axis=1)
        pivot = tl.sum(tl.where(index == j, row, 0.0), axis=0)
        value = tl.sum(tl.where(index == j, right, 0.0), axis=0)
        factor = tl.where(index == j, 0.0, column / pivot)
        system -= factor[:, None] * row[None, :]
        right -= factor * value
    diagonal = tl.sum(tl.where(index[:, None] == index[None, :], system, 0.0), axis=0)
    return right / diagonal


@triton.jit  # type: ignore[untyped-decorator]
def _iterate(  # type: ignore[no-untyped-def]
    correlations, log_rs, starts, numbers, found, tasks, iterations, size: tl.constexpr,
    solved: tl.constexpr, max_additive: tl.constexpr, max_log: tl.constexpr,
    max_convex: tl.constexpr, log_steps: tl.constexpr, convex_steps: tl.constexpr,
    longest: tl.constexpr,
):  # fmt: skip
    """Take steps until the error is small, or no step gains."""
    index = tl.arange(0, size)
    is_task = index < tasks
    is_diagonal = index[:, None] == index[None, :]
    # Tasks beyond the last are orthogonal to all, and their solution is the start.
    matrix = tl.load(
        correlations + index[:, None] * tasks + index[None, :],
        mask=is_task[:, None] & is_task[None, :],
        other=0.0,
    )
    matrix = tl.where(is_diagonal & ~is_task[:, None], 1.0, matrix)
    log_r = tl.load(log_rs + index, mask=is_task, other=0.0)
    u = tl.load(starts + index, mask=is_task, other=0.0)
    beta = tl.load(numbers)
    gap = 1.0 - beta
    divisor = tl.where(gap == 0.0, 1.0, gap)
    steps = 0
    takes_convex = 0
    is_done = 0
    while (steps < iterations) & (is_done == 0):
        steps += 1
        squared_error = _compute_squared_error(matrix, log_r, beta, u)
        if squared_error < solved:
            is_done = 1
        else:
            v = tl.exp(u)
            image = _compute_image(matrix, u)
            right = tl.exp(log_r - beta * u)
            convex = (takes_convex == 1) | (squared_error == float("inf"))
            error = log_r - beta * u - tl.log(tl.where(image > 0, image, 1.0))
            extra = beta / v * tl.where(convex, right, image)
            rest = tl.where(convex, right - image, image * error)
            system = matrix + tl.where(is_diagonal, extra[:, None], 0.0)
            x = _solve_system(system, rest, tasks, size) / v
            largest = tl.max(tl.abs(x), axis=0)
            best = u
            if convex:
                lowest = largest * 0.0 + float("inf")
                scale = tl.exp(log_r)
                factor = largest * 0.0 + longest
                for i in range(convex_steps):
                    taken = tl.minimum(factor, max_convex / largest)
                    point = u + _step_logarithm(taken * x, taken * largest, max_additive)
                    powers = tl.where(gap == 0.0, point, _expm1(gap * point) / divisor)
                    weights = tl.exp(point)
                    value = 0.5 * tl.sum(_compute_image(matrix, point) * weights, axis=0)
                    value -= tl.sum(scale * powers, axis=0)
                    proper = (value < lowest) & (value > -float("inf"))
                    # The first where none is finite, as of a minimum's index.
                    best = tl.where(proper | (i == 0), point, best)
                    lowest = tl.where(proper, value, lowest)
                    factor = factor * 0.5
                u = best
                takes_convex = 0
            else:
                length = tl.sqrt(tl.sum(x * x, axis=0))
                best = u + _step_logarithm(x, largest, max_additive)
                lowest = _compute_squared_error(matrix, log_r, beta, best)
                gains = lowest < 0.49 * squared_error
                lowest = tl.where(gains, lowest, float("inf"))
                factor = length * 0.0 + 1.0
                for _ in range(log_steps):
                    taken = tl.minimum(factor, max_log / length)
                    point = u + taken * x
                    now = _compute_squared_error(matrix, log_r, beta, point)
                    needed = 1.0 - 0.3 * taken
                    better = (now < needed * needed * squared_error) & (now < lowest)
                    best = tl.where(better, point, best)
                    lowest = tl.where(better, now, lowest)
                    gains = gains | better
                    factor = factor * 0.5
                if gains:
                    u = best
                else:
                    takes_convex = 1
                    if squared_error < 1e-6:  # the rest is rounding
                        is_done = 1
    tl.store(found + index, u, mask=is_task)
