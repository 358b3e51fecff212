"""Benchmarks: the data sets to train on, one file each, found by the names of their classes."""

from functools import cache
from pathlib import Path

import common  # noqa: F401  (refuses a Python without torch)
from common.errors import UserError, unknown_name_message
from datasets.benchmark import Benchmark
from datasets.discovery import FOLDERS as FOLDERS
from datasets.discovery import find_class, find_files
from datasets.own.references import KIND, find_own_data, suggest_own_data


@cache
def list_benchmarks() -> tuple[str, ...]:
    """Return the names of all benchmarks, sorted."""
    return tuple(sorted(find_files()))


def check_name(name: str, data_root: str | Path = "data", option: str = "") -> None:
    """Refuse a name that is neither a benchmark's nor that of own data.

    Args:
        name: The name or path, as typed.
        data_root: The folder of all data sets.
        option: The option that gives it, for the message.

    Raises:
        UserError: If there is no such data set.
    """
    known, root = list_benchmarks(), Path(data_root)
    if name not in known and find_own_data(name, root, known) is None:
        start = f"{option}: " if option else ""
        message = unknown_name_message("data set", name, known)
        raise UserError(f"{start}{message}{suggest_own_data(name, root)}")


@cache
def load_benchmark(name: str, data_root: str | Path = "data", baseline: str = "") -> Benchmark:
    """Return a benchmark; its splits are read on first use and then stay in the process.

    Args:
        name: A name of :func:`list_benchmarks`, or own data: ``folder:NAME`` or a path.
        data_root: The folder of all data sets.
        baseline: The text of a baseline file in place of the benchmark's own
            (:class:`datasets.multitask.baseline.Baseline`); empty for the own one.

    Raises:
        UserError: If there is no such benchmark, its file has a mistake, or it has no baseline.
    """
    check_name(name, data_root)
    own = find_own_data(name, Path(data_root), list_benchmarks())
    benchmark_class = find_class(name if own is None else KIND)
    # Kinds of benchmarks are imported where they are made: listing them is quick.
    if own is not None and not baseline:
        from datasets.groups.folder import Folder

        return Folder(Path(data_root), own)
    if baseline:
        from datasets.multitask.base import TaskBenchmark

        if not issubclass(benchmark_class, TaskBenchmark):
            raise UserError(f"data set '{name}' has no baseline")
        return benchmark_class(Path(data_root), baseline)
    return benchmark_class(Path(data_root))
