"""Searchers: valid, reproducible, without repeats; TPE learns from all trials."""

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import optuna
import pytest

import datasets
from common.errors import UserError
from common.hyperparameters import Hyperparameter, Hyperparameters, active_names
from core.recipe.method_files import list_methods, load_method
from core.training.selection import Score
from tests.conftest import EMBEDDED, fitting
from tuning.options import Options
from tuning.records.run_data import TrialStatus
from tuning.search.proposal import count_trials, make_searcher
from tuning.search.searchers.base import Searcher, make_identity
from tuning.search.searchers.grid import GridSearcher, count_points, make_grid
from tuning.search.searchers.random import RandomSearcher
from tuning.search.searchers.tpe import TPESearcher, compute_running_best
from tuning.search.space import make_space

HYPERPARAMETERS = {
    "optimizer": Hyperparameter("choice", ("sgd", "adamw"), "sgd"),
    "momentum": Hyperparameter("uniform", (0.0, 0.9), 0.5, {"optimizer": ("sgd",)}),
    "layers": Hyperparameter("integer", (1, 3), 1),
}
EVERY = fitting(list_methods(), EMBEDDED)


def options(**changes: object) -> Options:
    return replace(Options(methods=("erm",), dataset="colored_digits"), **changes)  # type: ignore[arg-type]


def distinct() -> list[tuple[str, str]]:
    """Return a method and a benchmark for each space: many methods add no hyperparameter."""
    spaces = {
        repr(make_space(load_method(m), datasets.load_benchmark(d), options()).free): (m, d)
        for m, d in EVERY
    }
    return sorted(spaces.values())


@pytest.mark.parametrize(("method", "dataset"), distinct())
@pytest.mark.parametrize(("search", "count"), [("random", 200), ("tpe", 50)])
def test_every_space_gives_many_valid_proposals(
    method: str, dataset: str, search: str, count: int
) -> None:
    space = make_space(
        load_method(method), datasets.load_benchmark(dataset), options(search=search)
    )
    searcher = make_searcher(space, options(search=search), 0)
    assert searcher is not None
    seen = set()
    for number in range(count):
        config = searcher.propose_hyperparameters(number)
        assert config is not None
        assert list(config) == active_names(space.free, config)
        assert all(
            space.free[name].find_broken_rule(value) is None for name, value in config.items()
        )
        searcher.report_trial(number, [Score(0.5, 0.5, -1)], TrialStatus.COMPLETED)
        seen.add(make_identity(config))
    assert len(seen) == count


def test_conditional_hyperparameters_appear_only_where_they_mean_something() -> None:
    searchers: list[Searcher] = [
        RandomSearcher(HYPERPARAMETERS, 0, "x"),
        TPESearcher(HYPERPARAMETERS, 0),
    ]
    for searcher in searchers:
        configs = [searcher.propose_hyperparameters(number) for number in range(20)]
        assert {c["optimizer"] for c in configs if c} == {"sgd", "adamw"}
        for config in configs:
            assert config is not None
            assert ("momentum" in config) == (config["optimizer"] == "sgd")


def test_the_first_trial_has_the_defaults() -> None:
    defaults: Hyperparameters = {"optimizer": "sgd", "momentum": 0.5, "layers": 1}
    for searcher in (RandomSearcher(HYPERPARAMETERS, 0, "x"), TPESearcher(HYPERPARAMETERS, 0)):
        assert searcher.propose_hyperparameters(0) == defaults
        searcher.report_trial(0, [Score(0.5, 0.5, -1)], TrialStatus.COMPLETED)
        assert searcher.propose_hyperparameters(1) != defaults
    tpe = TPESearcher(HYPERPARAMETERS, 0)
    tpe.add_trial(3, defaults)
    assert tpe.propose_hyperparameters(0) != defaults


def test_random_configuration_is_a_function_of_seed_and_number() -> None:
    order = [
        RandomSearcher(HYPERPARAMETERS, 3, "erm").draw_hyperparameters(number)
        for number in (4, 0, 2)
    ]
    one = RandomSearcher(HYPERPARAMETERS, 3, "erm")
    assert [one.draw_hyperparameters(number) for number in (4, 0, 2)] == order
    assert RandomSearcher(HYPERPARAMETERS, 4, "erm").draw_hyperparameters(4) != order[0]
    assert RandomSearcher(HYPERPARAMETERS, 3, "rwg").draw_hyperparameters(4) != order[0]


