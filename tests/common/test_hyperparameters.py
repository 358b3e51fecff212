"""Hyperparameters: every sample obeys its domain, and mistakes in YAML are reported."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.hyperparameters import (
    KINDS,
    Hyperparameter,
    active_names,
    parse_hyperparameter,
    sort_by_conditions,
)

positive = st.floats(1e-6, 1e6, allow_nan=False)
positions = st.floats(0, 1, exclude_max=True)


@given(positive, positive, positions, st.sampled_from(["uniform", "log_uniform"]))
def test_ranges_stay_in_bounds(a: float, b: float, position: float, kind: str) -> None:
    low, high = sorted((a, b))
    hyperparameter = Hyperparameter(kind, (low, high), low)
    assert hyperparameter.find_broken_rule(hyperparameter.value_at(position)) is None


@given(st.integers(1, 1000), st.integers(0, 1000), positions, st.booleans())
def test_integers_stay_whole_and_in_bounds(
    low: int, width: int, position: float, log: bool
) -> None:
    hyperparameter = Hyperparameter("log_integer" if log else "integer", (low, low + width), low)
    value = hyperparameter.value_at(position)
    assert isinstance(value, int)
    assert hyperparameter.find_broken_rule(value) is None


def test_integers_reach_both_ends_evenly() -> None:
    hyperparameter = Hyperparameter("integer", (1, 4), 1)
    values = [hyperparameter.value_at(i / 4000) for i in range(4000)]
    assert [values.count(v) for v in (1, 2, 3, 4)] == [1000] * 4


def test_log_range_is_even_on_its_scale() -> None:
    hyperparameter = Hyperparameter("log_uniform", (1e-4, 1.0), 1.0)
    assert [hyperparameter.value_at(p) for p in (0, 0.25, 0.5, 0.75)] == pytest.approx(
        [1e-4, 1e-3, 1e-2, 1e-1]
    )


@given(st.sampled_from(KINDS), st.integers(2, 5))
def test_grid_is_sorted_distinct_and_valid(kind: str, points: int) -> None:
    hyperparameter = Hyperparameter(kind, (1, 9), 1)
    grid = hyperparameter.make_grid(points)
    assert len(set(grid)) == len(grid)
    assert all(hyperparameter.find_broken_rule(value) is None for value in grid)
    assert grid[0] == 1
    assert grid[-1] == 9


@given(positive, positive, st.sampled_from(["uniform", "log_uniform"]), st.integers(2, 5))
def test_grids_stay_in_bounds(a: float, b: float, kind: str, points: int) -> None:
    low, high = sorted((a, b))
    grid = Hyperparameter(kind, (low, high), low).make_grid(points)
    assert all(low <= float(value) <= high for value in grid)


@given(st.integers(1, 10**9), st.integers(1, 10**9), st.sampled_from(["integer", "log_integer"]))
def test_grids_of_integers_reach_both_ends(low: int, width: int, kind: str) -> None:
    grid = Hyperparameter(kind, (low, low + width), low).make_grid()
    assert (grid[0], grid[-1]) == (low, low + width)
    assert all(isinstance(value, int) for value in grid)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ({"uniform": [1, 0], "default": 0.5}, "reversed"),
        ({"uniform": [1, 1], "default": 1}, "empty"),
        ({"choice": [], "default": 1}, "at least one"),
        ({"choice": [1, 1], "default": 1}, "once"),
        ({"uniform": [0, 1]}, "no default"),
        ({"uniform": [0, 1], "default": 2}, "from 0 to 1"),
        ({"uniform": [0, 1], "choice": [1], "default": 1}, "exactly one"),
        ({"unifrom": [0, 1], "default": 1}, "did you mean 'uniform'"),
        ({"log_uniform": [0, 1], "default": 1}, "above 0"),
        ({"integer": [0.5, 2], "default": 1}, "expected integers"),
        ({"integer": [1, 5], "default": 1.5}, "an integer"),
        ({"uniform": ["a", 1], "default": 1}, "two numbers"),
        ({"uniform": [0, float("inf")], "default": 1}, "two numbers"),
        ({"choice": [[1], 2], "default": 2}, "numbers, strings"),
        ({"choice": ["a"], "default": "a", "when": 3}, "mapping"),
        ([0, 1], "mapping"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_place(text: Any, word: str) -> None:
    problems: list[str] = []
    assert parse_hyperparameter("file.yaml: search.x", text, problems) is None
    assert all(problem.startswith("file.yaml: search.x") for problem in problems)
    assert any(word in problem for problem in problems)


def test_conditions_chain() -> None:
    hyperparameters = {
        "c": Hyperparameter("choice", (1, 2), 1, {"b": (1,)}),
        "b": Hyperparameter("choice", (1, 2), 1, {"a": ("on",)}),
        "a": Hyperparameter("choice", ("on", "off"), "on"),
    }
    assert sort_by_conditions(hyperparameters) == ["a", "b", "c"]
    assert active_names(hyperparameters, {"a": "on", "b": 1}) == ["a", "b", "c"]
    assert active_names(hyperparameters, {"a": "on", "b": 2}) == ["a", "b"]
    assert active_names(hyperparameters, {"a": "off", "b": 1}) == ["a"]


def test_circular_conditions_are_refused() -> None:
    hyperparameters = {
        "a": Hyperparameter("choice", (1,), 1, {"b": (1,)}),
        "b": Hyperparameter("choice", (1,), 1, {"a": (1,)}),
    }
    with pytest.raises(ValueError, match="circular"):
        sort_by_conditions(hyperparameters)


@given(st.integers(0, 2**32 - 1))
def test_samples_repeat_from_their_seed(seed: int) -> None:
    hyperparameter = Hyperparameter("log_uniform", (1e-5, 1.0), 1.0)
    draws = [hyperparameter.sample(np.random.Generator(np.random.PCG64(seed))) for _ in range(2)]
    assert draws[0] == draws[1]
