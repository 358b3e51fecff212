"""Tables over methods and data sets, made from the methods' summaries under a lock."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.files import lock_file
from common.hyperparameters import Scalar
from common.interrupts import clean_up_after_signals
from datasets.multitask.ranks import compute_mean_ranks
from datasets.published_results import PublishedRow, read_published_rows
from tuning.reporting.intervals import SeedStatistics, format_confidence
from tuning.reporting.literature import (
    MEASURED,
    describe_literature,
    format_published_row,
    get_means,
    list_sources,
    make_published_row,
    name_published,
)
from tuning.reporting.summary import Summary, read_summaries
from tuning.reporting.table_cells import (
    format_mean,
    format_number,
    has_tasks,
    list_task_metrics,
    name_column,
)
from tuning.reporting.table_files import write_table
from tuning.reporting.table_notes import write_notes

LOCK_NAME = ".lock"
TITLE = "metrics of the confirmation seeds"
# Aggregates over tasks, not metrics of one.
RANKLESS_METRICS = ("delta_m", "worst_task_delta", "mean_f1")

Row = dict[str, object]
PrintedRow = dict[str, str]


@contextmanager
def lock_results(results: Path) -> Iterator[None]:
    """Hold the lock under which the exports of a results folder are written."""
    results.mkdir(parents=True, exist_ok=True)
    with clean_up_after_signals(), lock_file(results / LOCK_NAME):
        yield


def write_tables(results: Path, with_published: bool = False) -> None:
    """Rewrite all tables of a results folder from the summaries of its methods.

    Args:
        results: The folder.
        with_published: Whether published rows follow, where a data set has any.

    Raises:
        UserError: If another version of the project wrote one of the summaries.
    """
    summaries = read_summaries(results)
    for dataset in sorted({summary.dataset for summary in summaries}):
        chosen = [summary for summary in summaries if summary.dataset == dataset]
        published = read_published_rows(dataset) if with_published else []
        _write_table(results / dataset / "table", chosen, published)
    if summaries:
        write_table(
            results / "best_configs",
            [_describe_best(summary) for summary in summaries],
            [_format_best(summary) for summary in summaries],
            [],
            "Best configurations",
        )


def _write_table(
    path: Path, summaries: Sequence[Summary], published: Sequence[PublishedRow]
) -> None:
    """Write a data set's table: own rows, then published ones, ranked together."""
    ranks = _rank_methods(summaries, published)
    notes = write_notes(summaries)
    values: list[Row] = [_make_row(summary) | _add_rank(summary, ranks) for summary in summaries]
    printed = [_format_row(summary) | _format_rank(summary, ranks) for summary in summaries]
    if published:
        own, sources = summaries[0], list_sources(published)
        found = {name_published(row): row for row in published}
        rank_of = {} if ranks is None else ranks
        values = [row | {MEASURED: True} for row in values]
        values += [make_published_row(row, rank_of.get(name)) for name, row in found.items()]
        printed = [row | {MEASURED: "yes"} for row in printed]
        printed += [
            format_published_row(row, rank_of.get(name), own, sources)
            for name, row in found.items()
        ]
        notes += describe_literature(published)
    write_table(path, values, printed, notes, f"{summaries[0].dataset}: {TITLE}")


def _make_row(summary: Summary) -> Row:
    """Return the row of a method with full precision, for the CSV file."""
    row: Row = {
        "method": summary.method,
        "selection": summary.selection_label,
        "oracle": summary.oracle,
    }
    for metric in dict.fromkeys([*summary.reported_metrics, *summary.higher_is_better]):
        for split in ("validation", "test"):
            name = f"{split}_{metric}"
            found = summary.metrics.get(name)
            row |= {
                f"{name}_mean": found.mean if found else None,
                f"{name}_std": found.std if found else None,
                f"{name}_low": found.low if found else None,
                f"{name}_high": found.high if found else None,
            }
    return row | {
        "seeds": summary.seeds,
        "search": summary.search,
        "trials": summary.trials,
        "epochs_per_trial": summary.epochs_per_trial,
        "epochs": summary.epochs,
        "device": summary.device,
        "device_hours": summary.device_hours,
        "baseline": summary.baseline.name if summary.baseline else None,
        "gradients": summary.gradients,
        "complete": summary.complete,
        "needs": " ".join(summary.needs),
    }


