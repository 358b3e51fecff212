"""What the tests of downloads share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.loopback import Server, serving


@pytest.fixture
def www(tmp_path: Path) -> Iterator[tuple[Path, Server]]:
    """A folder and the server on loopback that offers it."""
    (tmp_path / "www").mkdir()
    with serving(tmp_path / "www") as server:
        yield tmp_path / "www", server
