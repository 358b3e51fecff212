"""Paired statistics agree with scipy, with definitions, and with simulation."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from tuning.reporting.intervals import SeedStatistics, compute_statistics
from tuning.reporting.layout.columns import find_best
from tuning.reporting.statistics.paired import (
    compare_pairs,
    compute_better_p_value,
    compute_permutation_p_value,
    compute_power,
    compute_t_p_value,
    count_needed_seeds,
    estimate_improvement,
)

ACCURACIES = st.lists(st.integers(0, 90).map(lambda n: n / 90), min_size=3, max_size=9)


@given(ACCURACIES, st.data())
def test_paired_t_agrees_with_scipy(first: list[float], data: st.DataObject) -> None:
    second = data.draw(st.lists(st.floats(0, 1), min_size=len(first), max_size=len(first)))
    differences = np.subtract(first, second)
    if np.ptp(differences) > 1e-6:  # scipy warns of lost digits there
        expected = stats.ttest_rel(first, second).pvalue
        assert compute_t_p_value(differences) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_equal_differences_have_no_t_test_and_no_interval(n: int) -> None:
    first = compute_statistics([0.7 + 0.03 * seed for seed in range(n)])
    second = compute_statistics([value - 1 / 90 for value in first.values])
    found = compare_pairs(first, second, higher_is_better=True)
    assert found is not None
    assert found.p_value == 2 / 2**n
    assert found.permutation_p_value == pytest.approx(2 / 2**n)
    assert (found.statistics.low, found.statistics.high) == (None, None)
    assert compute_t_p_value([0.0] * n) == compute_permutation_p_value([0.0] * n) == 1


def test_permutation_test_enumerates_all_signs() -> None:
    differences = np.array([0.031, -0.012, 0.044, 0.018, 0.027])
    flipped = [np.mean(differences * signs) for signs in product((1, -1), repeat=5)]
    extreme = np.mean(np.abs(flipped) >= abs(differences.mean()) - 1e-12)
    assert compute_permutation_p_value(differences) == pytest.approx(extreme, abs=1e-9)
    assert compute_permutation_p_value([0.3, 0.2, 0.4, 0.1, 0.2]) == 2 / 2**5


@given(ACCURACIES, st.integers(1, 29), st.data())
def test_a_better_method_agrees_with_scipy(
    first: list[float], rivals: int, data: st.DataObject
) -> None:
    second = data.draw(st.lists(st.floats(0, 1), min_size=len(first), max_size=len(first)))
    differences = np.subtract(first, second)
    if np.ptp(differences) > 1e-6:  # scipy warns of lost digits there
        one_sided = stats.ttest_rel(first, second, alternative="greater").pvalue
        found = compute_better_p_value(differences, rivals)
        assert found == pytest.approx(min(1, rivals * one_sided), abs=1e-9)


@pytest.mark.parametrize("deviations", [[6.0] * 6, [1, *[11.0] * 5], [11, *[1.0] * 5]])
def test_marks_leave_out_the_best_in_at_most_5_percent(deviations: list[float]) -> None:
    # the first method is the best by nothing, the least favorable case; the last is 30 points worse
    random = np.random.default_rng(0)
    scale = np.array(deviations)[:, None]
    missed = found = 0
    for _ in range(250):
        drawn = scale * random.standard_normal((6, 5))
        missed += 0 in find_unmarked(drawn)
        drawn[-1] -= 30
        found += 5 in find_unmarked(drawn)
    assert missed / 250 <= 0.05 + 3 * (0.05 * 0.95 / 250) ** 0.5
    assert found / 250 >= 0.8


def find_unmarked(column: NDArray[np.float64]) -> set[int]:
    """Return the rows that are neither the best nor marked."""
    best, tied = find_best([compute_statistics(row) for row in column.tolist()], True, [True] * 6)
    return set(range(6)) - best - tied


@given(st.lists(st.lists(st.floats(0, 1), min_size=5, max_size=5), min_size=2, max_size=6))
def test_marks_follow_the_direction(column: list[list[float]]) -> None:
    rows = [compute_statistics(row) for row in column]
    turned = [compute_statistics([-value for value in row]) for row in column]
    compared = [True] * len(rows)
    best, tied = find_best(rows, True, compared)
    assert (best, tied) == find_best(turned, False, compared)
    assert best
    assert not best & tied
    worse = compute_statistics([-10.0 - seed / 100 for seed in range(5)])
    with_worse = find_best([*rows, worse], True, [*compared, True])
    assert with_worse[0] == best
    assert with_worse[1] - {len(rows)} >= tied  # a further row costs power


@given(ACCURACIES, ACCURACIES)
def test_probability_of_improvement_counts_pairs(first: list[float], second: list[float]) -> None:
    found = estimate_improvement(first, second)
    wins = [(a > b) + (a == b) / 2 for a in first for b in second]
    assert found.value == pytest.approx(np.mean(wins), abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1
    turned = estimate_improvement(second, first)
    assert (1 - turned.high, 1 - turned.low) == pytest.approx((found.low, found.high), abs=1e-9)


def test_interval_of_improvement_covers() -> None:
    random = np.random.default_rng(0)
    true = stats.norm.cdf(1 / 2**0.5)
    found = [
        estimate_improvement(random.normal(1, 1, 5).tolist(), random.normal(0, 1, 5).tolist())
        for _ in range(400)
    ]
    assert np.mean([one.low <= true <= one.high for one in found]) >= 0.93


@pytest.mark.parametrize(("effect", "n"), [(1.0, 5), (0.5, 18), (2.0, 3)])
def test_power_agrees_with_simulation(effect: float, n: int) -> None:
    draws = np.random.default_rng(1).normal(effect, 1, (20_000, n))
    p_values = np.asarray(stats.ttest_1samp(draws, 0, axis=1, alternative="greater").pvalue)
    rejected = float(np.mean(p_values < 0.05))
    assert compute_power(effect, n, 0.05) == pytest.approx(rejected, abs=0.015)


def test_needed_seeds_are_the_fewest_with_the_power() -> None:
    difference = compute_statistics([0.05, -0.02, 0.06, 0.01, 0.01])
    assert difference.std is not None
    needed = count_needed_seeds(difference, 0.05)
    assert needed is not None
    effect = difference.mean / difference.std
    assert compute_power(effect, needed - 1, 0.05) < 0.8 <= compute_power(effect, needed, 0.05)
    assert count_needed_seeds(compute_statistics([0.1, -0.1, 0.0]), 0.05) is None


def test_pairs_are_matched_by_seed() -> None:
    one = compute_statistics([0.5, 0.6, 0.7, 0.8], seeds=[0, 1, 2, 3])
    other = compute_statistics([0.6, 0.5, 0.65], seeds=[3, 1, 2])
    found = compare_pairs(one, other, higher_is_better=False)
    assert found is not None
    assert found.seeds == (1, 2, 3)
    assert found.statistics.values == pytest.approx((0.1, 0.05, 0.2))
    assert found.improvement.value == pytest.approx(1.5 / 9)  # one win and one tie
    assert compare_pairs(one, SeedStatistics(0.5, 0.1, None, None, 0), True) is None
