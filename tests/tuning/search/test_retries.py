"""Retries: how often a trial runs again, and which failures count."""

from hypothesis import given
from hypothesis import strategies as st

from tuning.search.retries import MAX_CRASHES, MAX_RETRIES, Retries


@given(lost_before=st.integers(0, 50))
def test_a_trial_runs_again_after_a_few_crashes_of_its_own(lost_before: int) -> None:
    retries = Retries()
    allowed = [retries.record_crash(lost_before) for _ in range(MAX_RETRIES + 1)]
    assert allowed == [True] * MAX_RETRIES + [False]


@given(st.lists(st.integers(0, 3), min_size=MAX_CRASHES, max_size=MAX_CRASHES))
def test_lost_nodes_excuse_crashes_up_to_a_limit(lost: list[int]) -> None:
    retries, total = Retries(), 0
    for crash, nodes in enumerate(lost, start=1):
        total += nodes if crash > 1 else 0
        own = crash - total
        expected = own <= MAX_RETRIES and crash < MAX_CRASHES
        assert retries.record_crash(10 + total) == expected
    assert not retries.record_crash(10**6)


def test_progress_forgives_all_failures() -> None:
    retries = Retries()
    for _ in range(MAX_RETRIES):
        assert retries.record_crash(0)
        assert retries.record_failed_write()
    assert not retries.record_failed_write()
    retries.reset()
    assert retries == Retries()
    assert retries.record_crash(7)
    assert retries.lost_nodes == 7
