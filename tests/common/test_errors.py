"""Errors of users: what they list, and that they survive a way through another process."""

import copy
import pickle

from hypothesis import given
from hypothesis import strategies as st

from common.errors import (
    MAX_LISTED_PROBLEMS,
    ValidationErrors,
    suggest_name,
    truncate_problems,
    unknown_name_message,
)

LINES = st.lists(st.text("abc ", min_size=1), max_size=25)


@given(problems=LINES)
def test_a_truncated_error_lists_some_and_keeps_all(problems: list[str]) -> None:
    error = truncate_problems(problems)
    assert error.problems == problems
    lines = str(error).split("\n") if problems else []
    assert lines[:MAX_LISTED_PROBLEMS] == problems[:MAX_LISTED_PROBLEMS]
    more = len(problems) - MAX_LISTED_PROBLEMS
    assert lines[MAX_LISTED_PROBLEMS:] == ([f"... and {more} more"] if more > 0 else [])


@given(problems=LINES)
def test_copies_of_an_error_say_the_same(problems: list[str]) -> None:
    for error in (ValidationErrors(problems), truncate_problems(problems)):
        for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert str(twin) == str(error)
            assert twin.problems == problems


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    known = ["waterbirds", "celeba"]
    assert suggest_name("waterbrids", known) == " (did you mean 'waterbirds'?)"
    assert suggest_name("xyz", known) == ""
    assert unknown_name_message("data set", "celba", known) == (
        "unknown data set 'celba' (did you mean 'celeba'?); known: celeba, waterbirds"
    )
    assert unknown_name_message("method", "x", []) == "unknown method 'x'; known: none"
