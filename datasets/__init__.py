"""Benchmarks: what there is to learn. One file each, found by its name."""

import ast
import importlib
import inspect
from functools import cache
from pathlib import Path

from common.errors import UserError, unknown_name_message
from datasets.benchmark import Benchmark

FOLDERS = ("groups", "multitask")


@cache
def names() -> tuple[str, ...]:
    """Return the names of all benchmarks, sorted."""
    return tuple(sorted(_modules()))


@cache
def _modules() -> dict[str, str]:
    """Return the dotted module of each benchmark: a file with a class of the file's name.

    Files are parsed, not imported: some benchmarks import slow libraries.
    """
    return {
        path.stem: f"datasets.{folder}.{path.stem}"
        for folder in FOLDERS
        for path in (Path(__file__).parent / folder).glob("*.py")
        if _names_a_benchmark(path)
    }


def _names_a_benchmark(path: Path) -> bool:
    """Return whether a file has a class whose ``name`` is the file's."""
    return any(
        isinstance(line, (ast.Assign, ast.AnnAssign))
        and isinstance(line.value, ast.Constant)
        and line.value.value == path.stem
        and any(
            isinstance(target, ast.Name) and target.id == "name"
            for target in (line.targets if isinstance(line, ast.Assign) else [line.target])
        )
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
        for line in node.body
    )


@cache
def load(name: str, data_root: str | Path = "data", baseline: str = "") -> Benchmark:
    """Return a benchmark; its splits are read when first used and then stay in the process.

    Args:
        name: A name of :func:`names`.
        data_root: The folder that holds the data sets.
        baseline: The text of a baseline file in place of the benchmark's own
            (:class:`datasets.multitask.base.Baseline`); empty for the own one.

    Raises:
        UserError: If there is no such benchmark, or it takes no baseline.
    """
    if name not in names():
        raise UserError(unknown_name_message("data set", name, names()))
    module = importlib.import_module(_modules()[name])
    classes = [
        value
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, Benchmark) and value.__module__ == module.__name__
    ]
    if len(classes) != 1 or classes[0].name != name:
        raise TypeError(f"{module.__file__} must define one Benchmark with name = '{name}'")
    benchmark: Benchmark = classes[0](Path(data_root))
    if baseline:
        benchmark.use_baseline(baseline)
    return benchmark