def _rank_methods(
    summaries: Sequence[Summary], published: Sequence[PublishedRow]
) -> dict[str, float] | None:
    """Return each row's mean rank over the test metrics; None for data sets without tasks."""
    first = summaries[0]
    if not has_tasks(first):
        return None
    higher = {n: up for n, up in first.higher_is_better.items() if n not in RANKLESS_METRICS}
    metrics = {
        summary.method: {name: summary.metrics[f"test_{name}"].mean for name in higher}
        for summary in summaries
        if all(f"test_{name}" in summary.metrics for name in higher)
    }
    for row in published:
        if (means := get_means(row, higher)) is not None:
            metrics[name_published(row)] = means
    return compute_mean_ranks(metrics, higher)


def _add_rank(summary: Summary, ranks: Mapping[str, float] | None) -> Row:
    """Return the column of mean ranks for the CSV file; no column for data sets without tasks."""
    return {} if ranks is None else {"mean rank": ranks.get(summary.method)}


def _format_rank(summary: Summary, ranks: Mapping[str, float] | None) -> PrintedRow:
    """Return the column of mean ranks as a paper would print it."""
    if ranks is None:
        return {}
    rank = ranks.get(summary.method)
    return {"mean rank": "-" if rank is None else f"{rank:.2f}"}


def _format_row(summary: Summary) -> PrintedRow:
    """Return the row of a method as a paper would print it."""
    metrics = summary.metrics
    row = {"method": summary.method, "selection": summary.selection_label.replace("_", " ")}
    for index, metric in enumerate(summary.reported_metrics):
        test = metrics.get(f"test_{metric}")
        validation = metrics.get(f"validation_{metric}")
        row[name_column(metric, summary, "val.")] = _format_mean(validation, summary)
        row[name_column(metric, summary)] = _format_mean(test, summary)
        if index == 0:
            row[f"{format_confidence()} interval"] = _format_interval(test, summary)
    for metric in list_task_metrics(summary):
        row[name_column(metric, summary)] = _format_mean(metrics.get(f"test_{metric}"), summary)
    row |= {
        "seeds": str(summary.seeds),
        "trials": str(summary.trials),
        "epochs": str(summary.epochs),
        "device-hours": f"{summary.device_hours:.2g}",
    }
    if not has_tasks(summary):
        row["train groups"] = _describe_group_use(summary.needs)
    return row


def _describe_group_use(needs: Sequence[str]) -> str:
    """Return whether a method trains on group labels, of training or of validation."""
    if "train_groups" in needs:
        return "yes"
    return "validation's" if "validation_groups" in needs else "no"


def _format_mean(found: SeedStatistics | None, summary: Summary) -> str:
    """Return mean ± standard deviation."""
    if found is None:
        return "-"
    return format_mean(found.mean, found.std, summary.as_percent)


def _format_interval(found: SeedStatistics | None, summary: Summary) -> str:
    if found is None or found.low is None or found.high is None:
        return "-"
    low, high = (format_number(end, summary.as_percent) for end in (found.low, found.high))
    return f"[{low}, {high}]"


def _describe_best(summary: Summary) -> Row:
    """Return the row of a winner with full precision, for the CSV file."""
    found = summary.metrics.get(f"test_{summary.reported_metrics[0]}")
    values = summary.hyperparameters.items()
    return {
        "dataset": summary.dataset,
        "method": summary.method,
        "selection": summary.selection_label,
        _name_first_metric(summary): found.mean if found else None,
        "hyperparameters": ", ".join(f"{name}={value}" for name, value in values),
    }


def _format_best(summary: Summary) -> PrintedRow:
    """Return the row of a winner as a paper would print it."""
    found = summary.metrics.get(f"test_{summary.reported_metrics[0]}")
    values = summary.hyperparameters.items()
    return {
        "dataset": summary.dataset,
        "method": summary.method,
        "selection": summary.selection_label,
        _name_first_metric(summary): _format_mean(found, summary),
        "hyperparameters": ", ".join(f"{name}={_format_scalar(v)}" for name, v in values),
    }


def _name_first_metric(summary: Summary) -> str:
    return f"test {summary.reported_metrics[0].replace('_', ' ')}"


def _format_scalar(value: Scalar) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
