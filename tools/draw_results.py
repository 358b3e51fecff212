"""Draw a picture of each data set's table: ``python -m tools.draw_results RESULTS``.

It reads ``RESULTS/<data set>/table.csv`` and writes ``RESULTS/<data set>/methods.svg`` and
``methods-dark.svg``, for light and dark pages: each method's mean over the confirmation seeds with
its 95% interval. Data sets of groups show worst-group and average accuracy, those of tasks the
change of the worst task and the mean over tasks. ``make results`` runs it.
"""

import argparse
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.files import write_text
from tuning.reporting.report.scales import spread_axis
from tuning.reporting.report.style import apply_style

WIDTH, ROW_HEIGHT, MARGINS = 7.0, 0.26, 0.95  # inches
LEFT = 1.35  # inches, for the names of methods
OFFSET = 0.15  # rows, of each metric from the middle of its row: intervals may overlap


@dataclass(frozen=True)
class Theme:
    """The colors of a picture; each has a contrast of at least 4.5 to the surface, but the grid."""

    surface: str
    ink: str
    grid: str
    worst: str
    average: str


THEMES: Mapping[str, Theme] = {
    "": Theme("#ffffff", "#1b1f24", "#d5dbe1", "#bb3311", "#3568a3"),
    "-dark": Theme("#14181d", "#e6eaee", "#323a43", "#ff8f6b", "#7fb2f0"),
}


@dataclass(frozen=True)
class Series:
    """A metric of all methods.

    Args:
        label: Its name in the legend.
        column: The start of its columns in ``table.csv``.
        marker: The form of its dots.
    """

    label: str
    column: str
    marker: str


@dataclass(frozen=True)
class Picture:
    """The metrics that a picture shows, the worst first, and their scale."""

    worst: Series
    average: Series
    axis: str
    factor: float
    higher_is_better: bool


GROUPS = Picture(
    Series("worst group", "test_worst_group_accuracy", "o"),
    Series("average over examples", "test_average_accuracy", "D"),
    "test accuracy (%): mean and 95% interval over confirmation seeds", 100.0, True,
)  # fmt: skip
TASKS = Picture(
    Series("worst task", "test_worst_task_delta", "o"),
    Series("mean over tasks (delta-m)", "test_delta_m", "D"),
    "change to single-task models (%), lower is better: mean and 95% interval over seeds",
    1.0, False,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 where there is no table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, metavar="RESULTS", help="a results folder")
    folder: Path = parser.parse_args(arguments).results
    tables = sorted(folder.glob("*/table.csv"))
    if not tables:
        print(f"error: no <data set>/table.csv in '{folder}'; check RESULTS", file=sys.stderr)
        return 2
    for path in tables:
        table = pd.read_csv(path)
        if not {f"{picture.worst.column}_mean" for picture in (GROUPS, TASKS)} & set(table):
            print(f"no picture: {path} is of neither groups nor tasks")
            continue
        for suffix, theme in THEMES.items():
            target = path.with_name(f"methods{suffix}.svg")
            write_text(target, draw_picture(table, theme))
            print(target)
    return 0


def draw_picture(table: pd.DataFrame, theme: Theme) -> str:
    """Return the picture of a data set's table as SVG.

    Args:
        table: The rows of ``table.csv``.
        theme: The colors.
    """
    picture = GROUPS if f"{GROUPS.worst.column}_mean" in table else TASKS
    order = f"{picture.worst.column}_mean"
    table = table.sort_values(order, ascending=picture.higher_is_better, kind="stable")
    with apply_style():
        figure, axes = _make_axes(len(table), theme)
        _draw_series(axes, table, picture, theme)
        axes.set_yticks(range(len(table)), list(table["method"]))
        axes.set_ylim(-0.6, len(table) - 0.4)
        axes.set_xlabel(picture.axis, color=theme.ink)
        columns = [f"{one.column}_{end}" for one in (picture.worst, picture.average)
                   for end in ("low", "high")]  # fmt: skip
        spread_axis(axes, "x", picture.factor * table[columns].to_numpy().ravel(), picture.factor)
        figure.legend(
            *axes.get_legend_handles_labels(), loc="upper left", ncols=2, labelcolor=theme.ink,
            bbox_to_anchor=(0, 1), fontsize=9,
        )  # fmt: skip
        written = io.StringIO()
        with mpl.rc_context({"svg.fonttype": "path"}):  # pages show it without fonts
            figure.savefig(
                written, format="svg", facecolor=theme.surface,
                metadata={"Date": None, "Creator": None},
            )  # fmt: skip
    return written.getvalue()


def _make_axes(rows: int, theme: Theme) -> tuple[Figure, Axes]:
    height = MARGINS + ROW_HEIGHT * rows
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes(
        (LEFT / WIDTH, 0.5 / height, (WIDTH - LEFT - 0.2) / WIDTH, ROW_HEIGHT * rows / height)
    )
    axes.grid(visible=True, color=theme.grid)
    axes.tick_params(colors=theme.ink, labelcolor=theme.ink, labelsize=9)
    axes.tick_params(axis="y", length=0)
    for spine in axes.spines.values():
        spine.set_edgecolor(theme.grid)
    return figure, axes


def _draw_series(axes: Axes, table: pd.DataFrame, picture: Picture, theme: Theme) -> None:
    """Draw a band from the worst to the average of each method, and both with their intervals."""
    rows = np.arange(len(table))
    parts = ((picture.worst, theme.worst), (picture.average, theme.average))
    worst, average = (picture.factor * table[f"{one.column}_mean"] for one, _ in parts)
    axes.hlines(rows, worst, average, colors=theme.grid, linewidth=11)
    for (series, color), y in zip(parts, (rows + OFFSET, rows - OFFSET), strict=True):
        mean, low, high = (
            picture.factor * table[f"{series.column}_{name}"] for name in ("mean", "low", "high")
        )
        axes.hlines(y, low, high, colors=color, linewidth=1.6)
        axes.plot(mean, y, linestyle="", marker=series.marker, color=color, markersize=5,
                  label=series.label)  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
