"""The rows of tables over methods: complete ones for CSV files, and columns for people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.hyperparameters import Scalar
from datasets.published_results import PublishedRow, PublishedValue
from tuning.reporting.intervals import SeedStatistics, format_confidence
from tuning.reporting.layout.columns import (
    DELTAS,
    Column,
    choose_format,
    find_best,
    name_metric,
    split_words,
)
from tuning.reporting.layout.printed_table import Details
from tuning.reporting.literature import (
    format_printed,
    format_source,
    list_sources,
    list_statistics,
    name_published,
)
from tuning.reporting.summary import Summary

MAX_PRINTED_METRICS = 13  # of tasks; the CSV file has all
MAX_PRINTED_GROUPS = 16
GROUP_METRIC = "test_group_accuracy["

Row = dict[str, object]


@dataclass(frozen=True)
class TableRow:
    """A row of a table over methods.

    Args:
        name: The method.
        metrics: Statistics of ``validation_<metric>`` and ``test_<metric>``.
        seeds: The number of confirmation seeds.
        rank: The mean rank; None without one.
        measured: Whether it was measured here, or the number of its source.
        compared: Whether it may be the best: it was not selected on the test split.
        published: The values of ``test_<metric>`` as printed, of a row of the literature.
    """

    name: str
    metrics: Mapping[str, SeedStatistics]
    seeds: str
    rank: float | None
    measured: str
    compared: bool
    published: Mapping[str, PublishedValue] = field(default_factory=dict)


def has_tasks(summary: Summary) -> bool:
    """Return whether the data set has tasks: its metrics are in units of their own, not shares."""
    return not summary.as_percent


def list_rows(
    summaries: Sequence[Summary],
    published: Sequence[PublishedRow],
    ranks: Mapping[str, float] | None,
) -> list[TableRow]:
    """Return the rows of a data set's table, measured ones first.

    Args:
        summaries: The summaries of its methods.
        published: Published rows.
        ranks: The mean rank of each row that has one.
    """
    ranks, sources = ranks or {}, list_sources(published)
    honest = any(not summary.oracle for summary in summaries)
    measured = [
        TableRow(s.method, s.metrics, str(s.seeds), ranks.get(s.method), "yes",
                 not (s.oracle and honest))
        for s in summaries
    ]  # fmt: skip
    return measured + [
        TableRow(name, list_statistics(row), "-", ranks.get(name), format_source(row, sources),
                 not row.is_baseline, {f"test_{n}": value for n, value in row.metrics.items()})
        for row in published
        for name in [name_published(row)]
    ]  # fmt: skip


def make_columns(
    rows: Sequence[TableRow], first: Summary, with_sources: bool
) -> tuple[Column, ...]:
    """Return the columns of a printed table, the most useful first.

    Args:
        rows: The rows.
        first: The summary of a method, whose metrics and units the columns have.
        with_sources: Whether a column tells what was measured here.
    """
    main, *others = first.reported_metrics
    columns = [
        make_metric_column(rows, first, main, "validation"),
        make_metric_column(rows, first, main, "test"),
        make_interval_column(rows, first, main),
    ]
    if with_sources:
        columns.append(Column(("", "here"), tuple(row.measured for row in rows)))
    other = [make_metric_column(rows, first, metric, "test") for metric in others]
    seeds = Column(("", "seeds"), tuple(row.seeds for row in rows))
    if has_tasks(first):
        return (*columns, _make_rank_column(rows), seeds, *other)
    return (*columns, *other, seeds)


def make_details(rows: Sequence[TableRow], first: Summary) -> tuple[Details, ...]:
    """Return the further columns: a metric per task, or the accuracy of each group."""
    if has_tasks(first):
        names = [name for name in first.higher_is_better if name not in first.reported_metrics]
        if not names or len(first.higher_is_better) > MAX_PRINTED_METRICS:
            return ()
        columns = tuple(make_metric_column(rows, first, name, "test", "") for name in names)
        return (Details("Test metrics of each task", columns),)
    names = list(
        dict.fromkeys(n for row in rows for n in row.metrics if n.startswith(GROUP_METRIC))
    )
    if not names or len(names) > MAX_PRINTED_GROUPS:
        return ()
    columns = tuple(_make_group_column(rows, name) for name in names)
    return (Details("Test accuracy of each group", columns),)


def make_metric_column(
    rows: Sequence[TableRow], first: Summary, metric: str, split: str, prefix: str | None = None
) -> Column:
    """Return the column of a metric.

    Args:
        rows: The rows.
        first: The summary of a method, whose units the column has.
        metric: The metric.
        split: The split, ``validation`` or ``test``; only a test metric has a best row.
        prefix: The start of the head; None for the split.
    """
    found = [row.metrics.get(f"{split}_{metric}") for row in rows]
    published = [row.published.get(f"{split}_{metric}") for row in rows]
    form = choose_format(metric, first.as_percent, found)
    up = first.higher_is_better[metric]
    best, tied = find_best(found, up, [row.compared for row in rows])
    prefix = {"validation": "val.", "test": "test"}[split] if prefix is None else prefix
    return Column(
        split_words(f"{prefix} {name_metric(metric)}"),
        tuple(
            form.format_mean(one) if value is None else format_printed(value, form)
            for one, value in zip(found, published, strict=True)
        ),
        up,
        best if split == "test" else frozenset(),
        tied if split == "test" else frozenset(),
    )


def make_interval_column(rows: Sequence[TableRow], first: Summary, metric: str) -> Column:
    """Return the column of the intervals of a test metric; the arguments are as above."""
    found = [row.metrics.get(f"test_{metric}") for row in rows]
    form = choose_format(metric, first.as_percent, found)
    head = (format_confidence(), "interval")
    return Column(head, tuple(map(form.format_interval, found)))


def _make_rank_column(rows: Sequence[TableRow]) -> Column:
    found = [row.rank for row in rows]
    top = min((rank for rank in found if rank is not None), default=None)
    best = frozenset(i for i, rank in enumerate(found) if rank is not None and rank == top)
    cells = tuple("-" if rank is None else f"{rank:.2f}" for rank in found)
    return Column(("mean", "rank"), cells, False, best if len(rows) > 1 else frozenset())


def _make_group_column(rows: Sequence[TableRow], name: str) -> Column:
    found = [row.metrics.get(name) for row in rows]
    form = choose_format(name, True, found)
    best, tied = find_best(found, True, [row.compared for row in rows])
    group = name.removeprefix(GROUP_METRIC).removesuffix("]")
    y, comma, a = group.partition(", ")
    head = (y + comma.strip(), a) if comma else split_words(group)
    return Column(head, tuple(map(form.format_mean, found)), True, best, tied, is_name=True)


def make_row(summary: Summary) -> Row:
    """Return the row of a method for CSV files: every metric with deviation and interval."""
    row: Row = {
        "dataset": summary.dataset,
        "method": summary.method,
        "selection": summary.selection_label,
        "oracle": summary.oracle,
    }
    named = [
        f"{split}_{metric}"
        for metric in dict.fromkeys([*summary.reported_metrics, *summary.higher_is_better])
        for split in ("validation", "test")
    ]
    groups = [name for name in summary.metrics if name.startswith(GROUP_METRIC)]
    for name in (*named, *groups):
        found = summary.metrics.get(name)
        row |= {
            f"{name}_mean": found.mean if found else None,
            f"{name}_std": found.std if found else None,
            f"{name}_low": found.low if found else None,
            f"{name}_high": found.high if found else None,
        }
    worst, winner = summary.worst_groups, summary.winner
    return row | {
        "winner_metric": winner.metric if winner else None,
        "winner_searched": winner.searched if winner else None,
        "winner_validation": winner.validation if winner else None,
        "winner_test": winner.test if winner else None,
        "test_worst_group": next(iter(worst), None),
        "test_worst_group_seeds": next(iter(worst.values()), None),
        "seeds": summary.seeds,
        "search": summary.search,
        "scheduler": summary.scheduler,
        "search_seeds": summary.search_seeds,
        "trials": summary.trials,
        "epochs_per_trial": summary.epochs_per_trial,
        "epochs": summary.epochs,
        "device": summary.device,
        "device_hours": summary.device_hours,
        "dataset_version": summary.dataset_version,
        "baseline": summary.baseline.name if summary.baseline else None,
        "gradients": summary.gradients,
        "complete": summary.complete,
        "needs": " ".join(summary.needs),
        "hyperparameters": ", ".join(f"{n}={v}" for n, v in summary.hyperparameters.items()),
    }


def mark_rows(rows: Sequence[TableRow], first: Summary) -> dict[str, Row]:
    """Return the columns of marks of CSV files, ``best`` or ``tied``, by row.

    Args:
        rows: The rows.
        first: The summary of a method, whose metrics the rows have.
    """
    groups = {n for row in rows for n in row.metrics if n.startswith(GROUP_METRIC)}
    names = [*(f"test_{metric}" for metric in first.reported_metrics), *sorted(groups)]
    marks: dict[str, Row] = {row.name: {} for row in rows}
    for name in names:
        up = first.higher_is_better.get(name.removeprefix("test_"), True)
        found = [row.metrics.get(name) for row in rows]
        best, tied = find_best(found, up, [row.compared for row in rows])
        for i, row in enumerate(rows):
            mark = "best" if i in best else "tied" if i in tied else None
            marks[row.name][f"{name}_mark"] = mark
    return marks


def describe_best(summary: Summary) -> tuple[str, str]:
    """Return the main test metric of a winner with its name, and its hyperparameters in short."""
    metric = summary.reported_metrics[0]
    found = summary.metrics.get(f"test_{metric}")
    text = choose_format(metric, summary.as_percent, [found]).format_mean(found)
    unit = "%" if summary.as_percent and metric not in DELTAS and found is not None else ""
    values = summary.hyperparameters.items()
    return (
        f"{name_metric(metric)} {text}{unit}",
        ", ".join(f"{name}={_format_scalar(value)}" for name, value in values),
    )


def _format_scalar(value: Scalar) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