@pytest.mark.slow
@pytest.mark.parametrize("searcher", ["RandomSearcher(K, 1, 'x')", "TPESearcher(K, 1)"])
def test_sequence_is_the_same_under_another_hash_seed(searcher: str) -> None:
    code = (
        "from tests.tuning.search.test_searchers import *; K = HYPERPARAMETERS; "
        f"s = {searcher}; print([s.propose_hyperparameters(i) for i in range(12)])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True,
            check=True, timeout=120, env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outputs) == 1


def test_small_spaces_end_when_all_was_tried() -> None:
    hyperparameters = {
        "a": Hyperparameter("choice", (1, 2), 1),
        "b": Hyperparameter("integer", (1, 3), 1),
    }
    assert count_points(hyperparameters) == 6
    searchers: list[Searcher] = [
        RandomSearcher(hyperparameters, 0, "x"),
        TPESearcher(hyperparameters, 0),
    ]
    for searcher in searchers:
        found: list[str] = []
        while (config := searcher.propose_hyperparameters(len(found))) is not None:
            searcher.report_trial(len(found), [Score(0.5, 0.5, -1)], TrialStatus.COMPLETED)
            found.append(make_identity(config))
        assert len(found) == len(set(found)) == 6


@pytest.mark.parametrize("seed", range(8))
def test_random_search_finds_the_last_configuration_of_a_finite_space(seed: int) -> None:
    hyperparameters = {
        "a": Hyperparameter("integer", (1, 10), 1),
        "b": Hyperparameter("choice", (1, 2, 3, 4, 5, 6), 1),
    }
    searcher = RandomSearcher(hyperparameters, seed, "x")
    assert len({make_identity(searcher.draw_hyperparameters(n) or {}) for n in range(60)}) == 60
    assert searcher.draw_hyperparameters(60) is None


def test_a_large_conditional_space_is_not_enumerated() -> None:
    hyperparameters = {
        "a": Hyperparameter("integer", (1, 2_000_000), 1, {"b": (1,)}),
        "b": Hyperparameter("choice", (1, 2), 1),
    }
    assert count_points(hyperparameters) is None


def test_dependents_of_a_dropped_hyperparameter_are_dropped() -> None:
    chain = {
        "a": Hyperparameter("choice", ("on", "off"), "on"),
        "b": Hyperparameter("choice", (1, 2), 1, {"a": ("on",)}),
        "c": Hyperparameter("choice", (1, 2), 1, {"b": (1,)}),
    }
    method = replace(load_method("erm"), search=chain)
    for value, left in (("off", set()), ("on", {"b", "c"})):
        space = make_space(
            method, datasets.load_benchmark("colored_digits"), options(pinned={"a": value})
        )
        assert set(space.free) - {"lr", "weight_decay", "batch_size"} == left


def test_tpe_learns_the_running_best_and_pruned_trials() -> None:
    searcher = TPESearcher(HYPERPARAMETERS, 0)
    for number in range(1, 4):
        searcher.propose_hyperparameters(number)
    numbers = [searcher.asked[number].number for number in range(1, 4)]
    scores = [Score(0.2, 0, -1), Score(0.9, 0, -2), None, Score(0.3, 0, -4)]
    searcher.report_trial(1, scores, TrialStatus.COMPLETED)
    searcher.report_trial(2, scores[:1], TrialStatus.PRUNED)
    searcher.report_trial(3, [], TrialStatus.FAILED)
    first, second, third = (searcher.study.trials[number] for number in numbers)
    assert (first.value, first.intermediate_values) == (0.9, {1: 0.2, 2: 0.9, 3: 0.9})
    assert second.state == optuna.trial.TrialState.PRUNED
    assert second.intermediate_values == {1: 0.2}
    assert third.state == optuna.trial.TrialState.FAIL


