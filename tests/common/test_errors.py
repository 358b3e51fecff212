"""Errors of users: what they list, and that they survive a way through another process."""

import copy
import pickle

import pytest
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


@pytest.mark.parametrize(
    ("name", "known", "suggestion"),
    [
        ("RWG", ["rwg", "rwy", "erm"], "'rwg'"),
        ("Colored-Digits", ["colored_digits", "two_digits"], "'colored_digits'"),
        ("rgw", ["erm", "rwg", "rwy"], "'rwg' or 'rwy'"),
        ("learning_rate", ["lr", "batch_size", "weight_decay"], "'lr'"),
        ("learning-rate", ["lr", "batch_size", "weight_decay"], "'lr'"),
        ("wd", ["lr", "batch_size", "weight_decay"], "'weight_decay'"),
        ("a", ["abc_def", "xyz"], ""),
    ],
)
def test_names_are_suggested_as_people_write_them(
    name: str, known: list[str], suggestion: str
) -> None:
    expected = f" (did you mean {suggestion}?)" if suggestion else ""
    assert suggest_name(name, known) == expected


def test_names_joined_by_commas_are_explained() -> None:
    assert unknown_name_message("method", "rwg,erm", ["erm", "rwg"]) == (
        "received 'rwg,erm', expected methods separated by spaces: rwg erm"
    )
    assert "unknown method 'rwg,x'" in unknown_name_message("method", "rwg,x", ["erm", "rwg"])


@pytest.mark.medium
@given(name=st.text(max_size=8), known=st.lists(st.text(max_size=8), max_size=5))
def test_only_known_names_are_suggested(name: str, known: list[str]) -> None:
    suggestion = suggest_name(name, known)
    assert not suggestion or any(repr(other) in suggestion for other in known)
