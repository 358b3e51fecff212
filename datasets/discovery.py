"""Find the benchmarks' classes in their files without importing every file.

Some benchmarks import slow libraries, so files are parsed: a class belongs to the benchmark whose
``name`` it sets or inherits. A file is imported only to use its benchmark, or where parsing does
not tell the name (``name = PREFIX + "digits"``).
"""

import ast
import builtins
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from common.errors import UserError, unknown_name_message
from common.imports import import_file
from datasets.benchmark import Benchmark

PACKAGE = Path(__file__).parent
FOLDERS = ("groups", "multitask")
BENCHMARK = (Benchmark.__module__, Benchmark.__name__)
# Libraries whose classes are no benchmarks.
OTHER_LIBRARIES = sys.stdlib_module_names | {"numpy", "pandas", "torch"}

ClassId = tuple[str, str]  # module and name


class _Computed:
    """The value of a ``name`` that only an import tells."""


COMPUTED = _Computed()
Name = str | _Computed | None


@dataclass(frozen=True)
class _ParsedClass:
    """A class as its file describes it.

    Args:
        name: The value of its own ``name``; None if it has none.
        bases: Its base classes; None for those whose module the file does not tell.
    """

    name: Name
    bases: tuple[ClassId | None, ...]


@dataclass(frozen=True)
class _ParsedFile:
    """The classes of a file; ``broken`` if it cannot be parsed."""

    classes: dict[str, _ParsedClass] = field(default_factory=dict)
    broken: bool = False


class _NotABenchmark(UserError):
    """A file has a class with a benchmark's name that is not a benchmark itself."""


@cache
def find_files() -> dict[str, tuple[Path, ...]]:
    """Return the files with classes of each benchmark's name, by that name.

    A file that cannot be parsed or imported counts as a benchmark of the file's name, so that using
    it reports the mistake.
    """
    found: dict[str, tuple[Path, ...]] = {}
    for kind in FOLDERS:
        for path in sorted((PACKAGE / kind).glob("*.py")):
            if not path.name.startswith(("_", ".")):
                for name in dict.fromkeys(_list_names(path)):
                    found[name] = (*found.get(name, ()), path)
    return found


def find_class(name: str) -> type[Benchmark]:
    """Return the class of a benchmark.

    Raises:
        UserError: If there is no such benchmark, its file has a mistake, or several files define
            it.
    """
    files = find_files()
    if name not in files:
        raise UserError(unknown_name_message("data set", name, files))
    if len(files[name]) == 1:
        return _import_benchmark(name, files[name][0])
    found: dict[Path, type[Benchmark] | UserError] = {}
    for path in files[name]:
        try:
            found[path] = _import_benchmark(name, path)
        except _NotABenchmark:
            continue
        except UserError as error:
            found[path] = error
    if len(found) != 1:
        paths = " and ".join(map(str, found or files[name]))
        raise UserError(f"data set '{name}' is defined in {paths}; give one of them another `name`")
    (benchmark,) = found.values()
    if isinstance(benchmark, UserError):
        raise benchmark
    return benchmark


def _import_benchmark(name: str, path: Path) -> type[Benchmark]:
    """Return the class of a benchmark that a file defines.

    Raises:
        UserError: If the file has a mistake; the message names it.
    """
    named = [c for c in _import_classes(path) if getattr(c, "name", None) == name]
    benchmarks = [c for c in named if issubclass(c, Benchmark)]
    if not benchmarks:
        if named:
            raise _NotABenchmark(f"{path}: class {named[0].__name__} is not a Benchmark")
        raise UserError(f"{path}: no class with the name '{name}'")
    last = [c for c in benchmarks if not any(issubclass(o, c) for o in benchmarks if o is not c)]
    if len(last) > 1:
        classes = " and ".join(sorted(c.__name__ for c in last))
        raise UserError(f"{path}: classes {classes} have the same name '{name}'")
    (benchmark,) = last
    missing = sorted(getattr(benchmark, "__abstractmethods__", ()))
    if missing:
        raise _NotABenchmark(
            f"{path}: class {benchmark.__name__} does not define {', '.join(missing)}"
        )
    return benchmark


