"""Paired comparison of two methods over the seeds that both have.

Confirmation seeds are the same numbers for all methods: a seed draws the initial weights and the
order of examples, so that methods are compared on equal draws. With differences d over n seeds,

    t = mean(d) / (std(d) / sqrt(n))

has Student's t distribution with n - 1 degrees of freedom where d is normal and its mean 0. The
permutation test assumes only that d is symmetric about 0: it flips the signs of d in all 2^n ways
(Pitman, 1937), so that p is at least 2 / 2^n. Five seeds cannot go below 0.0625, which is why marks
and corrected tests take t. Holm (1979) corrects for the number of comparisons.

The probability of improvement is the share of pairs of a seed of the one and a seed of the other
method in which the first is better, ties counting half (Agarwal et al., NeurIPS 2021); its interval
is the fifth method of Newcombe (Statistics in Medicine 25, 2006), which stays within 0 and 1.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

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
    if are_equal(values):
        return 2.0 ** (1 - n) if values.any() else 1.0
    t = float(values.mean()) / (float(values.std(ddof=1)) / math.sqrt(n))
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


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's corrected p-values, in the order given."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for position, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - position) * p_values[index]))
        corrected[index] = largest
    return corrected


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
    """Return the power of the two-sided paired t-test.

    Args:
        effect: The true mean difference divided by the standard deviation of differences.
        n: The number of seeds, at least two.
        level: The significance level.
    """
    critical = float(stats.t.ppf(1 - level / 2, n - 1))
    shift = abs(effect) * math.sqrt(n)
    upper = float(stats.nct.sf(critical, n - 1, shift))
    lower = float(stats.nct.cdf(-critical, n - 1, shift))
    return (upper if math.isfinite(upper) else 1.0) + (lower if math.isfinite(lower) else 0.0)


def count_needed_seeds(difference: SeedStatistics, level: float) -> int | None:
    """Return how many seeds the paired t-test needs to find a difference with a power of 0.8.

    The difference and its deviation are taken as estimated.

    Args:
        difference: The statistics of the differences.
        level: The significance level.

    Returns:
        The number; None without a deviation or a difference, or above 1,000.
    """
    if not difference.std or not difference.mean:
        return None
    effect = difference.mean / difference.std
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
    column: Mapping[int, SeedStatistics], best: frozenset[int]
) -> frozenset[int]:
    """Return the rows that the paired t-test does not distinguish from a best row.

    Holm's correction is for all pairs of rows that are tested. Rows with fewer than three common
    seeds are not tested, and so are not among them.

    Args:
        column: The statistics of each row that takes part.
        best: The rows with the best mean.
    """
    values = {row: statistics.by_seed for row, statistics in column.items()}
    pairs = list(combinations(values, 2))
    p_values = [_test_rows(values[one], values[other]) for one, other in pairs]
    tested = {
        pair: p_value for pair, p_value in zip(pairs, p_values, strict=True) if p_value is not None
    }
    corrected = dict(zip(tested, correct_holm(list(tested.values())), strict=True))
    tied = [set(pair) for pair, p_value in corrected.items() if p_value >= LEVEL]
    return frozenset(row for pair in tied if pair & best for row in pair - best)


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


def _test_rows(one: Mapping[int, float], other: Mapping[int, float]) -> float | None:
    """Return the p-value of two rows over their common seeds; None with too few."""
    differences = [one[seed] - other[seed] for seed in one if seed in other]
    return None if len(differences) < MIN_SEEDS else compute_t_p_value(differences)
