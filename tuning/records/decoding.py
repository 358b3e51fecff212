"""Decoding of dataclasses from JSON objects."""

from collections.abc import Callable
from typing import TypeVar

Decoded = TypeVar("Decoded")


def decode_fields(make: Callable[..., Decoded], data: object, **decoded: object) -> Decoded:
    """Return a dataclass made from a JSON object.

    Args:
        make: The dataclass.
        data: The JSON object.
        decoded: Decoded values, which replace those of the object.

    Raises:
        TypeError: If the data is no object, or if a field is missing or unknown.
    """
    return make(**{**require_object(data), **decoded})


def require_object(data: object) -> dict[str, object]:
    """Return the data, which must be a JSON object.

    Raises:
        TypeError: If it is none.
    """
    if not isinstance(data, dict):
        raise TypeError(f"expected a JSON object, received {type(data).__name__}")
    return data
