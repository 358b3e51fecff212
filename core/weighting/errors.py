"""Errors of arguments, and their messages."""

import difflib
import math
from collections.abc import Iterable


class WeightingError(ValueError):
    """The arguments of :func:`core.weighting.backward` do not fit each other or the weighting."""


def describe_unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name, with the nearest and all known ones."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1)
    suggestion = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    return f"unknown {kind} {name!r}{suggestion}; known: {', '.join(names) or 'none'}"


def require_positive(**values: float) -> None:
    """Refuse parameters that are not above 0, or not finite.

    Raises:
        ValueError: If there is one.
    """
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}, expected a number above 0")


def require_at_least(minimum: int, **values: float) -> None:
    """Refuse parameters below a minimum, or not finite.

    Raises:
        ValueError: If there is one.
    """
    for name, value in values.items():
        if not minimum <= value < math.inf:
            raise ValueError(f"{name} is {value}, expected a number of at least {minimum}")
