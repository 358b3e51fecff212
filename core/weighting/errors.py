"""Errors of arguments, and their messages."""

import difflib
from collections.abc import Iterable


class WeightingError(ValueError):
    """The arguments of :func:`core.weighting.backward` do not fit each other or the weighting."""


def describe_unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name, with the nearest and all known ones."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1)
    suggestion = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    return f"unknown {kind} {name!r}{suggestion}; known: {', '.join(names) or 'none'}"
