"""Tables over methods and data sets, made from the methods' summaries under a lock."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.files import lock_file
from common.hyperparameters import Scalar
from datasets.multitask.ranks import compute_mean_ranks
from tuning.reporting.intervals import SeedStatistics, format_confidence
from tuning.reporting.summary import Summary, read_summaries
from tuning.reporting.table_files import write_table
from tuning.reporting.table_notes import write_notes

MAX_PRINTED_METRICS = 13  # the CSV file has all
LOCK_NAME = ".lock"
RANKLESS_METRICS = ("delta_m", "worst_task_delta")  # aggregates over tasks, not metrics of one

Row = dict[str, object]
PrintedRow = dict[str, str]


@contextmanager
def lock_results(results: Path) -> Iterator[None]:
    """Hold the lock under which the exports of a results folder are written."""
    results.mkdir(parents=True, exist_ok=True)
    with lock_file(results / LOCK_NAME):
        yield


def write_tables(results: Path) -> None:
    """Rewrite all tables of a results folder from the summaries of its methods.

    Raises:
        UserError: If another version of the project wrote one of the summaries.
    """
    summaries = read_summaries(results)
    for dataset in sorted({summary.dataset for summary in summaries}):
        chosen = [summary for summary in summaries if summary.dataset == dataset]
        ranks = _rank_methods(chosen)
        write_table(
            results / dataset / "table",
            [_make_row(summary) | _add_rank(summary, ranks) for summary in chosen],
            [_format_row(s) | _format_rank(s, ranks) for s in chosen],
            write_notes(chosen),
            f"{dataset}: metrics of the confirmation seeds",
        )
    if summaries:
        write_table(
            results / "best_configs",
            [_describe_best(summary) for summary in summaries],
            [_format_best(summary) for summary in summaries],
            [],
            "Best configurations",
        )


def _make_row(summary: Summary) -> Row:
    """Return the row of a method with full precision, for the CSV file."""
    row: Row = {"method": summary.method, "selection": summary.rule, "oracle": summary.oracle}
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


def _rank_methods(summaries: Sequence[Summary]) -> dict[str, float] | None:
    """Return each method's mean rank over the test metrics; None for data sets without tasks."""
    first = summaries[0]
    if not _has_tasks(first):
        return None
    higher = {n: up for n, up in first.higher_is_better.items() if n not in RANKLESS_METRICS}
    metrics = {
        summary.method: {name: summary.metrics[f"test_{name}"].mean for name in higher}
        for summary in summaries
        if all(f"test_{name}" in summary.metrics for name in higher)
    }
    return compute_mean_ranks(metrics, higher)


def _has_tasks(summary: Summary) -> bool:
    """Return whether the data set has tasks: its metrics are in units of their own, not shares."""
    return not summary.as_percent


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
    row = {"method": summary.method, "selection": summary.rule.replace("_", " ")}
    for index, metric in enumerate(summary.reported_metrics):
        words = metric.replace("_accuracy", "").replace("_", " ")
        test = metrics.get(f"test_{metric}")
        row[f"val. {words}"] = _format_mean(metrics.get(f"validation_{metric}"), summary)
        row[f"test {words}"] = _format_mean(test, summary)
        if index == 0:
            row[f"{format_confidence()} interval"] = _format_interval(test, summary)
    if _has_tasks(summary) and len(summary.higher_is_better) <= MAX_PRINTED_METRICS:
        for metric in summary.higher_is_better:
            if metric not in summary.reported_metrics:
                name = f"test {metric.replace('_', ' ')}"
                row[name] = _format_mean(metrics.get(f"test_{metric}"), summary)
    row |= {
        "seeds": str(summary.seeds),
        "trials": str(summary.trials),
        "epochs": str(summary.epochs),
        "device-hours": f"{summary.device_hours:.2g}",
    }
    if not _has_tasks(summary):
        row["train groups"] = _describe_group_use(summary.needs)
    return row


def _describe_group_use(needs: Sequence[str]) -> str:
    """Return whether a method trains on group labels, of training or of validation."""
    if "train_groups" in needs:
        return "yes"
    return "validation's" if "validation_groups" in needs else "no"


def _format_number(value: float, as_percent: bool, digits: int = 4) -> str:
    return f"{100 * value:.1f}" if as_percent else f"{value:.{digits}g}"


def _format_mean(found: SeedStatistics | None, summary: Summary) -> str:
    """Return mean ± standard deviation."""
    if found is None:
        return "-"
    percent = summary.as_percent
    deviation = "" if found.std is None else f" ± {_format_number(found.std, percent, 2)}"
    return _format_number(found.mean, percent) + deviation


def _format_interval(found: SeedStatistics | None, summary: Summary) -> str:
    if found is None or found.low is None or found.high is None:
        return "-"
    low, high = (_format_number(end, summary.as_percent) for end in (found.low, found.high))
    return f"[{low}, {high}]"


def _describe_best(summary: Summary) -> Row:
    """Return the row of a winner with full precision, for the CSV file."""
    found = summary.metrics.get(f"test_{summary.reported_metrics[0]}")
    values = summary.hyperparameters.items()
    return {
        "dataset": summary.dataset,
        "method": summary.method,
        "selection": summary.rule,
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
        "selection": summary.rule,
        _name_first_metric(summary): _format_mean(found, summary),
        "hyperparameters": ", ".join(f"{name}={_format_scalar(v)}" for name, v in values),
    }


def _name_first_metric(summary: Summary) -> str:
    return f"test {summary.reported_metrics[0].replace('_', ' ')}"


def _format_scalar(value: Scalar) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
