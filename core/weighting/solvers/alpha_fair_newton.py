"""Newton's method for the alpha-fair equation, on the host.

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
from scipy.linalg.lapack import dposv

Vector = NDArray[np.float64]
# Of a vector. The methods, such as v.min(), take twice as long for few tasks.
least, most, add = np.minimum.reduce, np.maximum.reduce, np.add.reduce

ITERATIONS = 100  # 3 to 5 are usual, 20 to 40 where gradients nearly oppose each other
PRECISE = 1e-9  # length of the error at which the iteration stops
FACTORS = 2.0 ** -np.arange(4)  # of the step on the logarithms, where all of it gains too little
LENGTHS = 2.0 ** (2 - np.arange(12))  # of the convex step
# Shorter steps add to v, in which C v is linear: where nearly opposed gradients cancel in C v, that
# alone is precise. Longer steps multiply v.
SHORT = 0.5
LONGEST_LOG_STEP, LONGEST_CONVEX_STEP = 60.0, 8.0  # in u: beyond it, a linearisation means nothing


class Iterate(NamedTuple):
    """A point of the iteration; ``error`` and ``size`` are not finite unless ``image > 0``."""

    u: Vector
    v: Vector  # exp(u)
    image: Vector  # C v
    error: Vector  # log(right / left side)
    size: float  # its squared length


class Equation:
    """``C v = r v^-beta`` for one matrix."""

    def __init__(self, correlations: Vector, log_r: Vector, beta: float) -> None:
        self.correlations = correlations
        self.log_r = log_r
        self.beta = beta
        # Only its diagonal ever differs from that of the correlations, which is 1.
        self._system = correlations.copy()
        self._diagonal = self._system.reshape(-1)[:: len(correlations) + 1]

    def at(self, u: Vector) -> Iterate:
        """Return the point ``u``."""
        v = np.exp(u)
        image = self.correlations.dot(v)
        error = self.log_r - self.beta * u - np.log(image)
        return Iterate(u, v, image, error, float(error.dot(error)))

    def start(self) -> Iterate:
        """Return the solution for orthogonal gradients, scaled to fit the equations' sum."""
        u = self.log_r / (1 + self.beta)
        v = np.exp(u)
        left, right = float(v.dot(self.correlations.dot(v))), float(v.dot(v))
        shift = math.log(right / left) / (1 + self.beta) if left > 0 else 0.0
        return self.at(u + shift)

    def step(self, now: Iterate) -> Iterate:
        """Return a better point, or ``now`` where rounding allows none."""
        if now.size < math.inf:
            x = self._direction(self.beta / now.v * now.image, now.image * now.error, now.v)
            length = math.sqrt(x.dot(x))
            following = self.at(now.u + (np.log1p(x) if length < SHORT else x))
            if following.size < 0.49 * now.size:
                return following
            if now.size < 1e-6:  # so near, only rounding makes a Newton step gain little
                return following if following.size < now.size else now
            for factor in FACTORS:
                taken = min(factor, LONGEST_LOG_STEP / length)
                following = self.at(now.u + taken * x)
                if following.size < (1 - 0.3 * taken) ** 2 * now.size:
                    return following
        return self._convex_step(now)

    def _direction(self, extra: Vector, right: Vector, v: Vector) -> Vector:
        """Return ``(C + diag(extra))^-1 right / v``."""
        self._diagonal[:] = 1 + extra
        found: Vector = dposv(self._system.T, right, lower=1)[1]  # transposed: LAPACK's order
        return found / v

    def _convex_step(self, now: Iterate) -> Iterate:
        """Return the best of several points along the Newton step of the convex function.

        The function is ``v C v / 2 - sum(r v^(1 - beta)) / (1 - beta)``, with ``r log v`` in the
        second sum at ``beta = 1``; up to a constant that keeps it exact near ``beta = 1``.
        """
        right = np.exp(self.log_r - self.beta * now.u)
        x = self._direction(self.beta * right / now.v, right - now.image, now.v)
        factors = np.minimum(LENGTHS, LONGEST_CONVEX_STEP / np.abs(x).max())
        steps = factors[:, None] * x
        points = now.u + np.where(
            np.abs(steps).max(1, keepdims=True) < SHORT, np.log1p(steps), steps
        )
        v = np.exp(points)
        gap = 1 - self.beta
        utility = np.exp(self.log_r) * (np.expm1(gap * points) / gap if gap else points)
        values = 0.5 * ((v @ self.correlations) * v).sum(1) - utility.sum(1)
        best = int(np.where(np.isnan(values), np.inf, values).argmin())
        return self.at(points[best])


def iterate(equation: Equation, tolerance: float) -> Vector | None:
    """Return ``v``; None where 0 is in the hull for a matrix that differs by the tolerance.

    Such a matrix has ``x >= 0`` with ``C x = 0``, so ``x C' v = 0`` for that matrix and any ``v``,
    and a component of ``C v`` is at most ``tolerance * sum(v)``. The other way round, a point of
    the hull with a square within the tolerance ends the search early.
    """
    now = equation.start()
    for _ in range(ITERATIONS):
        if now.size < PRECISE**2:
            break
        following = equation.step(now)
        if following is now or (not following.size < math.inf and _hull(following) <= tolerance):
            break
        now = following
    return now.v if least(now.image) > tolerance * add(now.v) else None


def _hull(point: Iterate) -> float:
    """Return the squared norm of the point of the hull that has weights ``v / sum(v)``."""
    return float(point.v.dot(point.image) / point.v.sum() ** 2)
