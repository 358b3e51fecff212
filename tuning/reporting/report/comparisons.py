"""The comparison of methods over confirmation seeds: sentences, and a table of all pairs."""

from collections.abc import Mapping, Sequence

from common.text import format_count
from tuning.reporting.report.html_table import HtmlTable, make_row_table
from tuning.reporting.statistics.method_comparison import (
    DataSetComparison,
    MethodComparison,
    format_p_value,
)
from tuning.reporting.statistics.ranks import compare_ranks
from tuning.reporting.summary import Summary

MAX_SENTENCES = 6
MAX_PAIRS = 130  # all of 16 methods


def describe_pairs(compared: DataSetComparison) -> tuple[str, ...]:
    """Return a sentence per pair with the best method, and on the methods that are left out."""
    if not compared.pairs:
        return ()
    pairs = compared.list_pairs_with_best()
    first = (
        "Paired over common seeds; p: one-sided t-test that the first method is better, times the "
        "number of methods that could be better than the second."
    )
    told = [pair for pair in pairs if not pair.is_distinguished]
    told += [pair for pair in pairs if pair.is_distinguished]
    return (first, *(pair.describe_result() for pair in told[:MAX_SENTENCES]), *compared.left_out)


def make_pairs_table(table_id: str, compared: DataSetComparison) -> HtmlTable | None:
    """Return a table with a row per pair of methods; None without pairs.

    Args:
        table_id: Its id.
        compared: The comparison.
    """
    if not compared.pairs:
        return None
    metric = compared.metric.replace("_", " ")
    rows = [_make_row(pair) for pair in compared.pairs[:MAX_PAIRS]]
    return make_row_table(table_id, f"Differences of the test {metric}, the better first", rows)


def _make_row(pair: MethodComparison) -> Mapping[str, str]:
    found, factor = pair.difference.statistics, pair.factor
    shares = pair.difference.improvement
    has_interval = found.low is not None and found.high is not None
    return {
        "better": pair.first,
        "worse": pair.second,
        "difference": f"{factor * found.mean:.3g}",
        "interval": (
            f"[{factor * (found.low or 0.0):.3g}, {factor * (found.high or 0.0):.3g}]"
            if has_interval
            else "-"
        ),
        "corrected p": (
            "-"
            if pair.adjusted_p_value is None
            else format_p_value(pair.adjusted_p_value).removeprefix("p ").removeprefix("= ")
        ),
        "told apart": "yes" if pair.is_distinguished else "no",
        "probability of improvement": f"{shares.value:.2f} [{shares.low:.2f}, {shares.high:.2f}]",
        "seeds": str(len(pair.difference.seeds)),
        "seeds needed": "-" if pair.needed_seeds is None else f"{pair.needed_seeds}",
    }


def describe_ranks(grouped: Mapping[str, Sequence[Summary]]) -> tuple[str, ...]:
    """Return sentences on the methods' mean ranks over data sets; none with fewer than two.

    Args:
        grouped: The summaries of each data set.
    """
    found = compare_ranks(grouped)
    if found is None:
        return ()
    listed = ", ".join(f"{method} {rank:.2f}" for method, rank in found.mean_ranks.items())
    sentences = [f"Mean rank over {format_count(len(found.datasets), 'data set')}: {listed}."]
    if found.p_value is not None and found.critical_difference is not None:
        sentences.append(
            f"Friedman's test: {format_p_value(found.p_value)}; mean ranks differ where they are "
            f"{found.critical_difference:.2f} apart (Nemenyi)."
        )
    return (*sentences, *found.left_out)
