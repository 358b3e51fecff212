"""Test metrics of each group, or changes of each task's metrics, with intervals over seeds."""

from collections.abc import Sequence

import numpy as np

from datasets.multitask.base import BASELINES
from datasets.multitask.baseline import Baseline
from tuning.records.export_context import BaselineSource
from tuning.reporting.intervals import SeedStatistics
from tuning.reporting.report.chart import Chart, list_words, shorten_name
from tuning.reporting.report.read_studies import ReportedStudy
from tuning.reporting.report.style import INK, PANEL, add_legend, choose_styles, make_panel
from tuning.reporting.summary import Summary

GROUP_METRIC = "test_group_accuracy["
AGGREGATES = ("delta_m", "worst_task_delta", "mean_f1", "success", "worst_task_success")
MAX_BARS = 40
ROW_HEIGHT = 0.15  # inches, of a method in a group


def draw_group_bars(studies: Sequence[ReportedStudy], summaries: Sequence[Summary]) -> Chart | None:
    """Return the test accuracy of each group and method; None without groups or results."""
    names = list(
        dict.fromkeys(n for s in summaries for n in s.metrics if n.startswith(GROUP_METRIC))
    )
    if not names:
        return None
    groups = {name.removeprefix(GROUP_METRIC).removesuffix("]"): name for name in names[:MAX_BARS]}
    values = [
        [_scale_interval(summary.metrics.get(name), 100.0) for name in groups.values()]
        for summary in summaries
    ]
    return _draw_dots(
        studies, list(groups), values, "test accuracy (%)", "group_accuracy",
        "Test accuracy of each group", "Mean and 95% interval over confirmation seeds.",
    )  # fmt: skip


def draw_task_deltas(
    studies: Sequence[ReportedStudy], summaries: Sequence[Summary]
) -> Chart | None:
    """Return the change of each task's metrics in percent; None without tasks or results."""
    context = studies[0].study.context
    names = [name for name in context.higher_is_better if name not in AGGREGATES][:MAX_BARS]
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
    return _draw_dots(
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


def _draw_dots(
    studies: Sequence[ReportedStudy],
    names: Sequence[str],
    values: Sequence[Sequence[tuple[float, float, float] | None]],
    x_label: str,
    name: str,
    title: str,
    note: str,
    zero: bool = False,
) -> Chart | None:
    """Return dots with intervals: a band per group or metric, a line per method in it."""
    step = ROW_HEIGHT * max(1, len(studies))
    height = 0.69 + (step + 0.14) * len(names)
    longest = max(len(shorten_name(one)) for one in names)
    figure, axes = make_panel(x_label, "", (PANEL[0], height), left=0.2 + 0.066 * longest)
    hints = {}
    offsets = (np.arange(len(studies)) - (len(studies) - 1) / 2) * (step / (step + 0.14))
    offsets = offsets / max(1, len(studies))
    for number, (one, row, (color, _, marker)) in enumerate(
        zip(studies, values, choose_styles(len(studies)), strict=True)
    ):
        own = [(i, value) for i, value in enumerate(row) if value is not None]
        if not own:
            continue
        y = [i + offsets[number] for i, _ in own]
        means, lows, highs = (np.array([value[k] for _, value in own]) for k in range(3))
        axes.hlines(y, lows, highs, colors=color, linewidth=1.1)
        axes.plot(means, y, linestyle="", marker=marker, color=color, markersize=4,
                  label=one.short_label, gid=f"dots-{number}")  # fmt: skip
        hints[f"dots-{number}"] = [
            f"{one.label}, {names[i]}: {v[0]:.4g} [{v[1]:.4g}, {v[2]:.4g}]" for i, v in own
        ]
    if not hints:
        return None
    if zero:
        axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(names)), [shorten_name(one) for one in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    for edge in range(1, len(names)):
        axes.axhline(edge - 0.5, color=axes.spines.left.get_edgecolor(), linewidth=0.4)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    add_legend(figure, axes)
    means_by_name = [
        f"{names[i]}: " + list_words([
            f"{one.label} {row[i][0]:.4g}" if row[i] else f"{one.label} -"  # type: ignore[index]
            for one, row in zip(studies, values, strict=True)
        ], 6)
        for i in range(min(len(names), 8))
    ]  # fmt: skip
    return Chart(name, title, ". ".join(means_by_name) + ".", figure, hints, note)
