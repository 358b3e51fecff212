"""Searches that pause trials and promote the best, on made-up curves, without training."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.training.selection import RULES, Score
from tests.support.made_searches import (
    EPOCHS,
    RULE,
    drive_search,
    make_scores,
    make_search,
    summarize_trials,
    train_epoch,
)
from tuning.records.run_data import TrialStatus
from tuning.search.method_search import MethodSearch
from tuning.search.schedulers.promotion import Promoter, make_promoter

PROMOTION = "asha_promotion"


def search_of(folder: Path, trials: int, search: str = "random") -> MethodSearch:
    return make_search(folder, trials, search=search, scheduler=PROMOTION)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], MethodSearch]:
    """Searches of one slot, by their trials."""
    found: dict[int, MethodSearch] = {}

    def get_search(trials: int) -> MethodSearch:
        if trials not in found:
            found[trials] = search_of(tmp_path_factory.mktemp("one"), trials)
            assert drive_search(found[trials], 1, 0)
        return found[trials]

    return get_search


def test_the_best_third_of_each_rung_continue(
    undisturbed: Callable[[int], MethodSearch],
) -> None:
    found = summarize_trials(undisturbed(9))
    assert {epochs for _, epochs in found.values()} <= {1, 3, EPOCHS}
    assert all(status == ("completed" if epochs == EPOCHS else "pruned")
               for status, epochs in found.values())  # fmt: skip
    values = {n: make_scores(n, 1)[0] for n in range(9)}
    best = sorted(values, key=lambda n: -(score.value if (score := values[n]) else 0))[:3]
    assert all(found[number][1] >= 3 for number in best)
    assert sum(epochs for _, epochs in found.values()) < 9 * EPOCHS / 2


@pytest.mark.parametrize(("slots", "seed"), [(2, 1), (4, 2), (9, 3)])
def test_slots_and_kills_change_no_promotion(
    tmp_path: Path, undisturbed: Callable[[int], MethodSearch], slots: int, seed: int
) -> None:
    search = search_of(tmp_path, 12)
    while not drive_search(search, slots, seed, most_epochs=7):
        search = search_of(tmp_path, 12)  # killed, and resumed from its records alone
    assert summarize_trials(search) == summarize_trials(undisturbed(12))
    winner, other = search.find_incumbent(), undisturbed(12).find_incumbent()
    assert winner is not None
    assert other is not None
    assert winner.number == other.number


def test_a_longer_search_continues_trials_that_had_ended(
    tmp_path: Path, undisturbed: Callable[[int], MethodSearch]
) -> None:
    assert drive_search(search_of(tmp_path, 5), 2, 0)
    extended = search_of(tmp_path, 12)
    assert drive_search(extended, 3, 1)
    assert summarize_trials(extended) == summarize_trials(undisturbed(12))
    again = search_of(tmp_path, 12)
    assert again.is_search_done
    assert summarize_trials(again) == summarize_trials(extended)


def test_a_search_that_is_closed_chooses_among_paused_trials(tmp_path: Path) -> None:
    search = search_of(tmp_path, 12)
    drive_search(search, 2, 0, most_epochs=4)
    search.close()
    assert search.is_closed
    for trial in [t for t in search.trials.values() if t.status == TrialStatus.RUNNING]:
        assert not train_epoch(search, trial, len(trial.scores) + 1)
    assert search.is_search_done
    assert search.find_incumbent() is not None
    resumed = search_of(tmp_path, 12)
    assert not resumed.is_search_done
    assert drive_search(resumed, 2, 1)


def test_tpe_learns_from_paused_trials(tmp_path: Path) -> None:
    search = search_of(tmp_path, 6, "tpe")
    assert drive_search(search, 2, 0)
    assert len({str(trial.hyperparameters) for trial in search.trials.values()}) == 6
    assert drive_search(search_of(tmp_path, 8, "tpe"), 2, 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_promotions_depend_on_no_order(values: list[int], random: object) -> None:
    def promote(order: list[int]) -> list[dict[int, bool]]:
        promoter = Promoter(RULE, EPOCHS)
        for number in order:
            promoter.report_epochs(number, [Score(values[number], 0.0, -1)])
        return [{n: n in rung.promoted for n in range(len(values))} for rung in promoter.rungs]

    assert hasattr(random, "shuffle")
    order = list(range(len(values)))
    expected = promote(order)
    random.shuffle(order)
    assert promote(order) == expected
    promoted = {n for n, is_promoted in expected[0].items() if is_promoted}
    best = sorted(range(len(values)), key=lambda n: (-values[n], n))[: len(values) // 3]
    assert promoted >= set(best)


def test_a_failed_trial_is_never_promoted() -> None:
    promoter = Promoter(RULE, EPOCHS)
    for number in range(2):
        promoter.report_epochs(number, [], TrialStatus.FAILED)
    assert promoter.report_epochs(2, make_scores(2, 1)) == [2]
    for number in range(3, 6):
        assert promoter.report_epochs(number, [], TrialStatus.FAILED) == []


def test_equal_trials_are_promoted_together() -> None:
    promoter = Promoter(RULE, EPOCHS)
    equal: list[Score | None] = [Score(0.0, 0.0, -1)]
    assert [promoter.report_epochs(n, equal) for n in range(5)] == [[], [], [0, 1, 2], [3], [4]]
    assert promoter.report_epochs(5, make_scores(5, 1)) == [5]


def test_ranks_by_several_epochs_where_the_rule_does() -> None:
    rule = RULES["validation_worst_group_accuracy_best3"]
    promoter = make_promoter(PROMOTION, rule, EPOCHS)
    assert promoter is not None
    curves = {0: [0.1, 0.1, 0.9], 1: [0.5, 0.5, 0.5], 2: [0.0, 0.0, 0.0]}
    for number, curve in curves.items():
        scores: list[Score | None] = [Score(v, 0.0, -e) for e, v in enumerate(curve, start=1)]
        for rung in (1, 3):
            promoter.report_epochs(number, scores[:rung])
    for number in (3, 4):
        promoter.report_epochs(number, [replace(Score(0.0, 0.0, -1))])
    assert promoter.rungs[0].promoted == {1}
    assert make_promoter("asha", rule, EPOCHS) is None
    assert make_promoter(PROMOTION, rule, 1) is None
