"""Find components by the names of their files: a new component is one new file."""

import importlib
import inspect
import pkgutil
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

from common.errors import UserError, unknown_name_message
from common.imports import import_file

T = TypeVar("T")


class _Found(NamedTuple):
    classes: dict[str, type]
    mistakes: dict[str, str]  # one line per file with a mistake


def find_components(package: str, base: type[T]) -> dict[str, type[T]]:
    """Return the components of a package by name.

    A component is a class that the file ``<name>.py`` of the package defines and that derives
    from ``base``; files without one (``base.py``) are parts, not components. Files with a mistake
    are left out, see :func:`find_mistake`.

    Args:
        package: Dotted name, such as ``core.objectives``.
        base: The class from which the components derive.
    """
    found: dict[str, type[T]] = dict(_find(package, base).classes)  # type: ignore[arg-type]
    return found


def find_component(package: str, base: type[T], name: str) -> type[T]:
    """Return the component of a name.

    Raises:
        UserError: If there is none, or its file cannot be imported or defines several.
    """
    found = find_components(package, base)
    if name not in found:
        kind = base.__name__.lower()
        raise UserError(
            find_mistake(package, base, name) or unknown_name_message(kind, name, found)
        )
    return found[name]


def find_mistake(package: str, base: type, name: str) -> str | None:
    """Return the mistake in a component's file, in one line; None if there is none."""
    return _find(package, base).mistakes.get(name)


@cache
def _find(package: str, base: type) -> _Found:
    found = _Found({}, {})
    for folder in map(Path, importlib.import_module(package).__path__):
        for info in pkgutil.iter_modules([str(folder)]):
            try:
                file = f"{info.name}/__init__.py" if info.ispkg else f"{info.name}.py"
                component = _import_component(f"{package}.{info.name}", folder / file, base)
            except UserError as error:
                found.mistakes[info.name] = str(error)
                continue
            if component is not None:
                found.classes[info.name] = component
    return found


def _import_component(name: str, path: Path, base: type) -> type | None:
    """Return the component that a module defines; None if it defines none.

    Raises:
        UserError: If it cannot be imported, or defines several.
    """
    module = import_file(name, path)
    classes = [
        value
        for _, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, base)
        and value.__module__ == module.__name__
        and value is not base
        and not inspect.isabstract(value)
    ]
    if len(classes) > 1:
        names = " and ".join(sorted(value.__name__ for value in classes))
        raise UserError(f"{path}: defines {names}, expected one {base.__name__} per file")
    return classes[0] if classes else None
