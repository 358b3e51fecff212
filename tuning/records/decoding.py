"""Decoding of dataclasses from JSON objects."""

from collections.abc import Callable
from typing import Any, TypeVar

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
        TypeError: If the data is no object, or if a field is missing or unknown.
    """
    return make(
        **{
            name: decoders[name](value) if name in decoders else value
            for name, value in require_object(data).items()
        }
    )


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
