"""Errors that a user can fix, and the nearest right name for a wrong one.

They are here because imports point downwards (``tuning -> core -> datasets -> common``) and every
layer raises them. The command line prints their text and exits with code 2, without a traceback.
"""

import difflib
import re
from collections.abc import Iterable, Sequence

MAX_LISTED_PROBLEMS = 10
MAX_SUGGESTIONS = 3
MIN_SIMILARITY = 0.5  # of a suggested name, difflib's ratio


class UserError(Exception):
    """A mistake of the user, described in one message: the value received and the one expected."""


class ValidationErrors(UserError):
    """Several mistakes at once.

    Args:
        problems: One sentence each, with file, key, value received and rule broken.
        limit: How many of them the message lists; None lists all.
    """

    def __init__(self, problems: Sequence[str], limit: int | None = None) -> None:
        super().__init__(problems, limit)
        self.problems = list(problems)
        self._limit = limit

    def __str__(self) -> str:
        """Return one line per problem, as far as they are listed."""
        listed = self.problems[: self._limit]
        more = len(self.problems) - len(listed)
        return "\n".join([*listed, f"... and {more:,} more"] if more else listed)


def truncate_problems(problems: Sequence[str]) -> ValidationErrors:
    """Return an error whose message lists the first problems and counts the others."""
    return ValidationErrors(problems, MAX_LISTED_PROBLEMS)


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` with all known names closest to ``name``, or ``""``.

    Case and separators do not count, and initials are recognized: ``lr`` for ``learning_rate``.
    """
    found = [repr(match) for match in _find_closest_names(name, list(dict.fromkeys(known)))]
    *others, last = found or [""]
    return f" (did you mean {', '.join(others)}{' or ' * bool(others)}{last}?)" if last else ""


def _find_closest_names(name: str, known: list[str]) -> list[str]:
    simple = _remove_separators(name)
    same = [other for other in known if _remove_separators(other) == simple]
    if same:
        return same
    abbreviated = [
        other
        for other in known
        if _remove_separators(other) == _take_initials(name) or simple == _take_initials(other)
    ]
    if abbreviated:
        return abbreviated
    ratios = {
        other: difflib.SequenceMatcher(None, other.casefold(), name.casefold()).ratio()
        for other in known
    }
    highest = max(ratios.values(), default=0.0)
    if highest < MIN_SIMILARITY:
        return []
    return [other for other, ratio in ratios.items() if ratio == highest][:MAX_SUGGESTIONS]


def _remove_separators(name: str) -> str:
    return re.sub(r"[-_\s]", "", name.casefold())


def _take_initials(name: str) -> str:
    """Return the initials of several words; of one word a text that equals no name."""
    words = [word for word in re.split(r"[-_\s]+", name.casefold()) if word]
    return "".join(word[0] for word in words) if len(words) > 1 else " "


def unknown_name_message(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name, with the nearest and all known ones."""
    names = sorted(known)
    parts = [part for part in re.split(r"[,;\s]+", name) if part]
    if parts != [name] and parts and all(part in names for part in parts):
        return f"received '{name}', expected {kind}s separated by spaces: {' '.join(parts)}"
    suggestion = suggest_name(name, names)
    return f"unknown {kind} '{name}'{suggestion}; known: {', '.join(names) or 'none'}"
