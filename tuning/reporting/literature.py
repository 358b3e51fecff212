"""Published rows beside one's own: ``tune.py export --with published``."""

from collections.abc import Mapping, Sequence

from datasets.published_results import PublishedRow
from tuning.reporting.summary import Summary
from tuning.reporting.table_cells import format_mean, has_tasks, list_task_metrics, name_column

MEASURED = "measured here"  # the column that tells own rows from published ones


def name_published(row: PublishedRow) -> str:
    """Return the name of a published row, which no method here has."""
    return f"{row.method} (published)"


def make_published_row(row: PublishedRow, rank: float | None) -> dict[str, object]:
    """Return a published row with all its digits, for the CSV file."""
    values: dict[str, object] = {"method": name_published(row), "selection": "published"}
    for metric, value in row.metrics.items():
        values |= {f"test_{metric}_mean": value.mean, f"test_{metric}_std": value.std}
    if rank is not None:
        values["mean rank"] = rank
    return values | {MEASURED: False, "source": row.source, "protocol": row.protocol}


def format_published_row(
    row: PublishedRow, rank: float | None, own: Summary, sources: Sequence[str]
) -> dict[str, str]:
    """Return a published row as a paper would print it.

    Args:
        row: The row.
        rank: Its mean rank; None where it has none.
        own: The summary of a method here, whose columns and units the row takes.
        sources: All sources of the table, which a note lists.
    """
    cells = {"method": name_published(row), "selection": f"published [{_number(row, sources)}]"}
    for metric in (*own.reported_metrics, *list_task_metrics(own)):
        value = row.metrics.get(metric)
        cells[name_column(metric, own)] = (
            "-" if value is None else format_mean(value.mean, value.std, own.as_percent)
        )
    if has_tasks(own):
        cells["mean rank"] = "-" if rank is None else f"{rank:.2f}"
    return cells | {MEASURED: "no"}


def list_sources(rows: Sequence[PublishedRow]) -> list[str]:
    """Return the sources of published rows, each with its protocol, once."""
    return list(dict.fromkeys(_describe_source(row) for row in rows))


def describe_literature(rows: Sequence[PublishedRow]) -> list[str]:
    """Return the notes of a table with published rows."""
    listed = "; ".join(f"[{n}] {text}" for n, text in enumerate(list_sources(rows), start=1))
    return [
        "Published rows were not measured here; sources and protocols: "
        f"{listed}. Here a mean rank is among all rows, also those "
        "published, that have every test metric, except published single-task models."
    ]


def get_means(row: PublishedRow, metrics: Mapping[str, bool]) -> dict[str, float] | None:
    """Return the metrics by which a published row is ranked; None where it lacks one."""
    if row.is_baseline or not set(metrics) <= set(row.metrics):
        return None
    return {name: row.metrics[name].mean for name in metrics}


def _describe_source(row: PublishedRow) -> str:
    return f"{row.source} ({row.protocol})"


def _number(row: PublishedRow, sources: Sequence[str]) -> int:
    return sources.index(_describe_source(row)) + 1
