"""A study in which no trial beats the prediction of one class has learned nothing."""

from pathlib import Path

import pytest
import torch

import datasets
from core.constant_prediction import measure_constant_predictions
from core.training.selection import RULES, Rule, Score, exceeds_constant
from tests.support.command import run_tune

GROUP_RULES = [rule for rule in RULES.values() if "accuracy" in rule.metric]


@pytest.mark.parametrize("rule", GROUP_RULES, ids=[rule.name for rule in GROUP_RULES])
def test_the_metric_is_that_of_the_best_class(rule: Rule) -> None:
    benchmark = datasets.load_benchmark("colored_digits")
    found = measure_constant_predictions(benchmark, [rule])[rule.name]
    split = benchmark.splits[rule.split]
    shares = torch.bincount(split.y).double() / len(split)
    if rule.metric == "average_accuracy":
        assert found == pytest.approx(float(shares.max()))
    elif rule.metric == "training_weighted_accuracy":
        train = benchmark.train_split.y
        assert found == pytest.approx(float((torch.bincount(train).double() / len(train)).max()))
    else:
        assert found == 0


def test_tasks_have_none() -> None:
    rule = RULES["validation_delta_m"]
    assert measure_constant_predictions(datasets.load_benchmark("two_digits"), [rule]) == {}
    assert exceeds_constant(rule, Score(-3.0, 0.0, -1), None)


def test_of_a_metric_of_which_less_is_better_less_is_learned() -> None:
    rule = RULES["validation_delta_m"]
    for value, learned in ((-7.0, False), (-5.0, True)):
        assert exceeds_constant(rule, Score(value, 0.0, -1), 6.0) == learned


def test_only_more_than_a_constant_is_learned() -> None:
    rule = RULES["validation_worst_group_accuracy"]
    for value, constant, learned in ((0.0, 0.0, False), (0.01, 0.0, True), (0.5, 0.5, False)):
        assert exceeds_constant(rule, Score(value, 0.0, -1), constant) == learned
    assert not exceeds_constant(rule, None, 0.0)


@pytest.mark.slow
def test_a_study_without_learning_says_so(tmp_path: Path) -> None:
    study = ["--method", "erm", "--dataset", "colored_digits", "--set", "lr=1e-9", "--epochs", "2",
             "--trials", "2", "--seeds", "1", "--results", tmp_path / "results"]  # fmt: skip
    done = run_tune(study)
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert line.startswith("erm: nothing learned: no trial exceeds the worst_group_accuracy of a")
    assert "weight_decay=log_uniform:" in line
    assert "the epochs (2) and the patience (off)" in line
    assert "Nothing learned: " in (tmp_path / "results/colored_digits/table.md").read_text()
