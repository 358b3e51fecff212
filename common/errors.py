"""Errors that a user can fix, and the nearest right name for a wrong one.

They are here because imports point downwards (``tuning -> core -> datasets -> common``) and every
layer raises them. The command line prints their text and exits with code 2, without a traceback.
"""

import difflib
from collections.abc import Iterable, Sequence

MAX_LISTED_PROBLEMS = 10


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
    """Return ``" (did you mean 'x'?)"`` for the known name closest to ``name``, or ``""``."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""


def unknown_name_message(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name, with the nearest and all known ones."""
    names = sorted(known)
    suggestion = suggest_name(name, names)
    return f"unknown {kind} '{name}'{suggestion}; known: {', '.join(names) or 'none'}"
