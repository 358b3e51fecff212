"""Methods compared on one data set, and ranked over several."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import datasets
from tests.support.summaries import make_summary_of
from tuning.reporting.intervals import SHARE, compute_statistics
from tuning.reporting.layout.columns import find_best
from tuning.reporting.statistics.method_comparison import compare_methods
from tuning.reporting.statistics.ranks import compare_ranks, compute_critical_difference
from tuning.reporting.summary import Summary
from tuning.reporting.table_notes import list_warnings

COLUMN = "test_worst_group_accuracy"
DIGITS = datasets.load_benchmark("colored_digits")


def make_summary(method: str, values: list[float], dataset: str = "colored_digits") -> Summary:
    """Return a summary with the values of the main test metric, one per seed."""
    summary = make_summary_of(DIGITS, method, len(values))
    metrics = {**summary.metrics, COLUMN: compute_statistics(values, SHARE)}
    return replace(summary, dataset=dataset, metrics=metrics)


def test_all_pairs_are_compared_and_corrected() -> None:
    first, second, third = [0.80, 0.82, 0.81, 0.83, 0.79], [0.78, 0.80, 0.82, 0.80, 0.75], [0.5] * 5
    summaries = [make_summary(*one) for one in (("c", third), ("a", first), ("b", second))]
    oracle = replace(make_summary("o", [0.9] * 5), oracle=True)
    older = make_summary("old", [0.7] * 5)
    unknown = replace(older.metrics[COLUMN], seeds=(), values=())
    older = replace(older, metrics={**older.metrics, COLUMN: unknown})
    found = compare_methods([*summaries, oracle, older, replace(older, method="older")])
    assert [(pair.first, pair.second) for pair in found.pairs] == [
        ("a", "b"), ("a", "c"), ("b", "c"),
    ]  # fmt: skip
    assert found.best == "a"
    assert found.left_out == (
        "o: selected on the test split",
        "old, older: summary.json lacks the values of each seed; compare the by_RULE folder that "
        f"'python tune.py export --select {older.rule}' writes",
    )  # fmt: skip
    p_value = 2 * stats.ttest_rel(first, second, alternative="greater").pvalue  # two others
    assert found.pairs[0].adjusted_p_value == pytest.approx(p_value, abs=1e-9)
    needed = found.pairs[0].needed_seeds
    assert found.pairs[0].describe_result() == (
        f"5 seeds cannot tell a from b (difference 2.0 points, p = {p_value:.2g}); "
        f"about {needed} seeds would."
    )
    assert found.pairs[1].is_distinguished
    assert found.pairs[1].describe_result().startswith("a is better than c (difference 31.0 points")


@pytest.mark.parametrize("methods", [2, 5, 12])
def test_pairs_with_the_best_say_the_same_as_marks(methods: int) -> None:
    random = np.random.default_rng(methods)
    values = 0.8 - 0.03 * np.arange(methods)[:, None] + 0.03 * random.random((methods, 5))
    summaries = [make_summary(f"m{row}", found) for row, found in enumerate(values.tolist())]
    best, tied = find_best([one.metrics[COLUMN] for one in summaries], True, [True] * methods)
    compared = compare_methods(summaries)
    pairs = compared.list_pairs_with_best()
    assert {compared.best} == {f"m{row}" for row in best}
    assert {pair.second for pair in pairs if not pair.is_distinguished} == {
        f"m{row}" for row in tied
    }
    assert any(pair.is_distinguished for pair in pairs) or methods == 2


def test_the_better_method_is_better_on_common_seeds() -> None:
    # the mean of "a" over all its seeds is the best one, by a seed that no other method has
    lucky = make_summary("a", [0.99, 0.70, 0.71, 0.70, 0.72])
    others = [make_summary("b", [0.73, 0.735, 0.73, 0.752]), make_summary("c", [0.6] * 4)]
    moved = [
        replace(one, metrics={COLUMN: replace(one.metrics[COLUMN], seeds=(1, 2, 3, 4))})
        for one in others
    ]
    found = compare_methods([lucky, *moved])
    assert [(pair.first, pair.second) for pair in found.pairs] == [
        ("b", "a"), ("a", "c"), ("b", "c"),
    ]  # fmt: skip
    assert all(pair.difference.statistics.mean > 0 for pair in found.pairs)
    assert found.pairs[0].difference.improvement.value > 0.5
    assert found.best == "b"
    assert [pair.second for pair in found.list_pairs_with_best()] == ["a", "c"]


def test_two_seeds_are_too_few() -> None:
    (pair,) = compare_methods([make_summary("a", [0.5, 0.6]), make_summary("b", [0.4, 0.3])]).pairs
    assert pair.adjusted_p_value is None
    assert pair.describe_result().startswith("a and b have 2 common seeds, too few for a test")


def test_a_table_names_rows_that_no_test_compares_with_the_best() -> None:
    two, three = [0.5, 0.6], [0.5, 0.6, 0.7]
    summaries = [make_summary("a", [0.6, 0.7]), make_summary("b", two), make_summary("c", two)]
    (note,) = [note for note in list_warnings(summaries) if note.startswith("Not tested")]
    assert note.endswith("of the main test metric: b, c.")
    summaries = [make_summary("a", [0.9, 0.8, 0.7]), make_summary("b", two)]
    assert [n for n in list_warnings([*summaries, make_summary("c", three)]) if ": b." in n]
    whole = [summaries[0], make_summary("c", three)]
    assert not [note for note in list_warnings(whole) if note.startswith("Not tested")]


def test_ranks_agree_with_scipy_and_demsar() -> None:
    random = np.random.default_rng(3)
    values = random.random((4, 3))
    grouped = {
        f"d{i}": [
            make_summary(method, [value] * 5, f"d{i}")
            for method, value in zip("abc", row.tolist(), strict=True)
        ]
        for i, row in enumerate(values)
    }
    grouped["d0"].append(make_summary("alone", [0.1] * 5, "d0"))
    found = compare_ranks(grouped)
    assert found is not None
    test = stats.friedmanchisquare(*values.T)
    assert (found.statistic, found.p_value) == pytest.approx((test.statistic, test.pvalue))
    ranks = stats.rankdata(-values, axis=1).mean(axis=0)
    assert found.mean_ranks == pytest.approx(dict(zip("abc", ranks, strict=True)))
    assert list(found.mean_ranks.values()) == sorted(ranks)
    assert found.left_out == ("alone: no result on d1, d2, d3",)
    # Demšar (2006), section 3.2.2: four classifiers on 14 data sets
    assert compute_critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert compare_ranks({"d0": grouped["d0"]}) is None


def test_methods_that_tie_everywhere_do_not_differ() -> None:
    grouped = {d: [make_summary(m, [0.5] * 3, d) for m in "abc"] for d in ("d", "e")}
    found = compare_ranks(grouped)
    assert found is not None
    assert (found.statistic, found.p_value) == (0.0, 1.0)
    assert found.mean_ranks == {"a": 2.0, "b": 2.0, "c": 2.0}
