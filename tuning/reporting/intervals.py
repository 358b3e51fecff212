"""Confidence intervals in result tables: Student's t interval of a metric's mean over seeds.

Each table entry is the mean of a metric over n training runs, which differ in their seed only:
the confirmation seeds 0 to n-1 of the winning hyperparameters. Its interval is

    mean ± t((1 + CONFIDENCE) / 2, n - 1) · s / sqrt(n)

with the sample standard deviation s (divisor n - 1) and Student's t quantile with n - 1 degrees of
freedom: the confidence interval of the expected metric of a new seed, if the metric is normally
distributed over seeds. It says nothing about other data, other splits, or the search itself. The
ends are not clipped: with few seeds they may leave the range of the metric, such as 0 to 1 for an
accuracy. One seed has neither a deviation nor an interval. Seeds that failed do not count in n.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95  # of all intervals, and of what tables say about them


def format_confidence() -> str:
    """Return the confidence of the intervals as tables name it: ``95%``."""
    return f"{CONFIDENCE:.0%}"


@dataclass(frozen=True)
class SeedStatistics:
    """Statistics of a metric over seeds.

    Args:
        mean: Mean.
        std: Sample standard deviation (divisor n - 1); None for one seed.
        low: Lower end of the t interval of the mean; None for one seed.
        high: Its upper end.
        n: Number of seeds.
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None
    n: int


def compute_statistics(values: Sequence[float]) -> SeedStatistics:
    """Return mean, standard deviation and t interval of a metric, one value per seed.

    Raises:
        ValueError: If there is no value.
    """
    if not values:
        raise ValueError("expected at least one value, received none")
    mean = float(np.mean(values))
    if len(values) == 1:
        return SeedStatistics(mean, None, None, None, 1)
    std = float(np.std(values, ddof=1))
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    half = quantile * std / len(values) ** 0.5
    return SeedStatistics(mean, std, mean - half, mean + half, len(values))
