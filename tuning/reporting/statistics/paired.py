"""Paired comparison of two methods over the seeds that both have.

Confirmation seeds are the same numbers for all methods: a seed draws the initial weights and the
order of examples, so that methods are compared on equal draws. With differences d over n seeds,

    t = mean(d) / (std(d) / sqrt(n))

has Student's t distribution with n - 1 degrees of freedom where d is normal and its mean 0. The
permutation test assumes only that d is symmetric about 0: it flips the signs of d in all 2^n ways
(Pitman, 1937), so that p is at least 2 / 2^n. Five seeds cannot go below 0.0625, which is why marks
take t.

Of k methods, one is told from a better one by the one-sided t-test at the level 0.05 / (k - 1), by
Bonferroni for the k - 1 methods that could be the better one. So the truly best method is told
from the one with the best mean in at most 5% of studies, whichever that is. These are multiple
comparisons with the best (Gupta, Technometrics 7, 1965; Hsu, Annals of Statistics 9, 1981), but
without their assumption of equal deviations and independent methods.

The probability of improvement is the share of pairs of a seed of the one and a seed of the other
method in which the first is better, ties counting half (Agarwal et al., NeurIPS 2021); its interval
is the fifth method of Newcombe (Statistics in Medicine 25, 2006), which stays within 0 and 1.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats
from scipy.special import stdtr

from tuning.reporting.intervals import (
    CONFIDENCE,
    EQUAL,
    MIN_SEEDS,
    SeedStatistics,
    are_equal,
    compute_statistics,
)

LEVEL = 1 - CONFIDENCE  # of tests
MAX_EXACT_SEEDS = 12  # of the permutation test: 4,096 sign patterns
RESAMPLES = 9_999  # of sign patterns, where there are more
MAX_NEEDED_SEEDS = 1_000
POWER = 0.8


@dataclass(frozen=True)
class Share:
    """A share with its confidence interval.

    Args:
        value: The share.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """The difference of two methods over the seeds that both have.

    Args:
        seeds: These seeds.
        statistics: Mean, deviation and t interval of the differences, first minus second.
        p_value: Of the paired t-test, two-sided; None with fewer than three seeds. Equal
            differences have that of the permutation test.
        permutation_p_value: Of the sign-flip permutation test, two-sided; None likewise.
        improvement: The probability that a seed of the first method is better than one of the
            second.
    """

    seeds: tuple[int, ...]
    statistics: SeedStatistics
    p_value: float | None
    permutation_p_value: float | None
    improvement: Share


def compare_pairs(
    first: SeedStatistics, second: SeedStatistics, higher_is_better: bool
) -> PairedDifference | None:
    """Return the difference of two methods; None where they have no seed in common.

    Args:
        first: A metric of the first method, with its values.
        second: The metric of the second.
        higher_is_better: The direction of the metric.
    """
    one, other = first.by_seed, second.by_seed
    seeds = tuple(sorted(set(one) & set(other)))
    if not seeds:
        return None
    differences = np.array([one[seed] - other[seed] for seed in seeds])
    has_test = len(seeds) >= MIN_SEEDS
    sign = 1 if higher_is_better else -1
    return PairedDifference(
        seeds=seeds,
        statistics=compute_statistics(differences.tolist(), seeds=seeds),
        p_value=compute_t_p_value(differences) if has_test else None,
        permutation_p_value=compute_permutation_p_value(differences) if has_test else None,
        improvement=estimate_improvement(
            [sign * one[seed] for seed in seeds], [sign * other[seed] for seed in seeds]
        ),
    )


