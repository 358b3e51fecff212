"""Tables over methods and data sets, made from the methods' summaries under a lock."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.files import lock_file
from common.interrupts import clean_up_after_signals
from datasets.multitask.ranks import compute_mean_ranks
from datasets.published_results import PublishedRow, read_published_rows
from tuning.reporting import data_set_table
from tuning.reporting.damage.find_damage import LeftOutFile
from tuning.reporting.data_set_table import (
    group_by_data_set,
    list_data_set_values,
    make_data_set_table,
)
from tuning.reporting.layout.columns import Column
from tuning.reporting.layout.printed_table import PrintedTable
from tuning.reporting.layout.table_files import write_table
from tuning.reporting.literature import (
    MEASURED,
    describe_literature,
    get_means,
    make_published_row,
    name_published,
)
from tuning.reporting.summary import Summary, scan_summaries
from tuning.reporting.table_notes import write_notes
from tuning.reporting.table_rows import (
    Row,
    describe_best,
    has_tasks,
    list_rows,
    make_columns,
    make_details,
    make_row,
    mark_rows,
)

LOCK_NAME = ".lock"
TITLE = "metrics of the confirmation seeds"
# Aggregates over tasks, not metrics of one.
RANKLESS_METRICS = ("delta_m", "worst_task_delta", "mean_f1")


@contextmanager
def lock_results(results: Path) -> Iterator[None]:
    """Hold the lock under which the exports of a results folder are written."""
    results.mkdir(parents=True, exist_ok=True)
    with clean_up_after_signals(), lock_file(results / LOCK_NAME):
        yield


def write_tables(results: Path, with_published: bool = False) -> list[LeftOutFile]:
    """Rewrite all tables of a results folder from the summaries of its methods.

    Args:
        results: The folder.
        with_published: Whether published rows follow, where a data set has any.

    Returns:
        The summaries that are left out, damaged or of another version of the project.
    """
    summaries, left_out = scan_summaries(results)
    values: list[Row] = []
    for dataset in sorted({summary.dataset for summary in summaries}):
        chosen = [summary for summary in summaries if summary.dataset == dataset]
        published = read_published_rows(dataset) if with_published else []
        table = make_printed_table(chosen, published)
        write_table(results / dataset / "table", _list_values(chosen, published), table)
        values += _list_values(chosen, ())
    if summaries:
        write_table(results / "best_configs", values, _make_best_table(summaries))
    if len(group_by_data_set(summaries)) > 1:
        table = make_data_set_table(summaries)
        write_table(results / data_set_table.NAME, list_data_set_values(summaries), table)
    return left_out


def make_printed_table(
    summaries: Sequence[Summary], published: Sequence[PublishedRow] = ()
) -> PrintedTable:
    """Return the table of a data set as people read it.

    Args:
        summaries: The summaries of its methods; at least one.
        published: Published rows, which follow.
    """
    first = summaries[0]
    ranks = _rank_methods(summaries, published)
    rows = list_rows(summaries, published, ranks)
    notes = write_notes(summaries)
    if published:
        notes += describe_literature(published, are_ranked=ranks is not None)
    return PrintedTable(
        title=f"{first.dataset}: {TITLE}",
        label=first.dataset,
        row_head="method",
        names=tuple(row.name for row in rows),
        columns=make_columns(rows, first, with_sources=bool(published)),
        details=make_details(rows, first),
        notes=tuple(notes),
    )


def _list_values(summaries: Sequence[Summary], published: Sequence[PublishedRow]) -> list[Row]:
    """Return the rows of a data set's CSV file."""
    ranks = _rank_methods(summaries, published)
    marks = mark_rows(list_rows(summaries, published, ranks), summaries[0])
    values = [
        make_row(summary)
        | marks[summary.method]
        | ({} if ranks is None else {"mean_rank": ranks.get(summary.method)})
        for summary in summaries
    ]
    if not published:
        return values
    dataset = summaries[0].dataset
    return [row | {MEASURED: True} for row in values] + [
        {
            "dataset": dataset,
            **make_published_row(row, (ranks or {}).get(name)),
            **marks[name],
        }
        for row in published
        for name in [name_published(row)]
    ]


def _rank_methods(
    summaries: Sequence[Summary], published: Sequence[PublishedRow]
) -> dict[str, float] | None:
    """Return each row's mean rank over the test metrics; None for data sets without tasks."""
    first = summaries[0]
    if not has_tasks(first):
        return None
    higher = {n: up for n, up in first.higher_is_better.items() if n not in RANKLESS_METRICS}
    metrics: dict[str, Mapping[str, float]] = {
        summary.method: {name: summary.metrics[f"test_{name}"].mean for name in higher}
        for summary in summaries
        if all(f"test_{name}" in summary.metrics for name in higher)
    }
    for row in published:
        if (means := get_means(row, higher)) is not None:
            metrics[name_published(row)] = means
    return compute_mean_ranks(metrics, higher)


def _make_best_table(summaries: Sequence[Summary]) -> PrintedTable:
    described = [describe_best(summary) for summary in summaries]
    rules = dict.fromkeys(f"{s.dataset}: {s.selection_label.replace('_', ' ')}" for s in summaries)
    columns = (
        Column(("", "test"), tuple(result for result, _ in described)),
        Column(("", "hyperparameters"), tuple(values for _, values in described)),
    )
    return PrintedTable(
        title="Best configurations",
        label="best_configs",
        row_head="data set, method",
        names=tuple(f"{summary.dataset}, {summary.method}" for summary in summaries),
        columns=columns,
        notes=(f"Selected by: {'; '.join(rules)}.",),
    )
