"""What all tests share."""

import os
from pathlib import Path

import pytest

import datasets
from core.recipe.method_files import load_method
from datasets.on_disk import OnDisk

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# Benchmarks whose data are in the project or its dependencies, so that they run everywhere.
EMBEDDED = tuple(
    n for n in datasets.list_benchmarks() if not isinstance(datasets.load_benchmark(n), OnDisk)
)


def fitting(methods_: list[str], benchmarks: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return all pairs of a method and a benchmark that has what the method needs."""
    return [
        (method, name)
        for method in methods_
        for name in benchmarks
        if load_method(method).needs <= datasets.load_benchmark(name).provides
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder in which a refused command must leave nothing."""
    (tmp_path / "work").mkdir()
    return tmp_path / "work"
