"""The tanh-Gaussian policy of soft actor-critic."""

import math
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

LOG_DEVIATION_RANGE = (-20.0, 2.0)


class DrawnActions(NamedTuple):
    """Actions and their logarithmic densities.

    Args:
        actions: In (-1, 1), ``(k, b, a)``.
        log_densities: ``(k, b)``.
    """

    actions: Tensor
    log_densities: Tensor


def draw_actions(outputs: Tensor, noise: Tensor) -> DrawnActions:
    """Draw actions, differentiable by the outputs.

    Args:
        outputs: Mean and logarithmic standard deviation before tanh, ``(k, b, 2 a)``.
        noise: Standard normal numbers, ``(k, b, a)``.
    """
    mean, log_deviation = outputs.chunk(2, dim=-1)
    log_deviation = log_deviation.clamp(*LOG_DEVIATION_RANGE)
    raw = mean + log_deviation.exp() * noise
    normal = -0.5 * noise.square() - log_deviation - 0.5 * math.log(2 * math.pi)
    # log(1 - tanh(u)^2), which would be the logarithm of 0 for large u
    stretch = 2 * (math.log(2) - raw - functional.softplus(-2 * raw))
    return DrawnActions(raw.tanh(), (normal - stretch).sum(-1))


def choose_likeliest_actions(outputs: Tensor) -> Tensor:
    """Return the deterministic actions of evaluation, ``(k, b, a)``."""
    return outputs.chunk(2, dim=-1)[0].tanh()
