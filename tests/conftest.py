"""What all tests share."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# Benchmarks whose data are in the project or its dependencies, so that they run everywhere.
EMBEDDED = ("colored_digits",)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder in which a refused command must leave nothing."""
    (tmp_path / "work").mkdir()
    return tmp_path / "work"
