"""Mean ranks of methods over several data sets, with Friedman's test and Nemenyi's difference.

As in Demšar (JMLR 7, 2006): each data set ranks the methods by the mean of its main test metric,
1 for the best, equal means sharing their ranks. Friedman's test asks whether the mean ranks differ
at all; two methods differ where their mean ranks are apart by at least

    q / sqrt(2) · sqrt(k (k + 1) / (6 N))

for k methods, N data sets and the quantile q of the studentized range (Nemenyi, 1963).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from tuning.reporting.intervals import CONFIDENCE
from tuning.reporting.summary import Summary

MIN_METHODS = 3  # of Friedman's test
MIN_DATA_SETS = 2


@dataclass(frozen=True)
class RankComparison:
    """Methods ranked over data sets.

    Args:
        datasets: The data sets.
        mean_ranks: The mean rank of each method, the best first.
        statistic: Friedman's statistic; None with fewer than three methods.
        p_value: Its p-value; None likewise.
        critical_difference: Nemenyi's critical difference of mean ranks; None likewise.
        left_out: A line for each method that some data set lacks.
    """

    datasets: tuple[str, ...]
    mean_ranks: Mapping[str, float]
    statistic: float | None
    p_value: float | None
    critical_difference: float | None
    left_out: tuple[str, ...]


def compare_ranks(
    grouped: Mapping[str, Sequence[Summary]], metric: str | None = None
) -> RankComparison | None:
    """Return the methods' mean ranks; None with fewer than two data sets or common methods.

    Args:
        grouped: The summaries of each data set.
        metric: The test metric; None for the first one that each data set reports.
    """
    means: dict[str, dict[str, float]] = {}
    higher: dict[str, bool] = {}
    for dataset, summaries in grouped.items():
        name = summaries[0].reported_metrics[0] if metric is None else metric
        higher[dataset] = summaries[0].higher_is_better[name]
        means[dataset] = {
            summary.method: found.mean
            for summary in summaries
            if not summary.oracle and (found := summary.metrics.get(f"test_{name}")) is not None
        }
    everywhere = [
        method
        for method in dict.fromkeys(name for found in means.values() for name in found)
        if all(method in found for found in means.values())
    ]
    if len(means) < MIN_DATA_SETS or len(everywhere) < 2:
        return None
    missing = {
        method: [dataset for dataset, found in means.items() if method not in found]
        for method in dict.fromkeys(name for found in means.values() for name in found)
    }
    left_out = tuple(
        f"{method}: no result on {', '.join(names)}" for method, names in missing.items() if names
    )
    values = np.array(
        [
            [(-1 if higher[dataset] else 1) * found[method] for method in everywhere]
            for dataset, found in means.items()
        ]
    )
    ranks = stats.rankdata(values, axis=1).mean(axis=0)
    ordered = sorted(zip(everywhere, ranks.tolist(), strict=True), key=lambda one: one[1])
    if len(everywhere) < MIN_METHODS:
        return RankComparison(tuple(means), dict(ordered), None, None, None, left_out)
    if (values == values[:, :1]).all():  # nothing but ties, of which scipy has no statistic
        statistic, p_value = 0.0, 1.0
    else:
        test = stats.friedmanchisquare(*values.T)
        statistic, p_value = float(test.statistic), float(test.pvalue)
    return RankComparison(
        tuple(means), dict(ordered), statistic, p_value,
        compute_critical_difference(len(everywhere), len(means)), left_out,
    )  # fmt: skip


def compute_critical_difference(methods: int, datasets: int) -> float:
    """Return Nemenyi's critical difference of mean ranks.

    Args:
        methods: The number of methods.
        datasets: The number of data sets.
    """
    quantile = float(stats.studentized_range.ppf(CONFIDENCE, methods, math.inf))
    return quantile / math.sqrt(2) * math.sqrt(methods * (methods + 1) / (6 * datasets))
