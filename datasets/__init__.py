"""Benchmarks: the data sets to train on, one file each, found by the names of their classes."""

from functools import cache
from pathlib import Path

import common  # noqa: F401  (refuses a Python without torch)
from datasets.benchmark import Benchmark
from datasets.discovery import FOLDERS as FOLDERS
from datasets.discovery import find_class, find_files


@cache
def list_benchmarks() -> tuple[str, ...]:
    """Return the names of all benchmarks, sorted."""
    return tuple(sorted(find_files()))


@cache
def load_benchmark(name: str, data_root: str | Path = "data", baseline: str = "") -> Benchmark:
    """Return a benchmark; its splits are read on first use and then stay in the process.

    Args:
        name: A name of :func:`list_benchmarks`.
        data_root: The folder of all data sets.
        baseline: The text of a baseline file in place of the benchmark's own
            (:class:`datasets.multitask.baseline.Baseline`); empty for the own one.

    Raises:
        UserError: If there is no such benchmark, its file has a mistake, or it has no baseline.
    """
    benchmark = find_class(name)(Path(data_root))
    if baseline:
        benchmark.use_baseline(baseline)
    return benchmark
