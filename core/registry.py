"""Find components by the names of their files: a new component is one new file."""

import importlib
import inspect
import pkgutil
from functools import cache
from typing import TypeVar

T = TypeVar("T")


@cache
def find_components(package: str, base: type[T]) -> dict[str, type[T]]:
    """Return the components of a package by name.

    A component is a class that the file ``<name>.py`` of the package defines and that derives
    from ``base``; files without one (``base.py``) are parts, not components.

    Args:
        package: Dotted name, such as ``core.objectives``.
        base: The class from which the components derive.

    Raises:
        TypeError: If a file defines more than one.
    """
    found: dict[str, type[T]] = {}
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        module = importlib.import_module(f"{package}.{info.name}")
        classes = [
            value
            for _, value in inspect.getmembers(module, inspect.isclass)
            if issubclass(value, base)
            and value.__module__ == module.__name__
            and value is not base
            and not inspect.isabstract(value)
        ]
        if len(classes) > 1:
            raise TypeError(f"{package}.{info.name} defines {len(classes)} components, expected 1")
        if classes:
            found[info.name] = classes[0]
    return found
