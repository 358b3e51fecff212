"""Cells of printed tables: the columns of test metrics, and values with their deviation."""

from tuning.reporting.summary import Summary

MAX_PRINTED_METRICS = 13  # the CSV file has all


def has_tasks(summary: Summary) -> bool:
    """Return whether the data set has tasks: its metrics are in units of their own, not shares."""
    return not summary.as_percent


def name_column(metric: str, summary: Summary, split: str = "test") -> str:
    """Return the head of a metric's column."""
    reported = metric in summary.reported_metrics
    words = metric.replace("_accuracy", "") if reported else metric
    return f"{split} {words.replace('_', ' ')}"


def list_task_metrics(summary: Summary) -> list[str]:
    """Return the metrics that follow the reported ones; none where they are too many to print."""
    if not has_tasks(summary) or len(summary.higher_is_better) > MAX_PRINTED_METRICS:
        return []
    return [name for name in summary.higher_is_better if name not in summary.reported_metrics]


def format_number(value: float, as_percent: bool, digits: int = 4) -> str:
    """Return a number as tables print it."""
    return f"{100 * value:.1f}" if as_percent else f"{value:.{digits}g}"


def format_mean(mean: float | None, std: float | None, as_percent: bool) -> str:
    """Return mean ± standard deviation, or a dash."""
    if mean is None:
        return "-"
    deviation = "" if std is None else f" ± {format_number(std, as_percent, 2)}"
    return format_number(mean, as_percent) + deviation
