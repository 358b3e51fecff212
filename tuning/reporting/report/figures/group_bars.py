"""Test metrics of each group, or changes of each task's metrics, with intervals over seeds."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from datasets.multitask.base import BASELINES
from datasets.multitask.baseline import Baseline
from tuning.records.export_context import BaselineSource
from tuning.reporting.intervals import SeedStatistics
from tuning.reporting.report.chart import Chart, list_words, shorten_name
from tuning.reporting.report.read_studies import ReportedStudy
from tuning.reporting.report.scales import spread_axis
from tuning.reporting.report.style import INK, PANEL, PIXELS_PER_INCH, SERIES, STEPS
from tuning.reporting.summary import Summary

GROUP_METRIC = "test_group_accuracy["
AGGREGATES = ("delta_m", "worst_task_delta", "mean_f1", "success", "worst_task_success")
MAX_PANELS = 40
COLUMNS = 4  # panels in a line
# Inches: the width of a line, as two columns of a paper, and of a panel with its gap; the heights
# of a method's row, of the title above a panel, and of ticks and label below it.
PAGE_WIDTH, MAX_PITCH, GAP = 7.1, 1.75, 0.2
ROW_HEIGHT, HEAD, FOOT = 0.15, 0.27, 0.48


def draw_group_bars(studies: Sequence[ReportedStudy], summaries: Sequence[Summary]) -> Chart | None:
    """Return the test accuracy of each group and method; None without groups or results."""
    names = list(
        dict.fromkeys(n for s in summaries for n in s.metrics if n.startswith(GROUP_METRIC))
    )
    if not names:
        return None
    groups = {name.removeprefix(GROUP_METRIC).removesuffix("]"): name for name in names}
    values = [
        [_scale_interval(summary.metrics.get(name), 100.0) for name in groups.values()]
        for summary in summaries
    ]
    return _draw_panels(
        studies, list(groups), values, "test accuracy (%)", "group_accuracy",
        "Test accuracy of each group", "Mean and 95% interval over confirmation seeds.",
    )  # fmt: skip


def draw_task_deltas(
    studies: Sequence[ReportedStudy], summaries: Sequence[Summary]
) -> Chart | None:
    """Return the change of each task's metrics in percent; None without tasks or results."""
    context = studies[0].study.context
    names = [name for name in context.higher_is_better if name not in AGGREGATES]
    if context.as_percent or not any(s.metrics for s in summaries) or not names:
        return None
    reference = find_baseline(context.dataset, context.baseline)
    source = f"the baseline {reference.name}" if reference else "the mean over methods"
    values: list[list[tuple[float, float, float] | None]] = [[] for _ in summaries]
    for name in names:
        found = [summary.metrics.get(f"test_{name}") for summary in summaries]
        base = reference.metrics[name] if reference and name in reference.metrics else float(
            np.mean([one.mean for one in found if one is not None] or [1.0])
        )  # fmt: skip
        factor = (-100 if context.higher_is_better[name] else 100) / (base or 1.0)
        for row, one in zip(values, found, strict=True):
            row.append(_scale_interval(one, factor, base))
    return _draw_panels(
        studies, names, values, "test change (%), lower is better", "task_deltas",
        "Change of each task's metrics",
        f"Relative to {source}: mean and 95% interval over confirmation seeds; below 0 is better.",
        zero=True,
    )  # fmt: skip


def find_baseline(dataset: str, source: BaselineSource | None) -> Baseline | None:
    """Return the project's own baseline of a data set if the records name it; else None."""
    path = BASELINES / f"{dataset}.json"
    if source is None or "/" in dataset or not path.is_file():
        return None
    found = Baseline.from_json(path.read_text(encoding="utf-8"), path.name)
    return found if (found.name, found.version) == (source.name, source.version) else None


def _scale_interval(
    found: SeedStatistics | None, factor: float, base: float = 0.0
) -> tuple[float, float, float] | None:
    """Return mean and ends of an interval after a change of units; None without a mean."""
    if found is None:
        return None
    low, high = (found.mean if end is None else end for end in (found.low, found.high))
    mean, *ends = (factor * (value - base) for value in (found.mean, low, high))
    return mean, min(ends), max(ends)


