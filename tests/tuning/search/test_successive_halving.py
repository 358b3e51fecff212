"""Successive halving prunes exactly as Ray's AsyncHyperBandScheduler does."""

import math
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import ASHAScheduler

from tuning.search.schedulers.successive_halving import SuccessiveHalving, make_successive_halving

TRIALS = 12
# Few distinct values, so that many tie; NaN and infinities too, which a study never reports.
VALUES = st.one_of(
    st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0]),
    st.floats(-1, 1),
    st.sampled_from([math.nan, math.inf, -math.inf]),
)
REPORTS = st.lists(st.tuples(st.integers(0, TRIALS - 1), st.integers(1, 3), VALUES), max_size=80)


class RayPruner:
    """Ray's scheduler behind the interface of ours."""

    def __init__(self, max_epochs: int, min_epochs: int, reduction_factor: int) -> None:
        self.scheduler = ASHAScheduler(
            time_attr="epochs", metric="value", mode="max", max_t=max_epochs,
            grace_period=min_epochs, reduction_factor=reduction_factor, stop_last_trials=False,
        )  # fmt: skip
        for trial in range(TRIALS):
            self.scheduler.on_trial_add(None, _as_ray_trial(trial))  # type: ignore[arg-type]

    def report(self, trial: int, epochs: int, value: float) -> bool:
        result = {"epochs": epochs, "value": value}
        decision = self.scheduler.on_trial_result(None, _as_ray_trial(trial), result)  # type: ignore[arg-type]
        return decision == ASHAScheduler.STOP

    def rungs(self) -> list[tuple[float, dict[int, float]]]:
        (bracket,) = self.scheduler._brackets
        return [
            (epoch, {int(trial): value for trial, value in values.items()})
            for epoch, values in bracket._rungs
        ]


def _as_ray_trial(number: int) -> Any:
    return SimpleNamespace(trial_id=str(number))


def _same_rungs(ours: SuccessiveHalving, theirs: RayPruner) -> bool:
    mine = [(rung.epoch, list(rung.values.items())) for rung in ours.rungs]
    rays = [(epoch, list(values.items())) for epoch, values in theirs.rungs()]
    return repr(mine) == repr(rays)  # NaN equals itself there, and 1 differs from 1.0


@given(
    max_epochs=st.integers(1, 300), start=st.integers(1, 300), factor=st.integers(2, 5),
    reports=REPORTS,
)  # fmt: skip
def test_decisions_and_rungs_are_those_of_ray(
    max_epochs: int, start: int, factor: int, reports: list[tuple[int, int, float]]
) -> None:
    """In any order of reports, with ties, repeated epochs, skipped rungs and undefined values."""
    min_epochs = min(start, max_epochs)
    ours = SuccessiveHalving(max_epochs, min_epochs, factor)
    theirs = RayPruner(max_epochs, min_epochs, factor)
    done = dict.fromkeys(range(TRIALS), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # percentiles of NaN and of infinities
        for trial, steps, value in reports:
            done[trial] += steps
            epochs = done[trial]
            assert ours.report(trial, epochs, value) == theirs.report(trial, epochs, value)
            assert _same_rungs(ours, theirs)


@given(
    epochs=st.integers(1, 30), curves=st.permutations(range(TRIALS)), lucky=st.integers(1, 4),
)  # fmt: skip
def test_whole_searches_prune_as_with_ray(epochs: int, curves: list[int], lucky: int) -> None:
    """Trials in a random order that a study would report: running best, a pruned one ends."""
    ours = make_successive_halving(epochs)
    theirs = RayPruner(epochs, max(1, epochs // 9), 3)
    for trial in curves:
        for epoch in range(1, epochs + 1):
            value = trial // lucky + epoch / 100
            pruned = ours.report(trial, epoch, value)
            assert pruned == theirs.report(trial, epoch, value)
            if pruned:
                break
    assert _same_rungs(ours, theirs)


@pytest.mark.parametrize("epochs", [1, 2, 8, 9, 27, 100, 243, 1000])
def test_rungs_of_a_study_are_those_of_ray(epochs: int) -> None:
    assert _same_rungs(make_successive_halving(epochs), RayPruner(epochs, max(1, epochs // 9), 3))


def test_a_trial_is_compared_once_at_each_rung() -> None:
    pruner = SuccessiveHalving(max_epochs=9, min_epochs=1)
    assert [rung.epoch for rung in pruner.rungs] == [9, 3, 1]
    assert not pruner.report(0, 1, 0.5)  # the first at a rung is never pruned
    assert pruner.report(1, 1, 0.4)
    assert not pruner.report(1, 2, 0.4)  # known at this rung
    assert not pruner.report(2, 1, 0.5)  # a tie continues
    assert not pruner.report(3, 5, 0.1)  # skips the first rung: nobody is on the second


def test_expected_epochs() -> None:
    assert make_successive_halving(9).expected_epochs() == pytest.approx(1 + 2 / 3 + 6 / 9)
    assert make_successive_halving(1).expected_epochs() == 1
