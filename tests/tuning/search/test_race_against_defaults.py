"""The race with the default hyperparameters: by a rule that prefers them, only a gain wins."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.training.selection import RULES, Score
from tests.support.real_searches import BASE, search_of
from tuning.records.run_data import Phase, TrialStatus
from tuning.search.finalist_race import (
    DEFAULT_FINALISTS,
    FINALIST_SEEDS,
    PreferredTrial,
    count_finalist_runs,
    run_race,
)
from tuning.search.finalists import find_race
from tuning.selection import list_finalists
from tuning.study.checks import check_study
from tuning.worker.trial_work import EpochReport

RULE = RULES["validation_worst_group_accuracy_or_default"]
SEEDS = st.lists(st.floats(0, 1), min_size=FINALIST_SEEDS, max_size=FINALIST_SEEDS)


@dataclass(frozen=True)
class Trial:
    number: int
    value: float
    is_default: bool = False
    status: TrialStatus = TrialStatus.COMPLETED

    @property
    def scores(self) -> Sequence[Score | None]:
        return [Score(self.value, 0.5, -1, error=0.05)]


def test_the_finalists_are_the_defaults_and_better_trials() -> None:
    default = Trial(0, 0.5, is_default=True)
    near, far, same, worse = Trial(1, 0.55), Trial(2, 0.7), Trial(3, 0.5), Trial(4, 0.4)
    trials = [default, near, far, same, worse]
    assert list_finalists(trials, RULE, 1) == [far]
    assert list_finalists(trials, RULE, 2) == [far, default]
    assert list_finalists(trials, RULE, 9) == [far, near, default]
    assert list_finalists([default, near, same, worse], RULE, 2) == [default, near]
    assert list_finalists([default, same, worse], RULE, 2) == [default]
    assert list_finalists([near, far], RULE, 2) == [far]  # without the defaults
    assert list_finalists([near, far, worse], RULE, 3) == [far, near, worse]
    plain = replace(RULE, margin=0.0)
    assert list_finalists(trials, plain, 2) == [far, near]
    failed = replace(far, status=TrialStatus.FAILED)
    assert list_finalists([default, near, failed], RULE, 2) == [default, near]


def test_the_margin_falls_with_the_square_root_of_the_seeds() -> None:
    preferred = PreferredTrial(0, 0.1)
    values = {0: [0.5, 0.5, 0.5], 1: [0.56, 0.56, 0.56]}
    for seeds, wins in ((1, False), (2, False), (3, True)):
        known = {number: found[:seeds] for number, found in values.items()}
        race = run_race([0, 1], known, preferred)
        assert race.leader == int(wins), seeds
        assert race.is_decided == (seeds == FINALIST_SEEDS)
    assert 0.1 / math.sqrt(3) < 0.06 < 0.1 / math.sqrt(2)


def test_a_trial_leaves_as_soon_as_its_mean_is_no_better() -> None:
    preferred = PreferredTrial(0, 0.1)
    race = run_race([1, 0, 2], {0: [0.5], 1: [0.5], 2: [0.9]}, preferred)
    assert (race.left, race.leader, race.is_decided) == ((0, 2), 2, False)
    race = run_race([1, 0], {0: [0.5], 1: [0.4]}, preferred)
    assert (race.left, race.leader, race.seeds, race.is_decided) == ((0,), 0, 1, True)


def test_without_a_further_seed_the_rule_decides() -> None:
    assert run_race([1, 0], {}, PreferredTrial(0, 0.1)).leader == 1
    assert run_race([0, 1], {}, PreferredTrial(0, 0.1)).leader == 0


@pytest.mark.parametrize(
    ("default", "other", "winner"),
    [(-math.inf, 0.1, 1), (0.1, -math.inf, 0), (-math.inf, -math.inf, 0)],
)
def test_failed_runs_win_nothing(default: float, other: float, winner: int) -> None:
    values = {0: [default] * FINALIST_SEEDS, 1: [other] * FINALIST_SEEDS}
    race = run_race([1, 0], values, PreferredTrial(0, 0.1))
    assert (race.leader, race.is_decided) == (winner, True)


@given(st.lists(SEEDS, min_size=2, max_size=4), st.floats(0, 0.5))
def test_agrees_with_a_slow_reference(values: list[list[float]], margin: float) -> None:
    known: dict[int, list[float]] = {number: [] for number in range(len(values))}
    preferred = PreferredTrial(0, margin)
    race = run_race(list(known), known, preferred)
    while not race.is_decided:
        assert 0 in race.left
        for number in race.left:
            known[number] = values[number][: race.seeds + 1]
        race = run_race(list(known), known, preferred)
    assert race == run_race(list(known), dict(enumerate(values)), preferred)
    assert sum(map(len, known.values())) <= count_finalist_runs(len(values))
    if len(values) == 2:
        means = [[sum(v[:n]) / n for v in values] for n in range(1, FINALIST_SEEDS + 1)]
        stays = all(other > own for own, other in means)
        own, other = means[-1]
        gain = margin / math.sqrt(FINALIST_SEEDS)
        assert race.leader == int(stays and other > own + gain)


def test_the_margin_is_that_of_the_rule() -> None:
    trials = [Trial(1, 0.9), Trial(0, 0.5, is_default=True)]
    limit = 0.05 * math.sqrt(2 / FINALIST_SEEDS)
    for gain, winner in ((limit - 1e-3, 0), (limit + 1e-3, 1)):
        runs = {0: [Trial(0, 0.5)] * FINALIST_SEEDS, 1: [Trial(1, 0.5 + gain)] * FINALIST_SEEDS}
        race = find_race(RULE, trials, runs)
        assert race is not None
        assert (race.leader, race.is_decided) == (winner, True)


@pytest.mark.parametrize(
    ("changes", "finalists"),
    [
        ({}, DEFAULT_FINALISTS),
        ({"finalists": 1}, 1),
        ({"finalists": 4}, 4),
        ({"search": "random"}, 1),
        ({"search": "random", "select": RULE.name}, DEFAULT_FINALISTS),
        ({"dataset": "two_digits", "methods": ("ls",)}, 1),
    ],
)
def test_only_a_rule_that_prefers_the_defaults_has_two_finalists(
    changes: dict[str, object], finalists: int, tmp_path: Path
) -> None:
    options = replace(BASE, results=tmp_path, **{"search": "auto", **changes})  # type: ignore[arg-type]
    assert check_study(options).options.finalist_count == finalists


@pytest.mark.parametrize(("further", "winner"), [(0.85, 1), (0.52, 0), (0.1, 0)])
def test_further_seeds_decide_against_the_defaults(
    further: float, winner: int, tmp_path: Path
) -> None:
    search = search_of(tmp_path, trials=3, epochs=1, scheduler="none", seeds=1, finalists=2)
    assert search.rule is RULE
    values = {0: 0.5, 1: 0.9, 2: 0.1}
    raced = []
    while (trial := search.next_trial()) is not None and trial.phase != Phase.CONFIRM:
        value = values[trial.number]
        if trial.phase == Phase.FINALIST:
            raced.append(trial.number)
            value = further if trial.number else 0.5
        score = Score(value, 0.5, -1, error=0.05)
        report = EpochReport(epoch=1, seconds=1.0, score=score, status="completed")
        search.report_epoch(trial, report)
    assert raced == [1, 0] * (1 if further < 0.5 else FINALIST_SEEDS)
    assert search.select_hyperparameters() == search.trials[winner].hyperparameters
