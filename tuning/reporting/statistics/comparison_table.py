"""The comparison of methods as a table of pairs, with sentences below."""

from collections.abc import Sequence

from common.text import format_count
from tuning.reporting.intervals import format_confidence
from tuning.reporting.layout.columns import Column, name_metric
from tuning.reporting.layout.printed_table import PrintedTable
from tuning.reporting.statistics.method_comparison import (
    DataSetComparison,
    MethodComparison,
    format_p_value,
)
from tuning.reporting.statistics.ranks import RankComparison
from tuning.reporting.table_rows import Row

MAX_SENTENCES = 8  # of a data set, on its best method
MAX_DATA_SET, MAX_METHOD = 14, 20  # characters of names on a terminal


def list_comparison_values(comparisons: Sequence[DataSetComparison]) -> list[Row]:
    """Return a row per pair for the CSV file."""
    return [_make_row(pair) for comparison in comparisons for pair in comparison.pairs]


def _make_row(pair: MethodComparison) -> Row:
    found, improvement = pair.difference, pair.difference.improvement
    return {
        "dataset": pair.dataset,
        "metric": f"test_{pair.metric}",
        "better": pair.first,
        "other": pair.second,
        "difference_mean": found.statistics.mean,
        "difference_std": found.statistics.std,
        "difference_low": found.statistics.low,
        "difference_high": found.statistics.high,
        "p_value": found.p_value,
        "adjusted_p_value": pair.adjusted_p_value,
        "permutation_p_value": found.permutation_p_value,
        "probability_of_improvement": improvement.value,
        "probability_low": improvement.low,
        "probability_high": improvement.high,
        "seeds": len(found.seeds),
        "needed_seeds": pair.needed_seeds,
        "distinguished": pair.is_distinguished,
    }


def make_comparison_table(
    comparisons: Sequence[DataSetComparison],
    ranks: RankComparison | None,
    with_best: bool = False,
) -> PrintedTable:
    """Return the table of all pairs of methods, or of each method with the best of its data set.

    Args:
        comparisons: The comparison on each data set.
        ranks: The ranks over data sets; None for one data set.
        with_best: Whether the table has the pairs of the best method alone.
    """
    pairs = [
        pair for c in comparisons for pair in (c.list_pairs_with_best() if with_best else c.pairs)
    ]
    has_data_sets = len(comparisons) > 1
    columns = (
        Column(("", "difference"), tuple(_format_difference(pair) for pair in pairs)),
        Column((format_confidence(), "interval"), tuple(_format_interval(pair) for pair in pairs)),
        Column(("p,", "corrected"), tuple(_format_p(pair.adjusted_p_value) for pair in pairs)),
        Column(("prob.", "better"), tuple(f"{p.difference.improvement.value:.2f}" for p in pairs)),
        Column(("", "seeds"), tuple(str(len(pair.difference.seeds)) for pair in pairs)),
        Column(("seeds", "needed"), tuple(_format_needed(pair) for pair in pairs)),
        Column(("p,", "signs"), tuple(_format_p(p.difference.permutation_p_value)
                                              for p in pairs)),
    )  # fmt: skip
    metrics = dict.fromkeys(
        f"{c.dataset}: test {name_metric(c.metric)}{_name_unit(c)}" for c in comparisons if c.pairs
    )
    return PrintedTable(
        title="Paired differences of methods",
        label="comparison",
        row_head="better - other" if not has_data_sets else "data set: better - other",
        names=tuple(
            (f"{pair.dataset}: " if has_data_sets else "") + f"{pair.first} - {pair.second}"
            for pair in pairs
        ),
        terminal_names=_shorten_names(pairs, has_data_sets),
        columns=columns,
        notes=(
            f"{'; '.join(metrics)}.",
            *_write_notes(comparisons),
            *_describe_ranks(ranks),
        ),
    )


def _shorten_names(pairs: Sequence[MethodComparison], has_data_sets: bool) -> tuple[str, ...]:
    """Return the names of pairs with long parts cut in their middle, so that all are shown."""
    methods = _cut_names([name for pair in pairs for name in (pair.first, pair.second)], MAX_METHOD)
    datasets = _cut_names([pair.dataset for pair in pairs], MAX_DATA_SET)
    return tuple(
        (f"{datasets[pair.dataset]}: " if has_data_sets else "")
        + f"{methods[pair.first]} - {methods[pair.second]}"
        for pair in pairs
    )


def _cut_names(names: Sequence[str], limit: int) -> dict[str, str]:
    """Return each name cut in its middle to a number of characters; whole if some become equal."""
    end = limit // 2
    cut = {
        name: name if len(name) <= limit else f"{name[: limit - end - 1]}…{name[-end:]}"
        for name in names
    }
    return cut if len(set(cut.values())) == len(cut) else {name: name for name in names}


def _name_unit(comparison: DataSetComparison) -> str:
    return ", in points" if comparison.pairs[0].factor > 1 else ""


def _write_notes(comparisons: Sequence[DataSetComparison]) -> list[str]:
    notes = [
        f"Difference: mean ± standard deviation over the seeds that both methods have, with "
        f"Student's {format_confidence()} interval of each pair alone. p, corrected: one-sided "
        "paired t-test that the first method is better, times the number of methods that could be "
        "better than the second, as marks of tables take it. Prob. better: probability that a seed "
        "of the first is better than one of the second. Seeds needed: for a power of 0.8, if the "
        "difference and its deviation are as estimated. p, signs: two-sided permutation test, "
        "uncorrected, which cannot be below 2 / 2^seeds."
    ]
    for comparison in comparisons:
        start = f"{comparison.dataset}: " if len(comparisons) > 1 else ""
        pairs = comparison.list_pairs_with_best()
        notes += [f"{start}{pair.describe_result()}" for pair in pairs[:MAX_SENTENCES]]
        notes += [f"{start}not compared: {reason}." for reason in comparison.left_out]
    return notes


def _describe_ranks(ranks: RankComparison | None) -> list[str]:
    if ranks is None:
        return []
    listed = ", ".join(f"{method} {rank:.2f}" for method, rank in ranks.mean_ranks.items())
    text = f"Mean ranks over {format_count(len(ranks.datasets), 'data set')}: {listed}."
    if ranks.p_value is not None and ranks.critical_difference is not None:
        text += (
            f" Friedman's test: {format_p_value(ranks.p_value)}; mean ranks differ where they are "
            f"at least {ranks.critical_difference:.2f} apart (Nemenyi, {format_confidence()})."
        )
    return [text, *(f"Not ranked: {reason}." for reason in ranks.left_out)]


def _format_difference(pair: MethodComparison) -> str:
    found = pair.difference.statistics
    deviation = "" if found.std is None else f" ± {_format(pair, found.std)}"
    return f"{_format(pair, found.mean, '+')}{deviation}"


def _format_interval(pair: MethodComparison) -> str:
    found = pair.difference.statistics
    if found.low is None or found.high is None:
        return "-"
    return f"[{_format(pair, found.low, '+')}, {_format(pair, found.high, '+')}]"


def _format(pair: MethodComparison, value: float, sign: str = "") -> str:
    return f"{pair.factor * value:{sign}.1f}" if pair.factor > 1 else f"{value:{sign}.3g}"


def _format_p(value: float | None) -> str:
    return "-" if value is None else format_p_value(value).removeprefix("p ").removeprefix("= ")


def _format_needed(pair: MethodComparison) -> str:
    if pair.is_distinguished or pair.adjusted_p_value is None:
        return "-"
    return "over 1,000" if pair.needed_seeds is None else str(pair.needed_seeds)