def test_tpe_takes_over_an_earlier_session() -> None:
    searcher = TPESearcher(HYPERPARAMETERS, 0)
    config: Hyperparameters = {"optimizer": "adamw", "layers": 2}
    searcher.add_trial(0, config)
    searcher.report_trial(0, [Score(0.7, 0, -1)], TrialStatus.COMPLETED)
    (trial,) = searcher.study.trials
    assert (trial.params, trial.value) == (config, 0.7)
    assert make_identity(config) in searcher.proposed


def test_tpe_finds_the_better_half() -> None:
    hyperparameters = {"x": Hyperparameter("uniform", (0.0, 1.0), 0.5)}
    searcher = TPESearcher(hyperparameters, 0)
    drawn = []
    for number in range(40):
        config = searcher.propose_hyperparameters(number)
        assert config is not None
        drawn.append(float(config["x"]))
        searcher.report_trial(
            number, [Score(1 - abs(drawn[-1] - 0.9), 0, -1)], TrialStatus.COMPLETED
        )
    assert sum(abs(x - 0.9) < 0.2 for x in drawn[20:]) > 12


def test_grid_combines_all_values_and_drops_inactive_ones() -> None:
    found = make_grid(HYPERPARAMETERS, {"momentum": [0.0, 0.9]})
    assert len(found) == 3 * 2 + 3
    assert len({make_identity(config) for config in found}) == len(found)
    assert GridSearcher(found).draw_hyperparameters(len(found)) is None


def test_running_best() -> None:
    assert compute_running_best([None, Score(0.2, 0, -2), Score(0.1, 0, -3)]) == [0.2, 0.2]


def test_fixed_values_leave_the_search() -> None:
    fixed = options(pinned={"lr": 0.1, "batch_size": 16}, epochs=3)
    space = make_space(load_method("erm"), datasets.load_benchmark("colored_digits"), fixed)
    assert set(space.free) == {"weight_decay"}
    assert space.complete({"weight_decay": 0.1}) == {
        "lr": 0.1, "batch_size": 16, "epochs": 3, "weight_decay": 0.1,
    }  # fmt: skip


def test_as_many_trials_as_the_space_holds() -> None:
    fixed = options(pinned={"lr": 0.1, "weight_decay": 0.1}, trials=10)
    space = make_space(load_method("erm"), datasets.load_benchmark("colored_digits"), fixed)
    assert count_trials(space, fixed) == 3
    assert count_trials(space, options(search="grid", pinned=fixed.pinned)) == 3


def test_without_a_published_configuration_all_hyperparameters_must_be_fixed() -> None:
    asked = options(search="published")
    space = make_space(load_method("erm"), datasets.load_benchmark("colored_digits"), asked)
    bare = replace(
        space,
        resolved=replace(
            space.resolved,
            method=replace(space.method, published={"waterbirds": {"lr": 0.1}}),
        ),
    )
    with pytest.raises(UserError, match=r"no published hyperparameters.*only for waterbirds"):
        make_searcher(bare, asked, 0)
    assert replace(bare, free={}, fixed={"lr": 0.2}).published() == {"lr": 0.2}


@pytest.mark.parametrize(
    "method", [m for m in list_methods() if "colored_digits" in load_method(m).published]
)
def test_published_configurations_set_every_hyperparameter(method: str) -> None:
    asked = options(search="published")
    space = make_space(load_method(method), datasets.load_benchmark("colored_digits"), asked)
    assert make_searcher(space, asked, 0) is None
    assert set(space.published() or {}) == set(space.free)


@pytest.mark.deviation("grid")
def test_published_grid_is_taken_as_published() -> None:
    method = load_method("jtt")
    benchmark = datasets.load_benchmark("colored_digits")
    space = make_space(method, benchmark, options(pinned={"T": 2}))
    grid: dict[str, dict[str, list[Any]]] = {"colored_digits": {"lr": [0.1, 0.2], "up": [4]}}
    resolved = replace(space.resolved, method=replace(method, grid=grid))
    named = replace(space, resolved=resolved)
    assert named.grid() == [{"lr": 0.1, "up": 4}, {"lr": 0.2, "up": 4}]
