"""Whether trials differ beyond noise: known deviations, and the note of a table."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import stdev

import numpy as np
import pytest

import datasets
from core.training.selection import Score
from tests.support.run_records import describe_run
from tests.support.summaries import make_summary_of
from tests.tuning.reporting.test_export import CONTEXT
from tuning.records.run_data import Confirmation, TrialStatus
from tuning.reporting.recorded_study import RecordedStudy, RecordedTrial
from tuning.reporting.statistics.search_spread import (
    SearchConclusion,
    SearchSpread,
    measure_search_spread,
)
from tuning.reporting.summary import Summary
from tuning.reporting.table_notes import list_warnings


def make_trial(
    number: int, value: float, status: TrialStatus = TrialStatus.COMPLETED, phase: str = "search"
) -> RecordedTrial:
    description = describe_run(number, phase, lr=0.1)
    return RecordedTrial(
        number, dict(description.hyperparameters), {}, description.key, (), (), status, "", (),
        (Score(value, 0.5, -1),), Confirmation(1, {}, {}) if phase == "confirm" else None,
    )  # fmt: skip


def measure(
    trials: Sequence[float], seeds: Sequence[float], pruned: Sequence[float] = (), runs: int = 1
) -> SearchSpread:
    ended = [make_trial(number, value) for number, value in enumerate(trials)]
    early = [
        make_trial(len(trials) + number, value, TrialStatus.PRUNED)
        for number, value in enumerate(pruned)
    ]
    confirmed = [make_trial(n, value, phase="confirm") for n, value in enumerate(seeds)]
    count = len(ended) + len(early)
    context = replace(
        CONTEXT, search_seeds=runs, seeds=len(seeds), trials=count, constant_metric=0.0
    )
    found = measure_search_spread(RecordedStudy(context, (*ended, *early), tuple(confirmed)))
    assert found is not None
    return found


TRIALS = (0.7, 0.72, 0.68, 0.71, 0.69, 0.73)
SEEDS = (0.66, 0.7, 0.74, 0.69, 0.71)


def test_deviations_are_those_of_whole_trials_and_of_seeds() -> None:
    found = measure(TRIALS, SEEDS)
    assert (found.trials, found.seeds) == (6, 5)
    assert found.deviation == pytest.approx(stdev(TRIALS))
    assert found.noise == pytest.approx(stdev(SEEDS))
    assert found.gain == pytest.approx(0.7 - 0.705)
    assert found.between == 0
    assert not found.exceeds_noise
    assert found.conclusion is SearchConclusion.EQUAL
    several = measure(TRIALS, SEEDS, runs=4)
    assert several.noise == pytest.approx(stdev(SEEDS) / 2)
    assert several.between == pytest.approx(np.sqrt(stdev(TRIALS) ** 2 - stdev(SEEDS) ** 2 / 4))


def test_a_blind_draw_may_be_a_pruned_or_a_failed_trial() -> None:
    found = measure(TRIALS, SEEDS, pruned=(0.05,) * 14)
    assert (found.trials, found.pruned) == (6, 14)
    assert found.gain == pytest.approx(0.7 - (6 * 0.705 + 14 * 0.05) / 20)
    assert found.conclusion is SearchConclusion.UNKNOWN
    trials = [make_trial(n, value) for n, value in enumerate(TRIALS)]
    failed = replace(make_trial(6, 0.0, TrialStatus.FAILED), scores=())
    seeds = tuple(make_trial(n, value, phase="confirm") for n, value in enumerate(SEEDS))
    study = RecordedStudy(replace(CONTEXT, trials=7, seeds=5), (*trials, failed), seeds)
    spread = measure_search_spread(study)
    assert spread is not None
    assert spread.conclusion is SearchConclusion.UNKNOWN


@pytest.mark.parametrize(
    ("trials", "seeds", "expected"),
    [
        ((0.1, 0.7, 0.3, 0.5, 0.9), SEEDS, SearchConclusion.DIFFERENT),
        ((0.1, 0.7, 0.3, 0.5, 0.9), (0.7,) * 3, SearchConclusion.DIFFERENT),
        # searches of "erm" and "erm_l1" on colored_digits: most trials collapsed, or all
        (
            (0.494, 0.144, 0.0, 0.0, 0.0, 0.0),
            (0.539, 0.278, 0.449, 0.422, 0.506),
            SearchConclusion.UNKNOWN,
        ),
        (
            (0.0, 0.011, 0.0, 0.0, 0.0, 0.0),
            (0.708, 0.517, 0.067, 0.422, 0.427),
            SearchConclusion.COLLAPSED,
        ),
        (
            (0.7, 0.701, 0.7, 0.702, 0.7, 0.701),
            SEEDS,
            SearchConclusion.UNKNOWN,
        ),  # spread too little
        (TRIALS[:4], SEEDS, SearchConclusion.TOO_FEW_TRIALS),
        (TRIALS, SEEDS[:2], SearchConclusion.TOO_FEW_SEEDS),
        (TRIALS, SEEDS[:1], SearchConclusion.TOO_FEW_SEEDS),
    ],
)
def test_conclusion_follows_trials_and_seeds(
    trials: Sequence[float], seeds: Sequence[float], expected: SearchConclusion
) -> None:
    assert measure(trials, seeds).conclusion is expected


def test_equal_configurations_rarely_exceed_noise() -> None:
    random = np.random.default_rng(0)
    drawn = [random.normal(0.7, 0.05, 21).tolist() for _ in range(300)]
    found = [measure(values[:16], values[16:]) for values in drawn]
    share = sum(one.exceeds_noise for one in found) / len(found)
    assert 0.02 < share < 0.09  # 5% by the test's construction


def test_a_table_names_the_methods_that_searched_among_equals() -> None:
    summary = make_summary_of(datasets.load_benchmark("colored_digits"), "rwg", seeds=5)
    spread = SearchSpread(8, 0, 0.021, 5, 0.043, 0.0, 0.01, False, SearchConclusion.EQUAL)
    equal = replace(summary, search_spread=spread)
    collapse = replace(spread, conclusion=SearchConclusion.COLLAPSED)
    other = replace(summary, method="erm", search_spread=collapse)
    notes = list_warnings([equal, other])
    (note,) = [n for n in notes if "drawn blindly" in n]
    assert "as well: rwg (deviation of 8 trials 2.1, of 5 seeds 4.3, winner" in note
    assert "erm" not in note
    (note,) = [n for n in notes if "collapsed" in n]
    assert "was chosen: erm (" in note
    assert not [n for n in list_warnings([summary]) if "blindly" in n or "collapsed" in n]
    assert Summary.from_dict({k: v for k, v in equal.as_dict().items() if k != "record_version"})
