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
from tuning.reporting.statistics.search_spread import SearchSpread, measure_search_spread
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
) -> SearchSpread | None:
    ended = [make_trial(number, value) for number, value in enumerate(trials)]
    early = [
        make_trial(len(trials) + number, value, TrialStatus.PRUNED)
        for number, value in enumerate(pruned)
    ]
    confirmed = [make_trial(n, value, phase="confirm") for n, value in enumerate(seeds)]
    context = replace(CONTEXT, search_seeds=runs, seeds=len(seeds), trials=len(ended) + len(early))
    return measure_search_spread(RecordedStudy(context, (*ended, *early), tuple(confirmed)))


TRIALS = (0.7, 0.72, 0.68, 0.71, 0.69, 0.73)
SEEDS = (0.66, 0.7, 0.74, 0.69, 0.71)


def test_deviations_are_those_of_whole_trials_and_of_seeds() -> None:
    found = measure(TRIALS, SEEDS, pruned=(0.1, 0.2))
    assert found is not None
    assert (found.trials, found.seeds) == (6, 5)
    assert found.deviation == pytest.approx(stdev(TRIALS))
    assert found.noise == pytest.approx(stdev(SEEDS))
    assert found.between == 0
    assert not found.exceeds_noise
    several = measure(TRIALS, SEEDS, runs=4)
    assert several is not None
    assert several.noise == pytest.approx(stdev(SEEDS) / 2)
    assert several.between == pytest.approx(np.sqrt(stdev(TRIALS) ** 2 - stdev(SEEDS) ** 2 / 4))


def test_different_configurations_exceed_noise() -> None:
    found = measure((0.1, 0.7, 0.3, 0.5, 0.9), SEEDS)
    assert found is not None
    assert found.exceeds_noise
    assert measure((0.1, 0.7, 0.3, 0.5, 0.9), (0.7,) * 3).exceeds_noise  # type: ignore[union-attr]


def test_equal_configurations_rarely_exceed_noise() -> None:
    random = np.random.default_rng(0)
    drawn = [random.normal(0.7, 0.05, 21).tolist() for _ in range(300)]
    found = [measure(values[:16], values[16:]) for values in drawn]
    share = sum(one is not None and one.exceeds_noise for one in found) / len(found)
    assert 0.02 < share < 0.09  # 5% by the test's construction


def test_too_few_trials_or_seeds_tell_nothing() -> None:
    assert measure(TRIALS[:4], SEEDS) is None
    assert measure(TRIALS, SEEDS[:2]) is None


def test_a_table_names_the_methods_that_searched_among_equals() -> None:
    summary = make_summary_of(datasets.load_benchmark("colored_digits"), "rwg", seeds=5)
    spread = SearchSpread(8, 0.021, 5, 0.043, 0.0, exceeds_noise=False)
    equal = replace(summary, search_spread=spread)
    other = replace(summary, method="erm", search_spread=replace(spread, exceeds_noise=True))
    (note,) = [n for n in list_warnings([equal, other]) if "drawn blindly" in n]
    assert "as well: rwg (deviation of 8 trials 2.1, of 5 seeds 4.3)." in note
    assert "erm" not in note
    assert not [n for n in list_warnings([other, summary]) if "drawn blindly" in n]
    assert Summary.from_dict({k: v for k, v in equal.as_dict().items() if k != "record_version"})
