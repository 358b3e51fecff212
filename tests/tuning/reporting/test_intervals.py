"""Summaries agree with scipy's own interval."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tuning.reporting.intervals import SHARE, compute_statistics


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
    clipped = compute_statistics(values, SHARE)
    assert (clipped.low, clipped.high) == pytest.approx((max(low, 0), min(high, 1)))


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
