"""Means, deviations and intervals over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Summary:
    """A figure over seeds.

    Args:
        mean: Mean.
        std: Sample standard deviation (n - 1); None for one seed.
        low: Lower end of the 95% interval of the mean (Student's t); None for one seed.
        high: Its upper end.
        n: The number of seeds.
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None
    n: int


def summarise(values: Sequence[float]) -> Summary:
    """Return mean, standard deviation and 95% t interval of values, one per seed.

    Raises:
        ValueError: If there is no value.
    """
    if not values:
        raise ValueError("no values")
    mean = float(np.mean(values))
    if len(values) == 1:
        return Summary(mean, None, None, None, 1)
    std = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * std / len(values) ** 0.5
    return Summary(mean, std, mean - half, mean + half, len(values))
