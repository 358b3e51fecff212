"""The default search keeps the default hyperparameters within a standard error."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import datasets
from common.hyperparameters import list_defaults, parse_hyperparameter
from core.training import selection
from core.training.selection import Score
from tests.support.real_searches import BASE, search_of
from tuning.options import SEARCHES, Options
from tuning.records.run_data import Phase
from tuning.study.checks import choose_rule
from tuning.worker.trial_work import EpochReport


@pytest.mark.parametrize(
    ("dataset", "rule", "variant"),
    [
        ("colored_digits", "validation_worst_group_accuracy", "_or_default"),
        ("two_digits", "validation_delta_m", "_best3"),
        ("mt10", "validation_success", ""),
    ],
)
def test_the_default_search_ranks_by_a_variant_of_the_rule(
    dataset: str, rule: str, variant: str
) -> None:
    benchmark = datasets.load_benchmark(dataset)
    for search in SEARCHES:
        options = replace(BASE, dataset=dataset, search=search)
        expected = rule + variant * (search == Options.search)
        assert choose_rule(options, benchmark).name == expected
        assert choose_rule(replace(options, select=rule), benchmark).name == rule


@pytest.mark.parametrize(
    ("domain", "is_default"),
    [
        ({"log_uniform": [1e-3, 1]}, True),
        ({"log_uniform": [1e-6, 1e-4]}, False),
        ({"log_uniform": [1e-6, 1e-4], "default": 1e-5}, True),
    ],
)
def test_the_middle_of_a_range_is_no_default(
    domain: Mapping[str, Any], is_default: bool, tmp_path: Path
) -> None:
    found = parse_hyperparameter("lr", domain, [], needs_default=False)
    assert found is not None
    search = search_of(tmp_path, search="random", domains={"lr": found})
    trials = [search.next_trial() for _ in range(2)]
    assert [trial and trial.is_default for trial in trials] == [is_default, False]


def test_the_defaults_are_confirmed_where_no_trial_is_better_by_an_error(tmp_path: Path) -> None:
    search = search_of(tmp_path, trials=3, epochs=3, scheduler="none")
    assert search.rule is selection.RULES["validation_worst_group_accuracy_or_default"]
    values = {0: (0.4, 0.5, 0.4), 1: (0.5, 0.5, 0.5), 2: (0.1, 0.1, 0.1)}
    while (trial := search.next_trial()) is not None and trial.phase == Phase.SEARCH:
        for number, value in enumerate(values[trial.number], start=1):
            score = Score(value, 0.5, -number, error=0.05)
            status = "completed" if number == 3 else ""
            search.report_epoch(
                trial, EpochReport(epoch=number, seconds=1.0, score=score, status=status)
            )
    incumbent = search.find_incumbent()
    assert incumbent is search.trials[0]
    assert incumbent.is_default
    assert {seed.number for seed in search.seeds.values()} == set(range(2))
    assert all(
        seed.hyperparameters == list_defaults(search.space.free) and not seed.is_default
        for seed in search.seeds.values()
    )
