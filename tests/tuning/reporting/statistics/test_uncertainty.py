"""The parts of a result's uncertainty, and the winner's curse."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from core.training.selection import RULES, Score
from tests.support.epoch_rows import make_row
from tests.support.run_records import describe_run
from tests.tuning.reporting.test_export import CONTEXT
from tuning.records.run_data import TrialStatus
from tuning.reporting.intervals import SHARE, compute_statistics
from tuning.reporting.recorded_study import RecordedStudy, RecordedTrial
from tuning.reporting.statistics.uncertainty import (
    describe_group,
    list_group_uncertainties,
    measure_choice,
    split_uncertainty,
)
from tuning.reporting.statistics.winner_values import compare_winner_values

RULE = RULES["validation_worst_group_accuracy"]


def make_trial(number: int, *values: float) -> RecordedTrial:
    """Return a finished trial of one epoch, with a worst-group accuracy per search seed."""
    described = describe_run(number)
    score = Score(float(np.mean(values)), 0.0, -1)
    return RecordedTrial(
        number, {}, {}, described.key, (), (), TrialStatus.COMPLETED, "",
        tuple((make_row(1, worst_group_accuracy=value),) for value in values), (score,),
    )  # fmt: skip


@settings(max_examples=30)
@given(st.integers(1, 300), st.data())
def test_group_intervals_agree_with_scipy(count: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, count))
    found = describe_group("g", right / count, count)
    expected = stats.binomtest(right, count).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert found.standard_error == pytest.approx(
        stats.binom.std(count, right / count) / count, abs=1e-9
    )


def test_parts_add_up_and_unknown_ones_are_named() -> None:
    metrics = {
        "test_worst_group_accuracy": compute_statistics([0.5, 0.6, 0.7], SHARE),
        "test_group_accuracy[left]": compute_statistics([0.5, 0.6, 0.7], SHARE),
        "test_group_count[left]": compute_statistics([90, 90, 90]),
    }
    (group,) = list_group_uncertainties(metrics)
    assert (group.name, group.count) == ("left", 90)
    study = RecordedStudy(CONTEXT, (make_trial(0, 0.6),), ())
    found = split_uncertainty(study, metrics, "left")
    assert found is not None
    assert found.seed == pytest.approx(0.1 / math.sqrt(3), abs=1e-9)
    assert found.group == pytest.approx(math.sqrt(0.6 * 0.4 / 90), abs=1e-9)
    assert found.total == pytest.approx(math.hypot(0.1 / math.sqrt(3), group.standard_error))
    assert found.configuration is None
    assert found.unknown == (
        "choice of configuration: the search has one training seed (--search-seeds)",
    )
    assert split_uncertainty(study, {}, None) is None


def test_choice_of_configuration_is_measured_on_other_seeds() -> None:
    # seeds 0 and 1 choose the first trial, seed 2 the second
    trials = [make_trial(0, 0.9, 0.91, 0.5), make_trial(1, 0.4, 0.42, 0.52)]
    others = [(0.91 + 0.5) / 2, (0.9 + 0.5) / 2, (0.4 + 0.42) / 2]
    first, second = np.var([0.9, 0.91, 0.5], ddof=1), np.var([0.4, 0.42, 0.52], ddof=1)
    fixed = (2 * first + second) / 3 / 2**2  # means over two of three seeds of one trial
    expected = math.sqrt(np.var(others, ddof=1) - fixed)
    assert measure_choice(RULE, trials) == pytest.approx(expected, abs=1e-9)
    assert measure_choice(RULE, [make_trial(0, 0.8)]) is None


def test_the_same_choice_of_all_seeds_adds_nothing() -> None:
    alone = make_trial(0, 0.7, 0.8, 0.9)
    assert measure_choice(RULE, [alone]) == 0
    assert measure_choice(RULE, [alone, make_trial(1, 0.1, 0.1, 0.1)]) == 0
    # equal configurations: their choice costs nothing, though seeds choose differently
    equal = [make_trial(n, *np.roll([0.6, 0.7, 0.8], n).tolist()) for n in range(3)]
    assert measure_choice(RULE, equal) == 0


def test_seeds_that_keep_the_defaults_choose_the_same_trial() -> None:
    rule = RULES["validation_worst_group_accuracy_or_default"]
    trials = [make_trial(0, 0.9, 0.91, 0.5), make_trial(1, 0.4, 0.42, 0.52)]
    score = Score(0.77, 0.0, -1, error=0.1)
    kept = [replace(trials[0], is_default=True, scores=(score,)), trials[1]]
    assert measure_choice(rule, kept) == 0
    found = measure_choice(RULE, kept)
    assert found == measure_choice(RULE, trials)
    assert found


def test_the_defaults_are_kept_where_the_rule_prefers_them_to_a_better_trial() -> None:
    rule = "validation_worst_group_accuracy_or_default"
    context = replace(CONTEXT, rule=rule, finalists=1)

    def find(default: float, other: float, **changes: Any) -> bool:
        first = replace(
            make_trial(0, default), is_default=True, scores=(Score(default, 0.0, -1, 0.05),)
        )
        study = RecordedStudy(replace(context, **changes), (first, make_trial(1, other)), ())
        assert study.winner is not None
        assert study.keeps_default <= (study.winner is first)
        return study.keeps_default

    assert find(0.70, 0.75)
    assert not find(0.70, 0.80)  # better by a standard error
    assert not find(0.75, 0.70)  # the best trial
    assert find(0.70, 0.75, finalists=2)  # until further seeds decide otherwise
    assert not find(0.70, 0.75, rule="validation_worst_group_accuracy_best3")


def test_a_winner_beyond_the_prediction_interval_of_its_seeds_is_named() -> None:
    validation = compute_statistics([0.77, 0.79, 0.78, 0.76, 0.80], SHARE)
    test = compute_statistics([0.75] * 5, SHARE)
    half = stats.t.ppf(0.975, 4) * stats.tstd(validation.values) * math.sqrt(1 + 1 / 5)
    for searched, expected in ((0.78 + half + 1e-6, True), (0.78 + half - 1e-6, False)):
        study = RecordedStudy(CONTEXT, (make_trial(0, searched),), ())
        found = compare_winner_values(study, validation, test)
        assert found.exceeds_seeds == expected
        assert (found.searched, found.validation, found.test) == pytest.approx(
            (searched, 0.78, 0.75)
        )
    study = RecordedStudy(CONTEXT, (make_trial(0, 0.9),), ())
    for values in ([0.5, 0.5, 0.5], [0.5, 0.6]):
        assert not compare_winner_values(
            study, compute_statistics(values, SHARE), test
        ).exceeds_seeds
    published = RecordedStudy(replace(CONTEXT, search="published"), (), ())
    assert not compare_winner_values(published, validation, test).exceeds_seeds
