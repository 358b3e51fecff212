"""Selection: the rule, then the ties, in the order that the design gives."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import UserError
from core.training.selection import (
    RULES,
    Score,
    SelectionRow,
    choose_variant,
    get_rule,
    rank_trial,
    score_curves,
    score_epoch,
    select_epoch,
)
from tests.support.epoch_rows import make_row
from tuning.records.run_data import TrialStatus
from tuning.selection import rank_trials, select_trial


@dataclass(frozen=True)
class Trial:
    number: int
    status: TrialStatus
    scores: tuple[Score | None, ...]
    is_default: bool = False


WORST = RULES["validation_worst_group_accuracy"]


def row(
    number: int, worst: float | None, average: float = 0.5, eligible: bool = True
) -> SelectionRow:
    metrics = make_row(number, eligible, worst_group_accuracy=worst, average_accuracy=average)
    return SelectionRow(metrics)


def curve(*values: tuple[float | None, float]) -> list[SelectionRow]:
    return [row(i, worst, average) for i, (worst, average) in enumerate(values, start=1)]


def test_highest_value_wins_over_the_last() -> None:
    best = select_epoch(score_curves(WORST, [curve((0.2, 0.5), (0.9, 0.5), (0.3, 0.9))]))
    assert best is not None
    assert (best.epoch, best.value) == (2, 0.9)


@pytest.mark.deviation("ties")
def test_ties_go_to_the_higher_average_then_to_the_earlier_epoch() -> None:
    best = select_epoch(score_curves(WORST, [curve((0.9, 0.5), (0.9, 0.6), (0.9, 0.6))]))
    assert best is not None
    assert best.epoch == 2


def test_ties_between_trials_go_to_the_lower_number_only_at_last() -> None:
    a = select_epoch(score_curves(WORST, [curve((0.9, 0.5))]))
    b = select_epoch(score_curves(WORST, [curve((0.9, 0.6))]))
    later = select_epoch(score_curves(WORST, [curve((0.1, 0.1), (0.9, 0.6))]))
    for scores, winner in (({0: a, 1: b, 2: b}, 1), ({0: later, 1: b}, 1), ({5: b, 3: b}, 3)):
        trials = [
            Trial(number, TrialStatus.COMPLETED, (score,)) for number, score in scores.items()
        ]
        selected = select_trial(trials, WORST)
        assert selected is not None
        assert selected.number == winner


def test_epochs_that_are_not_eligible_never_win() -> None:
    rows = [row(1, 0.9, eligible=False), row(2, 0.1)]
    best = select_epoch(score_curves(WORST, [rows]))
    assert best is not None
    assert best.epoch == 2
    assert select_epoch(score_curves(WORST, [[row(1, 0.9, eligible=False)]])) is None


def test_undefined_values_never_win() -> None:
    assert select_epoch(score_curves(WORST, [curve((None, 0.9))])) is None
    assert select_trial([Trial(0, TrialStatus.COMPLETED, (None,))], WORST) is None


@pytest.mark.deviation("seed-average")
def test_training_seeds_are_averaged() -> None:
    found = score_epoch(WORST, [row(1, 0.2, 0.4), row(1, 0.6, 0.6)])
    assert found is not None
    assert (found.value, found.tie_breaker) == (0.4, 0.5)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8))
def test_agrees_with_a_slow_reference(values: list[tuple[int, int]]) -> None:
    best = select_epoch(score_curves(WORST, [curve(*((w / 4, a / 4) for w, a in values))]))
    expected = sorted(range(len(values)), key=lambda i: (-values[i][0], -values[i][1], i))[0]
    assert best is not None
    assert best.epoch == expected + 1


def test_rules_that_read_the_test_split_are_named_so() -> None:
    for name, found in RULES.items():
        assert found.oracle == name.startswith(("oracle_", "published_"))


def test_unknown_rule_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'validation_average_accuracy'"):
        get_rule("validation_average_accuracies")


@pytest.mark.parametrize(("source", "start"), [("--select", "--select: "), ("", "unknown rule")])
def test_unknown_rule_is_reported_with_its_source(source: str, start: str) -> None:
    with pytest.raises(UserError, match=f"^{start}"):
        get_rule("none", source)


def test_the_mean_of_the_best_epochs_ranks_trials_and_the_best_one_is_kept() -> None:
    rule = RULES["validation_worst_group_accuracy_best3"]
    lucky = Trial(0, TrialStatus.COMPLETED, scores(0.2, 0.9, 0.3, 0.1))
    steady = Trial(1, TrialStatus.COMPLETED, (None, *scores(0.6, 0.7, 0.5, 0.6)))
    assert select_trial([lucky, steady], WORST) is lucky
    assert select_trial([lucky, steady], rule) is steady
    ranked = rank_trial(rule, lucky.scores)
    assert ranked is not None
    assert ranked.value == pytest.approx((0.9 + 0.3 + 0.2) / 3)
    assert ranked.epoch == 2
    pruned = rank_trial(rule, scores(0.4, 0.2))
    assert pruned is not None
    assert pruned.value == pytest.approx(0.3)
    assert rank_trial(WORST, lucky.scores) == select_epoch(lucky.scores)


def test_the_error_is_that_of_the_worst_group() -> None:
    def rate(accuracies: list[float | None], counts: list[float | None]) -> float:
        metrics = make_row(
            1,
            True,
            worst_group_accuracy=min(a for a in accuracies if a is not None),
            group_accuracy=accuracies,
            group_count=counts,
        )
        found = score_epoch(WORST, [SelectionRow(metrics)] * 2)
        assert found is not None
        return found.error

    assert rate([0.9, 0.5, None], [500.0, 98.0, 0.0]) == pytest.approx((0.25 / 98) ** 0.5)
    assert rate([1.0], [8.0]) == pytest.approx((0.9 * 0.1 / 8) ** 0.5)
    assert score_epoch(WORST, [row(1, 0.2)]) == Score(0.2, 0.5, -1)
    one, other = Score(0.2, 0.5, -1, 0.1), Score(0.2, 0.5, -1, 0.3)
    assert one == other
    mean = rank_trial(replace(WORST, ranked_epochs=3), [one, other])
    assert mean is not None
    assert mean.error == pytest.approx(0.2)


@pytest.mark.deviation("kept-default")
def test_the_defaults_win_unless_a_trial_is_better_by_a_standard_error() -> None:
    rule = RULES["validation_worst_group_accuracy_or_default"]
    default = Trial(3, TrialStatus.COMPLETED, scores(0.5, 0.6, 0.4, error=0.1), is_default=True)
    limit = 0.5 + 2**0.5 * 0.1
    better = Trial(1, TrialStatus.PRUNED, scores(limit - 0.01, limit - 0.01, error=0.4))
    far_better = Trial(2, TrialStatus.RUNNING, scores(limit + 0.01, error=0.4))
    worse = Trial(0, TrialStatus.COMPLETED, scores(0.1, 0.1, 0.1))
    assert rank_trials([worse, better, default], rule) == [default, better, worse]
    assert rank_trials([default, far_better, better], rule) == [far_better, better, default]
    assert select_trial([replace(default, status=TrialStatus.FAILED), better], rule) is better
    assert select_trial([replace(default, is_default=False), better], rule) is better
    by_epochs = RULES["validation_worst_group_accuracy_best3"]
    assert select_trial([default, better], by_epochs) is better


def test_the_automatic_rule_is_a_variant_of_the_rule() -> None:
    for name, rule in RULES.items():
        found = RULES[choose_variant(name)]
        assert replace(found, name=name, ranked_epochs=1, margin=0.0) == replace(
            rule, ranked_epochs=1, margin=0.0
        )
        assert found.margin == max(rule.margin, name == "validation_worst_group_accuracy")


def scores(*values: float, error: float = 0.0) -> tuple[Score, ...]:
    return tuple(Score(value, 0.5, -epoch, error) for epoch, value in enumerate(values, start=1))


BEST = st.none() | st.builds(Score, st.integers(0, 2), st.just(0.5), st.just(-1))


@given(st.lists(st.tuples(st.sampled_from(TrialStatus), BEST), max_size=8))
def test_the_best_trial_that_has_not_failed_wins(
    drawn: list[tuple[TrialStatus, Score | None]],
) -> None:
    trials = [Trial(number, status, (best,)) for number, (status, best) in enumerate(drawn)]
    allowed = [
        (best, -t.number, t)
        for t in trials
        if (best := t.scores[0]) and t.status != TrialStatus.FAILED
    ]
    expected = max(allowed)[2] if allowed else None
    assert select_trial(trials, WORST) is expected
