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
def test_nothing_differs_from_the_golden_file(name: str) -> None:
    assert digests.differences(name, digests.SECTIONS[name]()) == []
