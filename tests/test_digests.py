"""Nothing that golden digests watch has changed (tests/digests.py tells what they are)."""

import pytest

from tests import digests


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("exits", marks=pytest.mark.slow),
        "simulate",
        pytest.param("plans", marks=pytest.mark.slow),
        pytest.param("runs", marks=pytest.mark.slow),
        pytest.param("real", marks=[pytest.mark.slow, pytest.mark.real_data]),
        pytest.param("study", marks=pytest.mark.slow),
    ],
)
def test_nothing_differs_from_the_golden_file(name: str) -> None:
    found = digests.SECTIONS[name]()
    assert digests.differences(name, found) == []
    if found.left_out and not found.entries:
        pytest.skip("; ".join(found.left_out.values()))
    if digests.strange() and not any(entry.startswith(digests.EXACT) for entry in found.entries):
        pytest.skip(f"numbers of another machine ({digests.strange()})")


def test_digests_see_values_and_not_names() -> None:
    one = [{"round": 1, "losses": {"a": 0.1, "b": 0.2}, "seconds": 3.0}]
    renamed = [{"losses": {"y": 0.2, "x": 0.1}, "epoch": 1, "seconds": 4.0}]
    other = [{"round": 1, "losses": {"a": 0.1, "b": 0.2000000000000001}}]
    assert digests.numbers(one) == digests.numbers(renamed)
    assert digests.numbers(one) != digests.numbers(other)
