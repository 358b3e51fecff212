"""Decoding of dataclasses from JSON objects, whose values must have the types of the fields."""

import types
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Decoded = TypeVar("Decoded")


def decode_fields(
    make: Callable[..., Decoded], data: object, **decoders: Callable[[Any], object]
) -> Decoded:
    """Return a dataclass made from a JSON object.

    Args:
        make: The dataclass.
        data: The JSON object.
        decoders: Functions that decode the values of the fields of their names; other fields take
            the JSON values as they are.

    Raises:
        TypeError: If the data is no object, if a field is missing or unknown, or if its value has
            another type.
    """
    found = require_object(data)
    check_field_types(make, {n: value for n, value in found.items() if n not in decoders})
    return make(
        **{
            name: decoders[name](value) if name in decoders else value
            for name, value in found.items()
        }
    )


def check_field_types(make: Callable[..., object], values: Mapping[str, object]) -> None:
    """Check the JSON values of a dataclass's fields.

    Raises:
        TypeError: If a value has another type than its field.
    """
    checkers = _list_checkers(make)
    for name, value in values.items():
        if name in checkers and not checkers[name](value):
            raise TypeError(f"{name}: received {value!r:.80}")


def check_type(value: object, hint: object) -> None:
    """Check a JSON value.

    Raises:
        TypeError: If it has another type.
    """
    if not _make_checker(hint)(value):
        raise TypeError(f"received {value!r:.80}, expected {hint}")


@cache
def _list_checkers(make: Callable[..., object]) -> dict[str, Callable[[object], bool]]:
    return {name: _make_checker(hint) for name, hint in get_type_hints(make).items()}


@cache
def _make_checker(hint: Any) -> Callable[[object], bool]:
    """Return a function that says whether a JSON value has a type; others than JSON's pass."""
    origin, arguments = get_origin(hint), get_args(hint)
    if exact := _list_exact_types(hint):
        return lambda value: type(value) in exact
    if origin in (Union, types.UnionType):
        options = [_make_checker(argument) for argument in arguments]
        return lambda value: any(fits(value) for fits in options)
    if origin is Literal:
        return lambda value: value in arguments
    if origin in (list, tuple):
        fits_items = _make_items_checker(arguments[0])
        return lambda value: isinstance(value, (list, tuple)) and fits_items(value)
    if origin in (dict, Mapping):
        fits_values = _make_items_checker(arguments[1])
        return lambda value: isinstance(value, dict) and fits_values(value.values())
    return lambda value: True


def _make_items_checker(hint: Any) -> Callable[[Iterable[object]], bool]:
    """Return a function that says whether all of some JSON values have a type."""
    if exact := _list_exact_types(hint):  # one call for all of them: records have millions
        return lambda values: exact.issuperset(map(type, values))
    fits = _make_checker(hint)
    return lambda values: all(map(fits, values))


def _list_exact_types(hint: Any) -> frozenset[type]:
    """Return the types of the JSON values that a hint of plain values admits; empty for others."""
    if get_origin(hint) in (Union, types.UnionType):
        found = [_list_exact_types(argument) for argument in get_args(hint)]
        return frozenset().union(*found) if all(found) else frozenset()
    if hint is float:
        return frozenset((float, int))
    return frozenset((hint,)) if hint in (int, bool, str, types.NoneType) else frozenset()


def decode_optional(
    make: Callable[..., Decoded],
) -> Callable[[object], Decoded | None]:
    """Return a decoder of a dataclass or null."""
    return lambda data: None if data is None else decode_fields(make, data)


def require_object(data: object) -> dict[str, object]:
    """Return the data, which must be a JSON object.

    Raises:
        TypeError: If it is none.
    """
    if not isinstance(data, dict):
        raise TypeError(f"expected a JSON object, received {type(data).__name__}")
    return data
