"""Published rows beside one's own: ``tune.py export --with published``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from datasets.published_results import PublishedRow, PublishedValue
from tuning.reporting.intervals import SeedStatistics
from tuning.reporting.layout.columns import NumberFormat

MEASURED = "measured_here"  # the column that tells own rows from published ones


def name_published(row: PublishedRow) -> str:
    """Return the name of a published row, which no method here has."""
    return f"{row.method} (published)"


def make_published_row(row: PublishedRow, rank: float | None) -> dict[str, object]:
    """Return a published row with all its digits, for the CSV file."""
    values: dict[str, object] = {"method": name_published(row), "selection": "published"}
    for metric, value in row.metrics.items():
        values |= {f"test_{metric}_mean": value.mean, f"test_{metric}_std": value.std}
    if rank is not None:
        values["mean_rank"] = rank
    return values | {MEASURED: False, "source": row.source, "protocol": row.protocol}


def list_statistics(row: PublishedRow) -> dict[str, SeedStatistics]:
    """Return the test metrics of a published row; the number of its seeds is unknown."""
    return {
        f"test_{name}": SeedStatistics(value.mean, value.std, None, None, 0)
        for name, value in row.metrics.items()
    }


def format_printed(value: PublishedValue, form: NumberFormat) -> str:
    """Return a published value with the digits with which it was printed."""
    shift = round(math.log10(form.factor))  # of decimals, where shares are printed in percent
    mean = replace(form, decimals=max(0, value.decimals - shift))
    text = mean.format_number(value.mean, form.sign)
    if value.std is not None:
        std = replace(form, decimals=max(0, value.std_decimals - shift))
        text += f" ± {std.format_number(value.std)}"
    return text + form.unit


def list_sources(rows: Sequence[PublishedRow]) -> list[str]:
    """Return the sources of published rows, each with its protocol, once."""
    return list(dict.fromkeys(_describe_source(row) for row in rows))


def describe_literature(rows: Sequence[PublishedRow], are_ranked: bool) -> list[str]:
    """Return the notes of a table with published rows, which may be ranked."""
    listed = "; ".join(f"[{n}] {text}" for n, text in enumerate(list_sources(rows), start=1))
    ranks = (
        " Here a mean rank is among all rows, also those published, that have every test metric, "
        "except published single-task models."
    )
    return [
        "Rows with a number were published, not measured here; sources and protocols: "
        f"{listed}.{ranks if are_ranked else ''}"
    ]


def get_means(row: PublishedRow, metrics: Mapping[str, bool]) -> dict[str, float] | None:
    """Return the metrics by which a published row is ranked; None where it lacks one."""
    if row.is_baseline or not set(metrics) <= set(row.metrics):
        return None
    return {name: row.metrics[name].mean for name in metrics}


def format_source(row: PublishedRow, sources: Sequence[str]) -> str:
    """Return the number of a row's source in the note that lists them."""
    return f"no [{sources.index(_describe_source(row)) + 1}]"


def _describe_source(row: PublishedRow) -> str:
    return f"{row.source} ({row.protocol})"
