"""Find the benchmarks' classes in their files without importing every file.

Some benchmarks import slow libraries, so files are parsed: a class belongs to the benchmark whose
``name`` it sets or inherits. A file is imported only to use its benchmark, or where parsing does
not tell the name (``name = PREFIX + "digits"``, ``Digits.name = ...``, ``type(...)``).

Of several files with a name, the one whose own class sets it counts before those that inherit it
from there: a benchmark stays usable whichever files derive from it.
"""

import ast
import builtins
import inspect
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from common.errors import UserError, unknown_name_message
from common.imports import import_file
from datasets.benchmark import Benchmark

PACKAGE = Path(__file__).parent
FOLDERS = ("groups", "multitask", "environments")
BENCHMARK = (Benchmark.__module__, Benchmark.__name__)
# Libraries whose classes are no benchmarks.
OTHER_LIBRARIES = sys.stdlib_module_names | {"numpy", "pandas", "torch"}

# Functions that can set a name, or make a class, that the text of a file does not tell.
INDIRECT = {"exec", "globals", "locals", "setattr", "vars"}
LAST = sys.maxsize  # the distance of a file with a mistake that has the name of a benchmark

# Nodes with variables of their own.
SCOPES = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)

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
    """The classes of a file.

    Args:
        classes: By name; those inside functions and other classes by their line.
        imported: The names that it imports.
        computed: Whether it can set a class's name, or make a class, outside a ``class`` statement.
        broken: Whether it cannot be parsed.
    """

    classes: dict[str, _ParsedClass] = field(default_factory=dict)
    imported: frozenset[str] = frozenset()
    computed: bool = False
    broken: bool = False


class _NotABenchmark(UserError):
    """A file has no benchmark of a name, though it seemed to, or one that is not complete."""


@cache
def find_files() -> dict[str, tuple[tuple[Path, ...], ...]]:
    """Return the files with classes of each benchmark's name, by that name.

    They are in groups: first the files whose own classes set the name, then those that inherit it
    from another file, directly and over further files. A file that cannot be parsed or imported
    counts as a benchmark of the file's name, after all others, so that using it reports the
    mistake.
    """
    found: dict[str, dict[int, tuple[Path, ...]]] = {}
    for kind in FOLDERS:
        for path in sorted((PACKAGE / kind).glob("*.py")):
            if not path.name.startswith(("_", ".")):
                # The last entry of a name stays: the one with the smallest distance.
                named = dict(sorted(_list_names(path), key=lambda pair: -pair[1]))
                for name, distance in named.items():
                    groups = found.setdefault(name, {})
                    groups[distance] = (*groups.get(distance, ()), path)
    return {name: tuple(groups[key] for key in sorted(groups)) for name, groups in found.items()}


def find_class(name: str) -> type[Benchmark]:
    """Return the class of a benchmark.

    Raises:
        UserError: If there is no such benchmark, its file has a mistake, or several files define
            it.
    """
    files = find_files()
    if name not in files:
        raise UserError(unknown_name_message("data set", name, files))
    incomplete: list[UserError] = []
    for paths in files[name]:
        found: dict[Path, type[Benchmark] | UserError] = {}
        for path in paths:
            try:
                found[path] = _import_benchmark(name, path)
            except _NotABenchmark as error:
                incomplete.append(error)
            except UserError as error:
                found[path] = error
        if len(found) > 1:
            places = " and ".join(map(str, found))
            raise UserError(
                f"data set '{name}' is defined in {places}; give one of them another `name`"
            )
        for benchmark in found.values():
            if isinstance(benchmark, UserError):
                raise benchmark
            return benchmark
    raise incomplete[0]


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
        raise _NotABenchmark(f"{path}: no class with the name '{name}'")
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
    imported = _parse_file(module.__name__).imported
    found = dict.fromkeys(  # each once, also where several variables hold it
        c
        for variable, c in inspect.getmembers(module, inspect.isclass)
        if c.__module__ == module.__name__ or (variable not in imported and not _has_home(c))
    )
    return list(found)


def _has_home(made: type) -> bool:
    """Whether the module that a class names has it: ``type(...)`` names the one of its caller."""
    return getattr(sys.modules.get(made.__module__), made.__name__, None) is made


def _name_module(path: Path) -> str:
    return ".".join(("datasets", *path.relative_to(PACKAGE).with_suffix("").parts))


