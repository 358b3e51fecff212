"""All pairs of methods of one data set, compared over their confirmation seeds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tuning.reporting.intervals import MIN_SEEDS, SeedStatistics
from tuning.reporting.statistics.paired import (
    LEVEL,
    PairedDifference,
    compare_pairs,
    compute_better_p_value,
    count_needed_seeds,
    count_rivals,
)
from tuning.reporting.summary import Summary


@dataclass(frozen=True)
class MethodComparison:
    """Two methods on a metric of a data set's test split, the better one first.

    Args:
        dataset: The data set.
        metric: The metric.
        first: The method with the better mean over the common seeds.
        second: The other one.
        difference: First minus second, so that the sign follows the metric.
        adjusted_p_value: The p-value of the one-sided paired t-test that the first is better, times
            the number of methods that could be better than the second, as marks of tables take it;
            None with fewer than three common seeds.
        needed_seeds: The seeds with which this test would tell them apart with a power of 0.8;
            None where more than 1,000, or unknown.
        unit: Follows the difference: ``points`` of metrics in percent.
        factor: Multiplies the difference in sentences: 100 for metrics in percent.
    """

    dataset: str
    metric: str
    first: str
    second: str
    difference: PairedDifference
    adjusted_p_value: float | None
    needed_seeds: int | None
    unit: str
    factor: float

    @property
    def is_distinguished(self) -> bool:
        """Whether the corrected test tells the two methods apart."""
        return self.adjusted_p_value is not None and self.adjusted_p_value < LEVEL

    def describe_result(self) -> str:
        """Return the result as a sentence."""
        count = len(self.difference.seeds)
        size = abs(self.factor * self.difference.statistics.mean)
        mean = f"{size:.1f}{self.unit}" if self.unit else f"{size:.3g}"
        if self.adjusted_p_value is None:
            return (
                f"{self.first} and {self.second} have {count} common "
                f"{'seed' if count == 1 else 'seeds'}, too few for a test (at least {MIN_SEEDS})."
            )
        p_value = format_p_value(self.adjusted_p_value)
        if self.is_distinguished:
            return (
                f"{self.first} is better than {self.second} (difference {mean}, {p_value}, "
                f"{count} seeds)."
            )
        needed = "." if self.needed_seeds is None else f"; about {self.needed_seeds:,} seeds would."
        return (
            f"{count} seeds cannot tell {self.first} from {self.second} (difference {mean}, "
            f"{p_value}){needed}"
        )


@dataclass(frozen=True)
class DataSetComparison:
    """All pairs of methods of a data set on one test metric.

    Args:
        dataset: The data set.
        metric: The metric.
        higher_is_better: Its direction.
        pairs: The pairs that have common seeds, in the order of the methods' means over all seeds.
        left_out: Lines on the methods that are not compared, with the reason.
    """

    dataset: str
    metric: str
    higher_is_better: bool
    pairs: tuple[MethodComparison, ...]
    left_out: tuple[str, ...]

    @property
    def best(self) -> str | None:
        """The method that is the better one of most pairs; None without pairs.

        It has the best mean where all methods have the same seeds. Of several, it is the first
        in the order of pairs.
        """
        wins = Counter(pair.first for pair in self.pairs)
        return max(wins, key=lambda method: wins[method], default=None)

    def list_pairs_with_best(self) -> list[MethodComparison]:
        """Return the pairs of the best method."""
        return [pair for pair in self.pairs if self.best in (pair.first, pair.second)]


def format_p_value(value: float) -> str:
    """Return a p-value as sentences and tables have it: ``p = 0.31``, ``p < 0.001``."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def compare_methods(summaries: Sequence[Summary], metric: str | None = None) -> DataSetComparison:
    """Return all pairs of a data set's methods, compared on a metric of the test split.

    Methods whose rule reads the test split are left out beside others, as in tables.

    Args:
        summaries: The summaries of its methods; at least one.
        metric: The metric; None for the first one that is reported.
    """
    first = summaries[0]
    name = first.reported_metrics[0] if metric is None else metric
    higher = first.higher_is_better.get(name, True)
    honest = any(not summary.oracle for summary in summaries)
    found: dict[str, SeedStatistics] = {}
    left_out = []
    older = []
    for summary in summaries:
        statistics = summary.metrics.get(f"test_{name}")
        if summary.oracle and honest:
            left_out.append(f"{summary.method}: selected on the test split")
        elif statistics is None:
            left_out.append(f"{summary.method}: no confirmation seed has test_{name}")
        elif not statistics.values:
            older.append(summary)
        else:
            found[summary.method] = statistics
    if older:
        rules = dict.fromkeys(summary.rule for summary in older)
        commands = (f"'python tune.py export --select {rule}'" for rule in rules)
        left_out.append(
            f"{', '.join(summary.method for summary in older)}: summary.json lacks the values of "
            f"each seed; compare the by_RULE folder that {' or '.join(commands)} writes"
        )
    ordered = sorted(found, key=lambda m: found[m].mean, reverse=higher)
    raw = [
        pair
        for one, other in combinations(ordered, 2)
        if (pair := _order_pair(one, other, found, higher)) is not None
    ]
    rivals = count_rivals(found.values())
    pairs = tuple(
        MethodComparison(
            dataset=first.dataset,
            metric=name,
            first=one,
            second=other,
            difference=compared,
            adjusted_p_value=(
                None
                if compared.p_value is None
                else compute_better_p_value(
                    np.multiply(compared.statistics.values, 1 if higher else -1), rivals
                )
            ),
            needed_seeds=count_needed_seeds(compared.statistics, LEVEL / rivals),
            unit=" points" if first.as_percent else "",
            factor=100 if first.as_percent else 1,
        )
        for one, other, compared in raw
    )
    return DataSetComparison(first.dataset, name, higher, pairs, tuple(left_out))


def _order_pair(
    one: str, other: str, found: Mapping[str, SeedStatistics], higher_is_better: bool
) -> tuple[str, str, PairedDifference] | None:
    """Return two methods, the better over their common seeds first; None without such seeds."""
    compared = compare_pairs(found[one], found[other], higher_is_better)
    if compared is None or (1 if higher_is_better else -1) * compared.statistics.mean >= 0:
        return None if compared is None else (one, other, compared)
    return _order_pair(other, one, found, higher_is_better)
