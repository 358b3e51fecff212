"""Benchmarks: the data sets to train on, one file each, found by the names of their classes."""

import ast
import importlib
import inspect
import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from common.errors import UserError, unknown_name_message
from datasets.benchmark import Benchmark

FOLDERS = ("groups", "multitask")


@cache
def list_benchmarks() -> tuple[str, ...]:
    """Return the names of all benchmarks, sorted."""
    return tuple(sorted(_find_modules()))


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
    modules = _find_modules()
    if name not in modules:
        raise UserError(unknown_name_message("data set", name, modules))
    benchmark = _import_class(name, modules[name])(Path(data_root))
    if baseline:
        benchmark.use_baseline(baseline)
    return benchmark


@cache
def _find_modules() -> dict[str, Path]:
    """Return the file of each benchmark: one with a class that has the benchmark's ``name``.

    Files are parsed, not imported: some benchmarks import slow libraries. A file that cannot be
    parsed counts as a benchmark of the file's name, so that using it reports the mistake.
    """
    folder = Path(__file__).parent
    return {
        name: path
        for kind in FOLDERS
        for path in sorted((folder / kind).glob("[a-z]*.py"))
        for name in _parse_names(path)
    }


def _parse_names(path: Path) -> Iterator[str]:
    """Yield the ``name`` of each class in a file that sets one."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        yield path.stem
        return
    for node in tree.body:
        for line in node.body if isinstance(node, ast.ClassDef) else ():
            match line:
                case (
                    ast.Assign(targets=[ast.Name(id="name")], value=ast.Constant(value=str(name)))
                    | ast.AnnAssign(target=ast.Name(id="name"), value=ast.Constant(str(name)))
                ):
                    yield name


def _import_class(name: str, path: Path) -> type[Benchmark]:
    """Return the class of a benchmark.

    Raises:
        UserError: If the file has a mistake; the message names file and line.
    """
    try:
        module = importlib.import_module(f"datasets.{path.parent.name}.{path.stem}")
    except SyntaxError as error:
        where = f"{error.filename or path}: line {error.lineno or 1}"
        raise UserError(f"{where}: {error.msg}") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(path)), 0)
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: line {line}: cannot be imported ({reason})") from error
    for _, value in inspect.getmembers(module, inspect.isclass):
        if value.__module__ == module.__name__ and getattr(value, "name", None) == name:
            if issubclass(value, Benchmark):
                return value
            raise UserError(f"{path}: class {value.__name__} is not a Benchmark")
    raise UserError(f"{path}: no class with the name '{name}'")
