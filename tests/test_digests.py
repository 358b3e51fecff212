"""Trial keys, plans and exit codes are those of the golden file (tests/digests.py)."""

import pytest

from tests import digests


@pytest.mark.parametrize(
    "name",
    [
        "keys",
        pytest.param("plans", marks=pytest.mark.slow),
        pytest.param("exits", marks=pytest.mark.slow),
    ],
)
def test_nothing_differs_from_the_golden_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuning.study.cost.TIMING_SECONDS", 0.0)  # times are no part of it
    assert digests.differences(name, digests.SECTIONS[name]()) == []
