"""Benchmarks: what there is to learn. One file each, found by its name."""

import importlib
import inspect
from functools import cache
from pathlib import Path

from datasets.benchmark import Benchmark
from datasets.errors import UserError, unknown


@cache
def names() -> tuple[str, ...]:
    """Return the names of all benchmarks, sorted: the files that define a class of their name."""
    return tuple(
        sorted(
            path.stem
            for path in Path(__file__).parent.glob("*.py")
            if f'\n    name = "{path.stem}"\n' in path.read_text(encoding="utf-8")
        )
    )


@cache
def load(name: str, data_root: str | Path = "data", baseline: str = "") -> Benchmark:
    """Return a benchmark; its splits are read when first used and then stay in the process.

    Args:
        name: A name of :func:`names`.
        data_root: The folder that holds the data sets.
        baseline: The text of a baseline file in place of the benchmark's own
            (:class:`datasets.tasks.Baseline`); empty for the own one.

    Raises:
        UserError: If there is no such benchmark, or it takes no baseline.
    """
    if name not in names():
        raise UserError(unknown("data set", name, names()))
    module = importlib.import_module(f"datasets.{name}")
    classes = [
        value
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, Benchmark) and value.__module__ == module.__name__
    ]
    if len(classes) != 1 or classes[0].name != name:
        raise TypeError(f"datasets/{name}.py must define one Benchmark with name = '{name}'")
    benchmark: Benchmark = classes[0](Path(data_root))
    if baseline:
        benchmark.use_baseline(baseline)
    return benchmark