def _draw_panels(
    studies: Sequence[ReportedStudy],
    names: Sequence[str],
    values: Sequence[Sequence[tuple[float, float, float] | None]],
    x_label: str,
    name: str,
    title: str,
    note: str,
    zero: bool = False,
) -> Chart | None:
    """Return dots with intervals: a panel per group or metric, a row per method in all of them."""
    rows = [(one, row) for one, row in zip(studies, values, strict=True) if any(row)]
    if not rows:
        return None
    drawn = names[:MAX_PANELS]
    figure, panels = _make_panels([one.short_label for one, _ in rows], len(drawn))
    hints: dict[str, list[str]] = {}
    ends = [end for _, row in rows for value in row[:MAX_PANELS] if value for end in value]
    for number, (panel, of) in enumerate(zip(panels, drawn, strict=True)):
        known = [(i, one, v) for i, (one, row) in enumerate(rows) if (v := row[number]) is not None]
        y = [i for i, _, _ in known]
        means, lows, highs = np.array([value for _, _, value in known]).reshape(-1, 3).T
        if zero:
            panel.axvline(0, color=INK, linewidth=0.8)
        panel.hlines(y, lows, highs, colors=SERIES[0], linewidth=1.1)
        panel.plot(means, y, linestyle="", marker="o", color=SERIES[0], markersize=4,
                   gid=f"dots-{number}")  # fmt: skip
        panel.set_title(shorten_name(of), loc="left", y=1.0)
        hints[f"dots-{number}"] = [
            f"{one.label}, {of}: {v[0]:.4g} [{v[1]:.4g}, {v[2]:.4g}]" for _, one, v in known
        ]
    panels[0].set_xlabel(x_label)
    spread_axis(
        panels[0], "x", ends, studies[0].scale(1.0), most=4
    )  # of all panels, which share it
    for panel in panels[::COLUMNS]:
        panel.set_xlabel(panels[0].get_xlabel(), loc="left")
        panel.xaxis.set_label_coords(0, -0.24 / (ROW_HEIGHT * max(2, len(rows))))
    means_by_name = [
        f"{of}: " + list_words([
            "{} {}".format(one.label, "-" if (v := row[number]) is None else f"{v[0]:.4g}")
            for one, row in rows
        ], 6)
        for number, of in enumerate(drawn[:8])
    ]  # fmt: skip
    if len(drawn) < len(names):
        note += f" The first {len(drawn)} of {len(names)}."
    return Chart(name, title, ". ".join(means_by_name) + ".", figure, hints, note)


def _make_panels(rows: Sequence[str], count: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels with the same axes, in lines, and the panels.

    Args:
        rows: The labels of the vertical axis, at the left of each line.
        count: The number of panels.
    """
    lines, columns = -(-count // COLUMNS), min(count, COLUMNS)
    left = 0.2 + 0.066 * max(map(len, rows))
    pitch = min(MAX_PITCH, (PAGE_WIDTH - left) / COLUMNS)
    width = max(PANEL[0], left + pitch * columns)
    inner = ROW_HEIGHT * max(2, len(rows))
    line_height = HEAD + inner + FOOT
    height = line_height * lines
    figure = Figure(figsize=(width, height), dpi=PIXELS_PER_INCH)
    panels: list[Axes] = []
    for number in range(count):
        line, column = divmod(number, columns)
        bottom = height - line_height * (line + 1) + FOOT
        first = panels[0] if panels else None
        panel = figure.add_axes(
            ((left + pitch * column) / width, bottom / height,
             (pitch - GAP) / width, inner / height), sharex=first, sharey=first,
        )  # fmt: skip
        panel.tick_params(axis="y", length=0, labelleft=column == 0)
        panel.tick_params(grid_clip_on=False)
        panels.append(panel)
    panels[0].set_yticks(range(len(rows)), rows)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    panels[0].xaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
    return figure, panels
