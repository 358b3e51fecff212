"""Parameters of components and the kinds of values that they take, by their annotations."""

import inspect
from collections.abc import Mapping
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

KIND_NAMES: Mapping[type, str] = {
    int: "an integer", float: "a number", str: "a string", bool: "a boolean", NoneType: "null"
}  # fmt: skip


def parameter_kinds(component_class: type) -> dict[str, Any]:
    """Return the annotation of each parameter of a component's class, by name."""
    initialize: Any = component_class.__init__  # type: ignore[misc]
    kinds = get_type_hints(initialize)
    kinds.pop("return", None)
    return kinds


def required_parameters(component_class: type) -> list[str]:
    """Return the names of the parameters of a component's class that have no default."""
    parameters = inspect.signature(component_class).parameters.values()
    return [p.name for p in parameters if p.default is inspect.Parameter.empty]


def list_kinds(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the one kind itself."""
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def name_kinds(kind: Any) -> str:
    """Return the kinds of a parameter's values in words."""
    names = [
        KIND_NAMES.get(option, option.__name__) if get_origin(option) is None else "a mapping"
        for option in list_kinds(kind)
    ]
    return " or ".join(names)


def has_kind(kind: Any, value: object) -> bool:
    """Return whether a value is of a kind that is no mapping."""
    if get_origin(kind) is not None or (kind in (int, float) and isinstance(value, bool)):
        return False
    numbers: dict[Any, type] = {int: Integral, float: Real}
    return isinstance(value, numbers.get(kind, kind))


def find_wrong_value(component_class: type, parameters: Mapping[str, Any]) -> str | None:
    """Return an error message if a parameter's value is of a wrong kind, else None."""
    kinds = parameter_kinds(component_class)
    for name, value in parameters.items():
        options = list_kinds(kinds[name])
        is_mapping = isinstance(value, Mapping) and any(get_origin(o) is Mapping for o in options)
        if not is_mapping and not any(has_kind(option, value) for option in options):
            return f"{name} is {value!r}, expected {name_kinds(kinds[name])}"
    return None