def _import_classes(path: Path) -> list[type]:
    """Return the classes that a file defines.

    Raises:
        UserError: If it cannot be imported.
    """
    module = import_file(_name_module(path), path)
    classes = [c for _, c in inspect.getmembers(module, inspect.isclass)]
    return [c for c in classes if c.__module__ == module.__name__]


def _name_module(path: Path) -> str:
    return ".".join(("datasets", *path.relative_to(PACKAGE).with_suffix("").parts))


def _list_names(path: Path) -> Iterator[str]:
    """Yield the names of the benchmarks that a file defines."""
    module = _name_module(path)
    parsed = _parse_file(module)
    if parsed.broken:
        yield path.stem
        return
    names = [_resolve_name((module, name)) for name in parsed.classes]
    if any(name is COMPUTED for name in names):
        try:
            classes = _import_classes(path)
        except UserError:
            yield path.stem
            return
        names = [getattr(c, "name", None) for c in classes if issubclass(c, Benchmark)]
    yield from (name for name in names if isinstance(name, str))


def _resolve_name(identity: ClassId) -> Name:
    """Return the ``name`` of a class, its own or the first that it inherits."""
    module, name = identity
    if identity == BENCHMARK or module.split(".")[0] in OTHER_LIBRARIES:
        return None
    parsed = _parse_file(module).classes.get(name) if module.startswith("datasets.") else None
    if parsed is None:
        return COMPUTED  # of another package, or made in another way
    if parsed.name is not None:
        return parsed.name
    inherited = (COMPUTED if base is None else _resolve_name(base) for base in parsed.bases)
    return next((name for name in inherited if name is not None), None)


@cache
def _parse_file(module: str) -> _ParsedFile:
    parts = module.split(".")[1:]
    path = PACKAGE.joinpath(*parts).with_suffix(".py")
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return _ParsedFile(broken=True)
    origins = dict(_list_imports(tree))
    statements = list(_walk_module(tree.body))
    classes: dict[str, _ParsedClass] = {}
    for node in statements:
        if isinstance(node, ast.ClassDef):
            classes[node.name] = _parse_class(node, origins)
            origins[node.name] = (module, node.name)
    return _ParsedFile(classes)


def _walk_module(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that an import runs, those inside ``if``, ``try`` and ``with`` too."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody"):
            if isinstance(node, (ast.If, ast.Try, ast.With)):
                yield from _walk_module(getattr(node, part, []))
        for handler in getattr(node, "handlers", ()):
            yield from _walk_module(handler.body)


def _list_imports(tree: ast.Module) -> Iterator[tuple[str, ClassId]]:
    """Yield the names that a file imports, each with its module and its name there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, (node.module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name, (alias.name, "")


def _parse_class(node: ast.ClassDef, origins: dict[str, ClassId]) -> _ParsedClass:
    return _ParsedClass(_parse_name(node), tuple(_find_base(base, origins) for base in node.bases))


def _find_base(base: ast.expr, origins: dict[str, ClassId]) -> ClassId | None:
    """Return module and name of a base class; None if the file does not tell them."""
    if isinstance(base, ast.Subscript):  # a generic class
        base = base.value
    module, _, name = ast.unparse(base).rpartition(".")
    if not module:
        return origins.get(name, ("builtins", name) if hasattr(builtins, name) else None)
    if module not in origins:
        return None
    package, inner = origins[module]
    return f"{package}.{inner}".rstrip("."), name


def _parse_name(node: ast.ClassDef) -> Name:
    """Return the value of the ``name`` that the body of a class sets; None if it sets none."""
    found: Name = None
    for line in node.body:
        match line:
            case (
                ast.Assign(targets=[ast.Name(id="name")], value=value)
                | ast.AnnAssign(target=ast.Name(id="name"), value=ast.expr() as value)
            ):
                constant = value.value if isinstance(value, ast.Constant) else None
                found = constant if isinstance(constant, str) else COMPUTED
            case ast.FunctionDef(name="name"):
                found = COMPUTED
    return found
