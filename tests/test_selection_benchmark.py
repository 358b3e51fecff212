"""The recorded tables and their replays, on made-up curves with a known answer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.selection.curves import TableCurves
from benchmarks.selection.freeze_thaw import search_by_expected_gain
from benchmarks.selection.local_search import LocalSearcher, sample_near
from benchmarks.selection.planned_runs import (
    CONFIGURATIONS,
    SLOW_SEEDS,
    PlannedRun,
    TableName,
    draw_configurations,
    load_space,
    plan_runs,
)
from benchmarks.selection.recorded_table import (
    RecordedTable,
    add_runs,
    build_table,
    pack_tables,
    read_table,
    write_table,
)
from benchmarks.selection.replay import (
    Judged,
    bootstrap_difference,
    describe_table,
    format_average,
    format_interval,
    format_replays,
    replay_strategy,
    replay_table,
    split_seeds,
)
from benchmarks.selection.sharing import SharingSearcher, make_sharing
from benchmarks.selection.strategies import BASE, STRATEGIES, Replay, choose_by_rule
from benchmarks.selection.train_runs import Metrics, RunResult, read_results, train_runs
from common.hyperparameters import Hyperparameter, active_names
from core.training.selection import Score
from tuning.records.run_data import TrialStatus
from tuning.search.searchers.random import sample_hyperparameters
from tuning.search.simulate import make_simulated_searcher

NAME = TableName("rwg", "colored_digits")
SEEDS, EPOCHS = 4, 9
BEST = 7  # the configuration that is best on every seed
COMPLETED = TrialStatus.COMPLETED
WHOLE = "random, all epochs, best epoch"


def make_result(configuration: int, seed: int, random: np.random.Generator) -> RunResult:
    """A run that gets better with each epoch, up to a level of its configuration."""
    level = 0.9 if configuration == BEST else 0.2 + 0.4 * configuration / CONFIGURATIONS
    curve = np.round(level * np.arange(1, EPOCHS + 1) / EPOCHS + random.uniform(0, 0.01, EPOCHS), 4)

    def make_metrics(value: float) -> Metrics:
        return {"average_accuracy": 0.9, "worst_group_accuracy": value,
                "group_accuracy": [value, 0.9, 0.9, 0.9]}  # fmt: skip

    values = {"lr": 10 ** (-4 + 4 * configuration / CONFIGURATIONS), "weight_decay": 1e-3}
    rows = [make_metrics(float(value)) for value in curve]
    test = [*rows[:-1], make_metrics(float(curve[-1]) - 0.1)]
    return RunResult(
        NAME.method, NAME.dataset, configuration, seed, {**values, "batch_size": 32}, 0, "",
        [0.5] * EPOCHS, rows, test,
    )  # fmt: skip


@pytest.fixture(scope="module")
def table() -> RecordedTable:
    random = np.random.default_rng(0)
    numbers = range(CONFIGURATIONS + 1)
    return build_table(NAME, [make_result(c, s, random) for c in numbers for s in range(SEEDS)])


@pytest.fixture(scope="module")
def curves(table: RecordedTable) -> TableCurves:
    return TableCurves(table)


def test_a_file_holds_the_table(table: RecordedTable, tmp_path: Path) -> None:
    found = read_table(write_table(table, tmp_path))
    assert (found.rule, found.group_counts) == (table.rule, [91, 90, 89, 89])
    assert (found.name, found.space, found.hyperparameters) == (
        table.name, table.space, table.hyperparameters,
    )  # fmt: skip
    assert found.seeds == list(range(SEEDS))
    for one, other in ((found.validation, table.validation), (found.test, table.test)):
        np.testing.assert_array_equal(one, other)


def test_runs_are_added_to_a_known_table(table: RecordedTable, tmp_path: Path) -> None:
    numbers = range(CONFIGURATIONS + 1)
    random = np.random.default_rng(1)
    write_table(table, tmp_path)
    results = [make_result(c, s, random) for c in numbers for s in (3, SEEDS)]
    pack_tables(results, folder=tmp_path)
    found = read_table(tmp_path / f"{NAME}.npz")
    assert found.seeds == list(range(SEEDS + 1))
    assert len(found.list_runs()) == len(numbers) * (SEEDS + 1)
    new = build_table(NAME, results)
    for name in ("validation", "test", "seconds"):
        one, two, three = (getattr(t, name) for t in (found, table, new))
        np.testing.assert_array_equal(one[:, :3], two[:, :3])
        np.testing.assert_array_equal(one[:, 3:5], three[:, 3:5])
    other = replace(new, hyperparameters=[{**new.hyperparameters[0], "lr": 0.5}] * len(numbers))
    with pytest.raises(ValueError, match="other configurations"):
        add_runs(other, table)


def test_known_runs_are_not_trained_again(table: RecordedTable, tmp_path: Path) -> None:
    known = [run for run in plan_runs((NAME,)) if run != PlannedRun(NAME, 2, 5)]
    assert set(table.list_runs()) < set(known)
    path = tmp_path / "runs.jsonl"
    train_runs(path, (NAME,), 1, None, known)
    (result,) = read_results(path)
    assert result.planned == PlannedRun(NAME, 2, 5)
    assert len(result.validation) == 20
    assert result.hyperparameters == draw_configurations(load_space(NAME))[2]


def test_a_search_may_begin_with_a_random_configuration(curves: TableCurves) -> None:
    for name in (BASE, "local, asha, best epoch", "random, asha, best epoch"):
        starts = [(start if name != BASE else 0, start) for start in (0, BEST)]
        found = [
            STRATEGIES[name](Replay(curves, [0, 1], 3, EPOCHS, *start)).configuration
            for start in starts
        ]
        assert found[1] == BEST, name
        assert found[0] != BEST, name


def test_first_seeds_of_all_configurations_are_trained_first() -> None:
    slow = TableName("jtt", "colored_digits")
    planned = list(plan_runs((NAME, slow)))
    assert len(planned) == len(set(planned)) == (8 + SLOW_SEEDS) * (CONFIGURATIONS + 1)
    assert {run.seed for run in planned[: 2 * 2 * (CONFIGURATIONS + 1)]} == {0, 1}
    assert {run.seed for run in planned if run.table == slow} == set(range(SLOW_SEEDS))
    assert {run.configuration for run in planned[: CONFIGURATIONS + 1]} == set(
        range(CONFIGURATIONS + 1)
    )


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text('{"method": "rwg", "dataset": "colored_di\n')
    assert list(read_results(path)) == []
    assert list(read_results(tmp_path / "missing")) == []


def test_true_values_are_those_of_the_epoch_that_validation_chooses(curves: TableCurves) -> None:
    chosen = curves.validation.argmax(axis=2)
    expected = np.take_along_axis(curves.test, chosen[..., None], axis=2)[..., 0]
    np.testing.assert_array_equal(curves.chosen_test[:, :SEEDS], expected[:, :SEEDS])


def test_epochs_that_a_failed_run_lacks_have_the_worst_value(table: RecordedTable) -> None:
    validation = table.validation.copy()
    validation[3, 0, 4:] = np.nan
    found = TableCurves(replace(table, validation=validation)).validation
    assert (found[3, 0, 4:] == np.nanmin(validation[..., 1])).all()


def test_a_whole_search_finds_the_best_and_counts_its_epochs(curves: TableCurves) -> None:
    most = (CONFIGURATIONS + 1) * EPOCHS
    found = replay_strategy(curves, STRATEGIES[WHOLE], most, 3)
    assert found.regret == 0
    assert not found.overtuned.any()
    assert (found.epochs == most).all()


def test_intervals_are_over_seeds(curves: TableCurves) -> None:
    assert "bootstrap over the seeds" in describe_table(curves, 8)
    distinct = {tuple(sorted(split_seeds(curves.seeds, number).used)) for number in range(200)}
    assert len(distinct) == 6
    regrets = np.where(np.arange(4) < 2, np.nan, [[0.0, 0.0, 0.1, 0.3]] * 8)
    one = Judged(np.zeros(8), regrets, np.zeros(8), np.zeros(8), np.arange(8) % 2)
    other = replace(one, regrets=regrets * 0)
    assert one.regret == pytest.approx(0.2)
    # With the replays as independent the interval would have no width: all differ by 0.2.
    resampled = bootstrap_difference(one, other, range(4))
    assert set(resampled.round(6)) > {0.1, 0.2, 0.3}
    assert format_interval(0.2, resampled) == "+0.2 [+0.1, +0.3]"
    assert not bootstrap_difference(one, one, range(4)).any()


def test_the_mean_over_tables_has_the_strategies_of_all(curves: TableCurves) -> None:
    names = (BASE, "random, asha, best epoch", "random, asha, bootstrap")
    strategies = {name: STRATEGIES[name] for name in names}
    whole = replay_table(curves, strategies, 2, [40])
    part = replace(whole, judged=dict(list(whole.judged.items())[:2]))
    lines = list(format_average([whole, part]))
    assert [line.split(" | ")[0] for line in lines[-2:]] == [f"| {BASE}", f"| {names[1]}"]
    assert any(line.endswith("after more than 40 epochs") for line in format_replays(whole, 2))
    (rows,) = [[line for line in format_replays(part, 2) if line.startswith("| random")]]
    assert rows[0].split(" | ")[5] == lines[-1].split(" | ")[3]


def test_no_choice_depends_on_seeds_held_out(table: RecordedTable, curves: TableCurves) -> None:
    split = split_seeds(range(SEEDS), 0)
    assert not set(split.used) & set(split.held_out)
    altered = {}
    for field in ("validation", "test"):
        values = getattr(table, field).copy()
        values[:, split.held_out] = 1 - values[:, split.held_out]
        altered[field] = values
    other = TableCurves(replace(table, **altered))
    assert BASE in STRATEGIES
    for name, strategy in STRATEGIES.items():
        one = strategy(Replay(curves, split.used, seed=1, budget=60))
        assert one == strategy(Replay(other, split.used, seed=1, budget=60)), name
        assert one.epochs <= 60 + 2 * 2 * EPOCHS  # trials that run at the end are trained on


def test_the_automatic_search_takes_only_trials_that_beat_the_defaults_on_other_seeds(
    table: RecordedTable, curves: TableCurves
) -> None:
    whole = Replay(curves, [0, 1], seed=1, budget=2 * (CONFIGURATIONS + 1) * EPOCHS)
    alone, raced = STRATEGIES["auto, 1 finalist"](whole), STRATEGIES["auto"](whole)
    assert alone.configuration == raced.configuration == BEST
    assert raced.epochs == alone.epochs + 2 * EPOCHS  # a further seed of both finalists
    # The defaults are the equal of the best configuration on the second seed.
    validation = table.validation.copy()
    validation[0, 1] = validation[BEST, 1]
    lucky = replace(whole, curves=TableCurves(replace(table, validation=validation)))
    assert STRATEGIES["auto, 1 finalist"](lucky).configuration == BEST
    assert STRATEGIES["auto"](lucky).configuration == 0


def test_a_search_trains_the_best_of_the_others_in_its_second_half(
    table: RecordedTable, curves: TableCurves
) -> None:
    best = {**table.hyperparameters[BEST], "of_the_other": 3.0}
    searcher = SharingSearcher(curves, 0, [best, best], first=2)
    proposed = []
    for number in range(4):
        proposed.append(searcher.propose_hyperparameters(number))
        searcher.report_trial(number, curves.list_curves([0])[number].scores, COMPLETED)
    assert proposed[2] == table.hyperparameters[BEST]
    assert proposed.count(proposed[2]) == 1
    other = TableCurves(replace(table, name=TableName("erm", "colored_digits")))
    share = make_sharing([curves, other], choose_by_rule(1))
    for seed in range(3):  # what the whole search of the other finds, this one trains too
        choice = share(Replay(curves, [0, 1], seed, budget=2 * (CONFIGURATIONS + 1) * EPOCHS))
        assert choice.configuration == BEST


SPACE = {
    "lr": Hyperparameter("log_uniform", (1e-4, 1.0), 0.01),
    "batch_size": Hyperparameter("choice", (16, 32, 64, 128, 256), 64),
    "layers": Hyperparameter("integer", (0, 8), 4),
    "width": Hyperparameter("log_integer", (1, 300), 20),
    "optimizer": Hyperparameter("choice", ("sgd", "adamw"), "sgd"),
    "nesterov": Hyperparameter("choice", (False, True), False, {"optimizer": ("sgd",)}),
}


@given(st.integers(0, 2**32))
def test_values_near_others_are_valid(seed: int) -> None:
    generator = np.random.default_rng(seed)
    center = sample_hyperparameters(SPACE, generator)
    found = sample_near(SPACE, center, generator)
    assert list(found) == active_names(SPACE, found)
    for name, value in found.items():
        assert SPACE[name].find_broken_rule(value) is None
        assert type(value) is type(SPACE[name].default)


def test_half_of_a_local_search_is_near_the_best_trial() -> None:
    space = {"x": Hyperparameter("uniform", (0.0, 1.0), 0.5)}
    searchers = [LocalSearcher(space, 0, "m") for _ in range(2)]
    drawn = []
    for number in range(300):
        values = searchers[0].propose_hyperparameters(number)
        assert values is not None
        if number < 150:  # the other one takes over a search that was killed
            searchers[1].add_trial(number, values)
        else:
            assert searchers[1].propose_hyperparameters(number) == values
        drawn.append(float(values["x"]))
        for searcher in searchers:
            searcher.report_trial(number, [Score(1 - abs(drawn[-1] - 0.9), 0.0, -1)], COMPLETED)
    share = float(np.mean(np.abs(np.array(drawn[50:]) - 0.9) < 0.1))
    assert 0.35 < share < 0.65  # more than half of a half, and a fifth of the other


def test_freeze_thaw_continues_what_promises_most(curves: TableCurves) -> None:
    budget = 12 * EPOCHS
    pool = curves.make_pool([0])
    searcher = make_simulated_searcher("random", pool, 0)
    trials = search_by_expected_gain(pool, searcher, budget, 0.3)
    assert sum(len(trial.scores) for trial in trials) == budget
    assert trials[0].is_default
    assert [trial.number for trial in trials] == list(range(len(trials)))
    values = {t.number: max(s.value for s in t.curve.scores if s) for t in trials}
    best = max(values, key=lambda number: values[number])
    assert trials[best].status == COMPLETED
    epochs = [len(trial.scores) for trial in trials]
    assert epochs[best] == EPOCHS > np.mean(epochs)  # others stop before
    again = search_by_expected_gain(
        curves.make_pool([0]), make_simulated_searcher("random", pool, 0), budget, 0.3
    )
    assert [t.scores for t in again] == [t.scores for t in trials]
