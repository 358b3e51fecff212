"""Errors that a user can mend, and the nearest right name for a wrong one.

They live here because imports point downwards (``tuning -> core -> datasets``) and every
layer raises them. The command line prints their text and exits with code 2: no traceback.
"""

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """A mistake of the user's, told in one message: what was received, what was expected."""


class ValidationErrors(UserError):
    """Several mistakes, told at once.

    Args:
        problems: One sentence each, naming file, key, value received and rule broken.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the known name closest to ``name``, or ``""``."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""


def unknown_name_message(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence that refuses an unknown name: nearest right one and all known ones."""
    names = sorted(known)
    return (
        f"unknown {kind} '{name}'{suggest_name(name, names)}; known: {', '.join(names) or 'none'}"
    )
