"""Benchmarks: what there is to learn. One file each, found by its name."""

import importlib
import inspect
import pkgutil
from functools import cache
from pathlib import Path

from datasets.benchmark import Benchmark
from datasets.errors import UserError, unknown

_PARTS = {"benchmark", "errors", "knobs", "metrics"}  # files that hold no benchmark


@cache
def names() -> tuple[str, ...]:
    """Return the names of all benchmarks, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if name not in _PARTS))


@cache
def load(name: str, data_root: str | Path = "data") -> Benchmark:
    """Return a benchmark; its splits are read when first used and then stay in the process.

    Args:
        name: A name of :func:`names`.
        data_root: The folder that holds the data sets.

    Raises:
        UserError: If there is no such benchmark.
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
    return benchmark
