"""The table of methods by data sets: the main test metric of each data set with its interval."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tuning.reporting.layout.columns import Column, name_metric
from tuning.reporting.layout.printed_table import PrintedTable
from tuning.reporting.summary import Summary
from tuning.reporting.table_notes import (
    describe_baselines,
    describe_numbers,
    list_facts,
    list_warnings,
)
from tuning.reporting.table_rows import (
    Row,
    TableRow,
    list_rows,
    make_interval_column,
    make_metric_column,
    mark_rows,
)

NAME = "data_sets"


def make_data_set_table(summaries: Sequence[Summary]) -> PrintedTable:
    """Return a table with a row per method, and the columns of each data set.

    Args:
        summaries: The summaries of all methods and data sets; at least one.
    """
    methods = list_methods(summaries)
    grouped = group_by_data_set(summaries)
    columns: list[Column] = []
    for dataset, found in grouped.items():
        first = found[0]
        metric = first.reported_metrics[0]
        measured = {row.name: row for row in list_rows(found, (), None)}
        rows = [measured.get(name) or _make_empty_row(name) for name in methods]
        mean = make_metric_column(rows, first, metric, "test")
        interval = make_interval_column(rows, first, metric)
        cells = map(_join_cells, mean.cells, interval.cells)
        head = (dataset, name_metric(metric))
        columns.append(replace(mean, head=head, cells=tuple(cells), is_name=True))
    return PrintedTable(
        title="Test metrics of all data sets",
        label=NAME,
        row_head="method",
        names=tuple(methods),
        columns=tuple(columns),
        notes=tuple(_write_notes(grouped)),
    )


def list_data_set_values(summaries: Sequence[Summary]) -> list[Row]:
    """Return the rows of the CSV file: per data set, the main test metric of each method."""
    grouped = group_by_data_set(summaries)
    rows: list[Row] = []
    for method in list_methods(summaries):
        row: Row = {"method": method}
        for dataset, measured in grouped.items():
            metric = f"test_{measured[0].reported_metrics[0]}"
            summary = next((one for one in measured if one.method == method), None)
            found = None if summary is None else summary.metrics.get(metric)
            name = f"{dataset}_{metric}"
            marks = mark_rows(list_rows(measured, (), None), measured[0])
            row |= {
                f"{name}_mean": found.mean if found else None,
                f"{name}_std": found.std if found else None,
                f"{name}_low": found.low if found else None,
                f"{name}_high": found.high if found else None,
                f"{name}_mark": marks[method][f"{metric}_mark"] if summary else None,
                f"{dataset}_seeds": summary.seeds if summary else None,
            }
        rows.append(row)
    return rows


def group_by_data_set(summaries: Sequence[Summary]) -> dict[str, list[Summary]]:
    """Return the summaries of each data set, in the order given."""
    grouped: dict[str, list[Summary]] = {}
    for summary in summaries:
        grouped.setdefault(summary.dataset, []).append(summary)
    return grouped


def list_methods(summaries: Sequence[Summary]) -> list[str]:
    """Return the methods, each once, in the order given."""
    return list(dict.fromkeys(summary.method for summary in summaries))


def _make_empty_row(name: str) -> TableRow:
    """Return the row of a method that a data set has no result of."""
    return TableRow(name, {}, "-", None, "yes", compared=False)


def _join_cells(mean: str, interval: str) -> str:
    return mean if interval == "-" else f"{mean} {interval}"


def _write_notes(grouped: Mapping[str, Sequence[Summary]]) -> list[str]:
    notes = [" ".join(list_facts(found)) for found in grouped.values()]
    forms: dict[str, list[str]] = {}
    for dataset, found in grouped.items():
        forms.setdefault(describe_numbers(found[0]), []).append(dataset)
    notes += [f"{', '.join(names)}: {form}" for form, names in forms.items()]
    notes += [
        f"{dataset}: {note}"
        for dataset, found in grouped.items()
        for note in (*describe_baselines(found), *list_warnings(found))
    ]
    return notes
