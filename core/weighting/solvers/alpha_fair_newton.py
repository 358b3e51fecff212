"""Newton's method for the alpha-fair equation, on the CPU.

With unit gradients (``w = v / norms``, ``C`` their Gram matrix), ``G w = w^(-1/alpha)`` reads
``C v = r v^-beta`` with ``beta = 1 / alpha`` and ``r = norms^(beta - 1)``: the stationarity
condition of a strictly convex function of ``v > 0``. The iteration moves ``u = log v``, so that
weights stay positive over hundreds of orders of magnitude. Two Newton steps take turns:

- on the logarithms of both sides, ``log C v + beta u = log r``, where ``C v > 0``. It forgets
  scales, and converges in 3 to 5 steps from the start, which is the solution for orthogonal
  gradients, scaled to satisfy the sum of the equations;
- on the convex function, with a search along the step, where the first step does not apply or gains
  too little. It always gains.

Both solve one symmetric positive definite system, ``C`` with a larger diagonal.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
# Reductions of a vector. The methods, such as v.min(), take twice as long for few tasks.
reduce_min, reduce_max, reduce_sum = np.minimum.reduce, np.maximum.reduce, np.add.reduce

MAX_ITERATIONS = 100  # 3 to 5 are usual, 20 to 40 where gradients nearly oppose each other
MAX_ERROR_LENGTH = 1e-9  # length of the error at which the iteration stops
LOG_STEP_FACTORS = 2.0 ** -np.arange(4)  # tried where the whole step gains too little
CONVEX_STEP_FACTORS = 2.0 ** (2 - np.arange(12))
# Shorter steps add to v, in which C v is linear: where nearly opposed gradients cancel in C v, that
# alone is precise. Longer steps multiply v.
MAX_ADDITIVE_STEP = 0.5
MAX_LOG_STEP, MAX_CONVEX_STEP = 60.0, 8.0  # in u: no linearization is right farther away


class Iterate(NamedTuple):
    """A point of the iteration.

    ``error`` and ``squared_error`` are finite only where ``image > 0``.
    """

    u: Vector
    v: Vector  # exp(u)
    image: Vector  # C v
    error: Vector  # log(right / left side)
    squared_error: float  # squared length of the error


class Equation:
    """``C v = r v^-beta`` for one matrix."""

    def __init__(self, correlations: Vector, log_r: Vector, beta: float) -> None:
        self.correlations = correlations
        self.log_r = log_r
        self.beta = beta
        # Only its diagonal ever differs from that of the correlations, which is 1.
        self._system = correlations.copy()
        self._diagonal = self._system.reshape(-1)[:: len(correlations) + 1]

    def evaluate(self, u: Vector) -> Iterate:
        """Return the iterate at ``u``."""
        v = np.exp(u)
        image = self.correlations.dot(v)
        error = self.log_r - self.beta * u - np.log(image)
        return Iterate(u, v, image, error, float(error.dot(error)))

    def compute_start(self) -> Iterate:
        """Return the solution for orthogonal gradients, scaled to fit the equations' sum."""
        u = self.log_r / (1 + self.beta)
        v = np.exp(u)
        left, right = float(v.dot(self.correlations.dot(v))), float(v.dot(v))
        shift = math.log(right / left) / (1 + self.beta) if left > 0 else 0.0
        return self.evaluate(u + shift)

    def take_step(self, now: Iterate) -> Iterate:
        """Return a better point, or ``now`` where rounding allows none."""
        if now.squared_error < math.inf:
            x = self._solve_system(self.beta / now.v * now.image, now.image * now.error, now.v)
            length = math.sqrt(x.dot(x))
            following = self.evaluate(now.u + (np.log1p(x) if length < MAX_ADDITIVE_STEP else x))
            if following.squared_error < 0.49 * now.squared_error:
                return following
            if now.squared_error < 1e-6:  # here only rounding makes a Newton step gain little
                return following if following.squared_error < now.squared_error else now
            for factor in LOG_STEP_FACTORS:
                taken = min(factor, MAX_LOG_STEP / length)
                following = self.evaluate(now.u + taken * x)
                if following.squared_error < (1 - 0.3 * taken) ** 2 * now.squared_error:
                    return following
        return self._take_convex_step(now)

    def _solve_system(self, extra: Vector, right: Vector, v: Vector) -> Vector:
        """Return ``(C + diag(extra))^-1 right / v``."""
        from scipy.linalg.lapack import dposv  # here: slow to import, and few methods need it

        self._diagonal[:] = 1 + extra
        found: Vector = dposv(self._system.T, right, lower=1)[1]  # transposed: LAPACK's order
        return found / v

    def _take_convex_step(self, now: Iterate) -> Iterate:
        """Return the best of several points along the Newton step of the convex function.

        The function is ``v C v / 2 - sum(r v^(1 - beta)) / (1 - beta)``, with ``r log v`` in the
        second sum at ``beta = 1``; up to a constant that keeps it exact near ``beta = 1``.
        """
        right = np.exp(self.log_r - self.beta * now.u)
        x = self._solve_system(self.beta * right / now.v, right - now.image, now.v)
        factors = np.minimum(CONVEX_STEP_FACTORS, MAX_CONVEX_STEP / np.abs(x).max())
        steps = factors[:, None] * x
        points = now.u + np.where(
            np.abs(steps).max(1, keepdims=True) < MAX_ADDITIVE_STEP, np.log1p(steps), steps
        )
        v = np.exp(points)
        gap = 1 - self.beta
        utility = np.exp(self.log_r) * (np.expm1(gap * points) / gap if gap else points)
        values = 0.5 * ((v @ self.correlations) * v).sum(1) - utility.sum(1)
        best = int(np.where(np.isnan(values), np.inf, values).argmin())
        return self.evaluate(points[best])


def solve_equation(equation: Equation, tolerance: float) -> Vector | None:
    """Return ``v``; None where 0 is in the hull for a matrix that differs by the tolerance.

    Such a matrix has ``x >= 0`` with ``C x = 0``, so ``x C' v = 0`` for that matrix and any ``v``,
    and a component of ``C v`` is at most ``tolerance * sum(v)``. Conversely, a point of
    the hull with a square within the tolerance ends the search early.
    """
    now = equation.compute_start()
    for _ in range(MAX_ITERATIONS):
        if now.squared_error < MAX_ERROR_LENGTH**2:
            break
        following = equation.take_step(now)
        if following is now or (
            not following.squared_error < math.inf and _compute_hull_norm(following) <= tolerance
        ):
            break
        now = following
    return now.v if reduce_min(now.image) > tolerance * reduce_sum(now.v) else None


def _compute_hull_norm(point: Iterate) -> float:
    """Return the squared norm of the point of the hull that has weights ``v / sum(v)``."""
    return float(point.v.dot(point.image) / point.v.sum() ** 2)
