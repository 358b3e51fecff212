"""A landscape of two objectives, and its Pareto front.

The landscape of Liu, Liu, Jin, Stone & Liu, Conflict-Averse Gradient Descent for Multi-task
Learning, NeurIPS 2021 (appendix), with the first objective scaled by 0.1 as in Navon et al.,
Multi-Task Learning as a Bargaining Game, ICML 2022, whose starting points these are. With
``t = tanh(x_2)``, ``above = max(tanh(x_2 / 2), 0)`` and ``below = max(tanh(-x_2 / 2), 0)``::

    valley_1 = log max(|(-x_1 - 7) / 2 + t|, 5e-6) + 6
    valley_2 = log max(|(-x_1 + 3) / 2 - t + 2|, 5e-6) + 6
    bowl_1 = ((x_1 - 7)^2 + (x_2 + 8)^2 / 10) / 10 - 20
    bowl_2 = ((x_1 + 7)^2 + (x_2 + 8)^2 / 10) / 10 - 20
    f_i = above valley_i + below bowl_i        L_1 = 0.1 (f_1 + 21)        L_2 = f_2 + 21

The upper half has two steep valleys, one per objective, that trap the sum of the losses; the lower
half has the Pareto front, between the minima of two bowls. The 21, which moves no minimum, keeps
the losses positive: some weightings take their logarithms.
"""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

STARTS = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))
LOSS_SCALES, LOSS_SHIFT = (0.1, 1.0), 21.0
MIN_VALLEY_DISTANCE = 5e-6

Array = NDArray[np.float64]


def compute_losses(x: Tensor, scale: float = LOSS_SCALES[0]) -> Tensor:
    """Return the two losses, ``(..., 2)``, at points ``(..., 2)``.

    Args:
        x: The points.
        scale: Scale of the first loss.
    """
    x1, x2 = x.unbind(-1)
    t = x2.tanh()
    first = ((-x1 - 7) / 2 + t).abs().clamp(min=MIN_VALLEY_DISTANCE).log() + 6
    second = ((-x1 + 3) / 2 - t + 2).abs().clamp(min=MIN_VALLEY_DISTANCE).log() + 6
    depth = (x2 + 8).square() / 10
    bowls = [((x1 - side).square() + depth) / 10 - 20 for side in (7, -7)]
    above, below = (x2 / 2).tanh().clamp(min=0), (-x2 / 2).tanh().clamp(min=0)
    found = [
        factor * (above * valley + below * bowl + LOSS_SHIFT)
        for factor, valley, bowl in zip(
            (scale, LOSS_SCALES[1]), (first, second), bowls, strict=True
        )
    ]
    return torch.stack(found, dim=-1)


@cache
def compute_pareto_front(points: int = 201) -> Array:
    """Return points of the Pareto front, ``(points, 2)``, from one end to the other.

    There the losses' gradients oppose each other: at the abscissa ``x_1`` between the bowls'
    centers, the ordinate minimizes a weighted sum.
    """
    found, x = [], np.array([7.0, -8.4])
    for position in np.linspace(0, 1, points):
        weights = np.array([1 - position, position]) / LOSS_SCALES
        x = minimize(_differentiate_sum, x, args=(weights,), jac=True, method="L-BFGS-B").x
        found.append(x)
    return np.array(found)


def _differentiate_sum(x: Array, weights: Array) -> tuple[float, Array]:
    """Return the weighted sum of the losses at a point, and its gradient."""
    point = torch.tensor(x, requires_grad=True)
    value = (compute_losses(point) * torch.from_numpy(weights)).sum()
    value.backward()
    assert point.grad is not None
    return value.item(), point.grad.numpy()


def compute_front_distance(x: Array) -> Array:
    """Return the distance of points ``(..., 2)`` from the Pareto front in the plane, ``(...)``."""
    front = compute_pareto_front()
    starts, sides = front[:-1], np.diff(front, axis=0)
    offsets = x[..., None, :] - starts
    along = (offsets * sides).sum(-1) / np.square(sides).sum(-1)
    nearest = offsets - along.clip(0, 1)[..., None] * sides
    distances: Array = np.linalg.norm(nearest, axis=-1).min(-1)
    return distances
