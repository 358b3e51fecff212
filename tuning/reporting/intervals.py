"""Confidence intervals in result tables: Student's t interval of a metric's mean over seeds.

Each table entry is the mean of a metric over n training runs, which differ in their seed only:
the confirmation seeds 0 to n-1 of the winning hyperparameters. Its interval is

    mean ± t((1 + CONFIDENCE) / 2, n - 1) · s / sqrt(n)

with the sample standard deviation s (divisor n - 1) and Student's t quantile with n - 1 degrees of
freedom: the confidence interval of the expected metric of a new seed, if the metric is normally
distributed over seeds. It says nothing about other data, other splits, or the search itself. Where
a metric has bounds, such as 0 and 1 for an accuracy, the ends are clipped to them: its mean lies
within them, so that the clipped interval contains it exactly as often. One seed has no deviation.
Fewer than three seeds have no interval: two would be multiplied by t(0.975, 1) = 12.7. Seeds that
failed do not count in n.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit  # the quantile; scipy.stats takes long to import

MIN_SEEDS = 3  # of an interval
SHARE = (0.0, 1.0)  # the bounds of accuracies
UNBOUNDED = (-math.inf, math.inf)
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
        low: Lower end of the t interval of the mean; None for one or two seeds.
        high: Its upper end.
        n: Number of seeds.
        seeds: The seeds; empty where the values are unknown, such as those of published rows.
        values: The value of each.
    """

    mean: float
    std: float | None
    low: float | None
    high: float | None
    n: int
    seeds: tuple[int, ...] = ()
    values: tuple[float, ...] = ()

    @property
    def by_seed(self) -> dict[int, float]:
        """The value of each seed; empty where unknown."""
        return dict(zip(self.seeds, self.values, strict=True))


def compute_statistics(
    values: Sequence[float],
    bounds: tuple[float, float] = UNBOUNDED,
    seeds: Sequence[int] | None = None,
) -> SeedStatistics:
    """Return mean, standard deviation and t interval of a metric, one value per seed.

    Args:
        values: The values.
        bounds: The lowest and the highest value that the metric can have.
        seeds: The seed of each; None for 0 to n - 1.

    Raises:
        ValueError: If there is no value.
    """
    if not values:
        raise ValueError("expected at least one value, received none")
    n, mean = len(values), float(np.mean(values))
    std = float(np.std(values, ddof=1)) if n > 1 else None
    given = tuple(range(n) if seeds is None else seeds), tuple(values)
    if std is None or n < MIN_SEEDS:
        return SeedStatistics(mean, std, None, None, n, *given)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * std / n**0.5
    low, high = (min(max(end, bounds[0]), bounds[1]) for end in (mean - half, mean + half))
    return SeedStatistics(mean, std, low, high, n, *given)
