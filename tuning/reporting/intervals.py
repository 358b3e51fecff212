"""Confidence intervals in result tables: of a metric's mean over seeds.

Each table entry is the mean m of a metric over n training runs, which differ in their seed only:
the confirmation seeds 0 to n-1 of the winning hyperparameters. Its interval is that of the expected
metric of a new seed, on the same data and split. With the sample standard deviation s (divisor
n - 1) and Student's t quantile with n - 1 degrees of freedom, half its width is

    h = t((1 + CONFIDENCE) / 2, n - 1) · s / sqrt(n)

and it is m ± h for a metric without bounds. A metric within 0 and 1, such as an accuracy, has it on
the logit scale by the delta method,

    logit(m) ± h / (m (1 - m)),

mapped back: so it stays within the bounds, and is longer towards the middle, as is the distribution
of a mean near a bound. docs/statistics.md has its coverage. It says nothing about other data, other
splits, or the search itself. One seed has no deviation. Fewer than three seeds have no interval:
two would be multiplied by t(0.975, 1) = 12.7. Equal values have none either: a few seeds that
agree do not make the mean certain. Seeds that failed do not count in n.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtrit  # scipy.stats takes long to import

MIN_SEEDS = 3  # of an interval
SHARE = (0.0, 1.0)  # the bounds of accuracies
UNBOUNDED = (-math.inf, math.inf)
EQUAL = 1e-12  # of values, relative to the largest: errors of floating point
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
        low: Lower end of the interval of the mean; None for one or two seeds, or equal values.
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
    """Return mean, standard deviation and interval of a metric, one value per seed.

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
    if std is None or n < MIN_SEEDS or are_equal(values):
        return SeedStatistics(mean, std, None, None, n, *given)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * std / n**0.5
    low, high = _find_ends(mean, half, bounds)
    return SeedStatistics(mean, std, low, high, n, *given)


def are_equal(values: Sequence[float] | NDArray[np.float64]) -> bool:
    """Return whether values are equal but for errors of floating point; at least one."""
    return float(np.ptp(values)) <= EQUAL * float(np.abs(values).max())


def _find_ends(mean: float, half: float, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the ends of the interval of a mean.

    Args:
        mean: The mean.
        half: Half the width of its t interval.
        bounds: The bounds of the metric; between finite ones the logit scale is used.
    """
    width = bounds[1] - bounds[0]
    share = (mean - bounds[0]) / width
    if not (math.isfinite(width) and half > 0 and 0 < share < 1):
        return mean - half, mean + half
    center = float(logit(share))
    spread = half / width / (share * (1 - share))
    low, high = (bounds[0] + width * float(expit(center + s * spread)) for s in (-1, 1))
    return min(low, mean), max(high, mean)