def _list_names(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the names of the benchmarks in a file, each with its distance.

    The distance is the number of times that a class inherits the name from another file: 0 for the
    file that sets it.
    """
    module = _name_module(path)
    parsed = _parse_file(module)
    if parsed.broken:
        yield path.stem, LAST
        return
    names = [_resolve_name((module, name)) for name in parsed.classes]
    if parsed.computed or any(name is COMPUTED for name, _ in names):
        try:
            classes = [c for c in _import_classes(path) if issubclass(c, Benchmark)]
        except UserError:
            yield path.stem, LAST
        else:
            names = [(getattr(c, "name", None), _measure_distance(c)) for c in classes]
    yield from ((name, distance) for name, distance in names if isinstance(name, str))


def _measure_distance(named: type) -> int:
    """Return the distance of an imported class's name, see :func:`_list_names`."""
    base = next((base for base in named.__bases__ if hasattr(base, "name")), None)
    if "name" in vars(named) or base is None:
        return 0
    return _measure_distance(base) + (base.__module__ != named.__module__)


def _resolve_name(identity: ClassId, derived: frozenset[ClassId] = frozenset()) -> tuple[Name, int]:
    """Return the ``name`` of a class, its own or the first that it inherits, and its distance.

    Args:
        identity: The class.
        derived: The classes that inherit from it.
    """
    module, name = identity
    if identity == BENCHMARK or module.split(".")[0] in OTHER_LIBRARIES:
        return None, 0
    file = _parse_file(module) if module.startswith("datasets.") else _ParsedFile()
    parsed = file.classes.get(name)
    elsewhere = any(other != module for other, _ in derived)
    if parsed is None or identity in derived or (file.computed and elsewhere):
        return COMPUTED, 0  # of another package, or made in another way
    if parsed.name is not None:
        return parsed.name, 0
    for base in parsed.bases:
        found, distance = _resolve_name(base, derived | {identity}) if base else (COMPUTED, 0)
        if base is None or found is not None:
            return found, distance + (base is not None and base[0] != module)
    return None, 0


@cache
def _parse_file(module: str) -> _ParsedFile:
    parts = module.split(".")[1:]
    path = PACKAGE.joinpath(*parts).with_suffix(".py")
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return _ParsedFile(broken=True)
    origins = dict(_list_imports(tree))
    imported = frozenset(origins)
    statements = list(_walk_module(tree.body))
    classes: dict[str, _ParsedClass] = {}
    for node in statements:
        if isinstance(node, ast.ClassDef):
            parsed = _parse_class(node, origins)
            if node.name in classes:  # the import decides which one stays
                parsed = replace(parsed, name=COMPUTED)
            classes[node.name] = parsed
            origins[node.name] = (module, node.name)
    for inner in set(ast.walk(tree)).difference(statements):
        if isinstance(inner, ast.ClassDef):
            parsed = _parse_class(inner, origins)
            name = None if parsed.name is None else COMPUTED
            classes[f"line {inner.lineno}"] = replace(parsed, name=name)
    return _ParsedFile(classes, imported, any(map(_is_indirect, ast.walk(tree))))


def _is_indirect(node: ast.AST) -> bool:
    """Whether code can set a class's ``name``, or make a class, outside a ``class`` statement."""
    match node:
        case ast.Attribute(value=owner, attr="name", ctx=ast.Store()):
            return not (isinstance(owner, ast.Name) and owner.id == "self")
        case ast.Call(func=ast.Name(id="type"), args=[_, _, *_]):
            return True
        case ast.Call(args=[ast.Constant(value=str()), ast.Tuple(elts=[*bases]), *_]) if bases:
            # Another metaclass, or types.new_class("Mine", (ColoredDigits,)).
            return all(isinstance(base, ast.Name | ast.Attribute) for base in bases)
        case ast.Name(id=function):
            return function in INDIRECT
    return False


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
    """Describe a class; its decorators, metaclass and keywords can set its name too."""
    makers = [part.func if isinstance(part, ast.Call) else part for part in node.decorator_list]
    makers += [keyword.value for keyword in node.keywords if keyword.arg == "metaclass"]
    modules = [(_find_base(maker, origins) or ("", ""))[0].split(".")[0] for maker in makers]
    is_plain = OTHER_LIBRARIES.union({"builtins"}).issuperset(modules) and all(
        keyword.arg == "metaclass" for keyword in node.keywords
    )
    name = _parse_name(node) if is_plain else COMPUTED
    return _ParsedClass(name, tuple(_find_base(base, origins) for base in node.bases))


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
    plain: set[ast.AST] = set()  # the targets of assignments whose values the file tells
    for line in node.body:
        match line:
            case (
                ast.Assign(value=ast.Constant(value=str(value)))
                | ast.AnnAssign(value=ast.Constant(value=str(value)))
            ):
                targets = line.targets if isinstance(line, ast.Assign) else [line.target]
                named = [t for t in targets if isinstance(t, ast.Name) and t.id == "name"]
                plain.update(named)
                found = value if named else found
            case ast.AnnAssign(value=None):  # a declaration
                plain.add(line.target)
    inside = _walk_scope(node.body)
    return COMPUTED if any(_binds_name(part) for part in inside if part not in plain) else found


def _walk_scope(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield nodes and all nodes in them, but none inside functions, classes, comprehensions."""
    for node in nodes:
        yield node
        if not isinstance(node, SCOPES):
            yield from _walk_scope(ast.iter_child_nodes(node))


def _binds_name(node: ast.AST) -> bool:
    """Whether a node sets or deletes the variable ``name``."""
    if isinstance(node, ast.Name):
        return node.id == "name" and not isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.alias) and node.asname:
        return node.asname == "name"
    # Functions, classes, imports, exceptions and patterns.
    return "name" in (getattr(node, "name", None), getattr(node, "rest", None))
