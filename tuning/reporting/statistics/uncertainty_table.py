"""The standard errors of methods' main test metric and their parts, as a table."""

from collections.abc import Sequence

from tuning.reporting.layout.columns import Column, choose_format
from tuning.reporting.layout.printed_table import PrintedTable
from tuning.reporting.statistics.uncertainty import UncertaintyParts
from tuning.reporting.summary import Summary
from tuning.reporting.table_rows import Row

Told = tuple[Summary, UncertaintyParts]


def list_told(summaries: Sequence[Summary]) -> list[Told]:
    """Return the methods whose records tell an uncertainty, with its parts."""
    return [(summary, summary.uncertainty) for summary in summaries if summary.uncertainty]


def list_uncertainty_values(told: Sequence[Told]) -> list[Row]:
    """Return a row per method for the CSV file."""
    return [
        {
            "dataset": summary.dataset,
            "method": summary.method,
            "metric": f"test_{parts.metric}",
            "standard_error": parts.total,
            "training_seed": parts.seed,
            "finite_group": parts.group,
            "configuration": parts.configuration,
        }
        for summary, parts in told
    ]


def make_uncertainty_table(told: Sequence[Told]) -> PrintedTable:
    """Return the table of standard errors, a row per method."""
    has_data_sets = len({summary.dataset for summary, _ in told}) > 1
    columns = (
        Column(("standard", "error"), tuple(_format(one, one[1].total) for one in told)),
        Column(("training", "seed"), tuple(_format(one, one[1].seed) for one in told)),
        Column(("finite", "group"), tuple(_format(one, one[1].group) for one in told)),
        Column(("", "configuration"), tuple(_format(one, one[1].configuration) for one in told)),
    )
    reasons = dict.fromkeys(reason for _, parts in told for reason in parts.unknown)
    return PrintedTable(
        title="Standard errors of the main test metric",
        label="standard-errors",
        row_head="data set: method" if has_data_sets else "method",
        names=tuple(
            f"{summary.dataset}: {summary.method}" if has_data_sets else summary.method
            for summary, _ in told
        ),
        columns=columns,
        notes=(
            "Standard error of the mean over confirmation seeds, in the unit of the metric, and "
            "its parts, whose squares add up to its own: training seed; finite group, at most; "
            "choice of configuration.",
            *([f"Not known: {'; '.join(reasons)}."] if reasons else []),
        ),
    )


def _format(one: Told, value: float | None) -> str:
    summary, parts = one
    form = choose_format(parts.metric, summary.as_percent, [])
    return "-" if value is None else form.format_number(value)
