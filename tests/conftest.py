"""What all tests share."""

import os
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from hypothesis import settings

import datasets
from core.recipe.method_files import load_method
from datasets.environments.base import EnvironmentBenchmark
from datasets.on_disk import OnDisk

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# Benchmarks whose data are in the project or its dependencies, so that they run everywhere.
EMBEDDED = tuple(
    n
    for n in datasets.list_benchmarks()
    if not isinstance(datasets.load_benchmark(n), OnDisk | EnvironmentBenchmark)
)
# Benchmarks in a simulator, which need an extra to train.
ENVIRONMENTS = tuple(
    n
    for n in datasets.list_benchmarks()
    if isinstance(datasets.load_benchmark(n), EnvironmentBenchmark)
)

FAST_CASES = 2  # of each parametrized test, with --fast
FAST_EXAMPLES = 10  # of each property, with --fast


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--fast``, which ``make test-fast`` sets."""
    parser.addoption(
        "--fast",
        action="store_true",
        help=f"nothing slow, and at most {FAST_CASES} cases of each parametrized test",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Set no deadlines and one thread; try fewer examples of each property with ``--fast``."""
    torch.set_num_threads(1)  # for fixtures of modules too
    settings.register_profile("patient", deadline=None)  # a busy machine is no mistake
    settings.register_profile("fast", deadline=None, max_examples=FAST_EXAMPLES)
    settings.load_profile("fast" if config.getoption("--fast") else "patient")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files of slow tests; keep evenly spaced cases of each with ``--fast``."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)  # so that no process ends long after others
    if not config.getoption("--fast"):
        return
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if not any(item.get_closest_marker(name) for name in ("medium", "slow", "cluster")):
            cases[item.nodeid.partition("[")[0]].append(item)
    kept = {item for group in cases.values() for item in group[:: -(-len(group) // FAST_CASES)]}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


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


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Use one thread: at small sizes, and beside other tests, threads only wait for each other."""
    torch.set_num_threads(1)