def compute_t_p_value(differences: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the two-sided p-value of the paired t-test of differences, at least two.

    Equal differences have no deviation, and t no distribution: p is that of the permutation test
    of signs, 2 / 2^n, or 1 where all are 0.
    """
    values = np.asarray(differences, dtype=np.float64)
    n = len(values)
    deviation = float(values.std(ddof=1))
    if are_equal(values) or not deviation:  # squares of tiny numbers are 0
        return 2.0 ** (1 - n) if values.any() else 1.0
    t = float(values.mean()) / (deviation / math.sqrt(n))
    return 2 * float(stdtr(n - 1, -abs(t)))  # faster than scipy.stats, for tables of many pairs


def compute_permutation_p_value(differences: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the two-sided p-value of the permutation test that flips signs of differences.

    All sign patterns are enumerated for few seeds, else drawn with a fixed seed.
    """
    values = np.asarray(differences)
    n = len(values)
    exact = n <= MAX_EXACT_SEEDS
    return float(
        stats.permutation_test(
            (values,),
            np.mean,
            permutation_type="samples",
            vectorized=True,
            n_resamples=2**n if exact else RESAMPLES,
            rng=np.random.default_rng(0),
        ).pvalue
    )


def compute_better_p_value(
    differences: Sequence[float] | NDArray[np.float64], rivals: int
) -> float:
    """Return the corrected p-value of the one-sided test that a method is better than another.

    Args:
        differences: The better method's values less the other one's, at least two; in the
            direction of the metric, so that a positive mean is for it.
        rivals: The number of methods that could be better than the other one (Bonferroni).
    """
    half = compute_t_p_value(differences) / 2
    return min(1.0, rivals * (half if np.mean(differences) > 0 else 1 - half))


def estimate_improvement(better: Sequence[float], other: Sequence[float]) -> Share:
    """Return the probability that a value of the first exceeds one of the second.

    Args:
        better: Values of the first method; greater is better.
        other: Values of the second.
    """
    n, m = len(better), len(other)
    signs = np.sign(np.subtract.outer(np.asarray(better), np.asarray(other)))
    share = float(np.mean((1 + signs) / 2))
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    pairs = (n + m) / 2 - 1

    def exceed(theta: float, sign: int) -> float:
        """Return by how much the share exceeds an end of its interval, with that end's variance."""
        variance = theta * (1 - theta) / (n * m)
        variance *= 1 + pairs * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return share - theta - sign * z * math.sqrt(variance)

    top, bottom = min(share, 1 - EQUAL), max(share, EQUAL)  # the ends 0 and 1 have no variance
    low = 0.0 if share == 0 else float(optimize.brentq(exceed, 0.0, top, args=(1,)))
    high = 1.0 if share == 1 else float(optimize.brentq(exceed, bottom, 1.0, args=(-1,)))
    return Share(share, low, high)


def compute_power(effect: float, n: int, level: float) -> float:
    """Return the power of the one-sided paired t-test.

    Args:
        effect: The true mean difference divided by the standard deviation of differences, at
            least 0.
        n: The number of seeds, at least two.
        level: The significance level.
    """
    critical = float(stats.t.isf(level, n - 1))
    power = float(stats.nct.sf(critical, n - 1, effect * math.sqrt(n)))
    return power if math.isfinite(power) else 1.0


def count_needed_seeds(difference: SeedStatistics, level: float) -> int | None:
    """Return how many seeds the one-sided t-test needs to find a difference with a power of 0.8.

    The difference and its deviation are taken as estimated.

    Args:
        difference: The statistics of the differences.
        level: The significance level.

    Returns:
        The number; None without a deviation or a difference, or above 1,000.
    """
    if not difference.std or not difference.mean:
        return None
    effect = abs(difference.mean) / difference.std
    low, high = 2, MAX_NEEDED_SEEDS
    if compute_power(effect, high, level) < POWER:
        return None
    while low < high:  # the power grows with the number of seeds
        middle = (low + high) // 2
        if compute_power(effect, middle, level) < POWER:
            low = middle + 1
        else:
            high = middle
    return low


def find_indistinguishable(
    column: Mapping[int, SeedStatistics], best: frozenset[int], higher_is_better: bool
) -> frozenset[int]:
    """Return the rows that the test does not tell from a best row.

    Rows with fewer than three common seeds are not tested, and so are not among them.

    Args:
        column: The statistics of each row that takes part.
        best: The rows with the best mean.
        higher_is_better: The direction of the metric.
    """
    sign = 1 if higher_is_better else -1
    values = {row: statistics.by_seed for row, statistics in column.items()}
    rivals = count_rivals(column.values())
    tied = set()
    for row in values.keys() - best:
        for top in best:
            differences = _subtract_rows(values[top], values[row], sign)
            is_tested = len(differences) >= MIN_SEEDS
            if is_tested and compute_better_p_value(differences, rivals) >= LEVEL:
                tied.add(row)
    return frozenset(tied)


def count_rivals(methods: Iterable[SeedStatistics]) -> int:
    """Return how many other methods each one with known values is compared with; at least 1."""
    return max(1, sum(bool(one.values) for one in methods) - 1)


def find_untested(column: Mapping[int, SeedStatistics], best: frozenset[int]) -> frozenset[int]:
    """Return the rows that share too few seeds with each best row for a test.

    Args:
        column: The statistics of each row that takes part.
        best: The rows with the best mean.
    """
    return frozenset(
        row
        for row, found in column.items()
        if row not in best
        and all(len(set(found.seeds) & set(column[top].seeds)) < MIN_SEEDS for top in best)
    )


def _subtract_rows(one: Mapping[int, float], other: Mapping[int, float], sign: int) -> list[float]:
    """Return the differences of two rows over their common seeds."""
    return [sign * (one[seed] - other[seed]) for seed in one if seed in other]
