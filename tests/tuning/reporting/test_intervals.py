"""Summaries agree with scipy's own interval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, logit

from tuning.reporting.intervals import SHARE, compute_statistics

Values = NDArray[np.float64]


@given(st.lists(st.floats(0, 1), min_size=3, max_size=20))
def test_agrees_with_scipy(values: list[float]) -> None:
    found = compute_statistics(values)
    assert found.n == len(values)
    if max(values) - min(values) < 1e-6:  # scipy warns of lost digits there
        return
    assert found.mean == pytest.approx(stats.tmean(values))
    assert found.std == pytest.approx(stats.tstd(values))
    low, high = stats.t.interval(0.95, len(values) - 1, found.mean, stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    bounded = compute_statistics(values, SHARE)
    center, spread = logit(found.mean), (high - low) / 2 / (found.mean * (1 - found.mean))
    assert (bounded.low, bounded.high) == pytest.approx(
        (expit(center - spread), expit(center + spread)), abs=1e-9
    )


# Of 30 seeds of rwg on colored_digits, the rightly classified test examples of each group; the
# command is in docs/statistics.md.
GROUP_SIZES = np.array([89, 90, 90, 90])
RIGHT = np.array([
    (89, 73, 68, 87), (71, 64, 76, 83), (87, 65, 68, 86), (84, 75, 74, 87), (86, 59, 67, 82),
    (84, 80, 80, 77), (88, 69, 73, 86), (87, 70, 77, 90), (88, 66, 71, 86), (87, 61, 66, 87),
    (77, 78, 85, 84), (88, 76, 68, 86), (88, 64, 71, 85), (88, 85, 66, 59), (76, 67, 78, 84),
    (85, 54, 76, 87), (84, 85, 73, 71), (89, 70, 74, 90), (84, 62, 74, 84), (89, 66, 63, 87),
    (88, 68, 68, 87), (64, 65, 85, 89), (89, 73, 69, 82), (89, 57, 64, 86), (89, 63, 64, 84),
    (88, 70, 74, 87), (86, 57, 60, 67), (88, 67, 61, 82), (87, 72, 75, 88), (72, 69, 76, 78),
])  # fmt: skip


def draw_worst_groups(shift: float, shape: tuple[int, ...], random: np.random.Generator) -> Values:
    """Return worst-group accuracies of seeds: the lowest of groups of whole numbers of examples.

    Group accuracies are normal on the logit scale, with the means and covariances of the seeds.

    Args:
        shift: Added to the means, on that scale.
        shape: The number of studies and seeds.
        random: The generator.
    """
    scores = logit(np.minimum(RIGHT, GROUP_SIZES - 0.5) / GROUP_SIZES)
    drawn = random.multivariate_normal(scores.mean(axis=0) + shift, np.cov(scores.T), shape)
    found: Values = (np.round(expit(drawn) * GROUP_SIZES) / GROUP_SIZES).min(axis=-1)
    return found


def count_covered(expected: float, studies: Values) -> int:
    """Return how many studies' intervals contain the expected value of a seed."""
    found = [compute_statistics(values, SHARE) for values in studies.tolist()]
    return sum(one.low <= expected <= one.high for one in found if one.low and one.high)


@pytest.mark.parametrize("shift", [0.0, 1.0, -1.5])
def test_intervals_cover_the_expected_value_of_a_seed(shift: float) -> None:
    random = np.random.default_rng(0)
    expected = float(draw_worst_groups(shift, (100_000,), random).mean())
    studies = draw_worst_groups(shift, (1000, 5), random)
    assert 930 <= count_covered(expected, studies) <= 970


def test_intervals_cover_the_mean_of_recorded_seeds() -> None:
    recorded = (RIGHT / GROUP_SIZES).min(axis=1)
    studies = np.random.default_rng(0).choice(recorded, (1000, 5))
    assert 930 <= count_covered(float(recorded.mean()), studies) <= 970


def test_intervals_stay_within_the_bounds() -> None:
    found = compute_statistics([1.0, 1.0, 0.9], SHARE)
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < found.mean < found.high < 1


@pytest.mark.parametrize("values", [[1.0] * 3, [0.0] * 5, [0.1 + 0.2, 0.3, 0.3]])
def test_equal_values_have_no_interval(values: list[float]) -> None:
    found = compute_statistics(values, SHARE)
    assert (found.low, found.high) == (None, None)


def test_published_row() -> None:
    # ERM on civilcomments_small, test worst-group accuracy of five seeds: 67.39 +- 2.37 (FACTS 1.1)
    found = compute_statistics([0.6528, 0.7076, 0.6714, 0.6515, 0.6863])
    assert found.std is not None
    assert (round(100 * found.mean, 2), round(100 * found.std, 2)) == (67.39, 2.37)


def test_one_seed_has_no_deviation() -> None:
    found = compute_statistics([0.5])
    assert (found.mean, found.std, found.low, found.high) == (0.5, None, None, None)


def test_two_seeds_have_no_interval() -> None:
    found = compute_statistics([0.2, 0.3])
    assert (found.low, found.high) == (None, None)
    assert found.std == pytest.approx(0.1 / 2**0.5)


def test_no_seed_has_no_summary() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        compute_statistics([])
