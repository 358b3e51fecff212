"""Worst-group against average performance of all trials, with the Pareto front."""

from collections.abc import Mapping, Sequence

import numpy as np

from tuning.reporting.recorded_study import RecordedTrial
from tuning.reporting.report.chart import Chart
from tuning.reporting.report.figures.learning_curves import choose_trials, describe_trial
from tuning.reporting.report.read_studies import ReportedStudy
from tuning.reporting.report.scales import spread_axis
from tuning.reporting.report.style import INK, TALL_PANEL, add_legend, choose_styles, make_panel

# The worst and the average of groups, tasks and environments.
PAIRS = (
    ("average_accuracy", "worst_group_accuracy"),
    ("delta_m", "worst_task_delta"),
    ("mean_f1", "worst_task_delta"),
    ("success", "worst_task_success"),
)
MAX_MARKS = 3000
Point = tuple[float, float]


def find_front(points: Sequence[Point], x_up: bool, y_up: bool) -> list[int]:
    """Return the points that no other one exceeds in both values, by the first value.

    Args:
        points: Pairs of values.
        x_up: Whether a higher first value is better.
        y_up: The same of the second.
    """
    ordered = sorted(
        range(len(points)),
        key=lambda i: (points[i][0] * (-1 if x_up else 1), points[i][1] * (-1 if y_up else 1)),
    )
    front: list[int] = []
    for i in ordered:
        if not front or (points[i][1] - points[front[-1]][1]) * (1 if y_up else -1) > 0:
            front.append(i)
    return front


def draw_pareto_front(studies: Sequence[ReportedStudy]) -> Chart | None:
    """Return the worst group or task against the average, of each trial's best epoch."""
    context = studies[0].study.context
    pair = next((p for p in PAIRS if all(name in context.higher_is_better for name in p)), None)
    if pair is None:
        return None
    first, (x_name, y_name) = studies[0], pair
    found = [
        (one, trial, point)
        for one in studies
        for trial in choose_trials(
            one, [trial for trial, _ in one.list_values()], MAX_MARKS // len(studies)
        )
        if (point := _read_point(one, trial, x_name, y_name)) is not None
    ]
    if not found:
        return None
    figure, axes = make_panel(
        first.name_axis(x_name, "validation"), first.name_axis(y_name, "validation"),
        TALL_PANEL,
    )  # fmt: skip
    hints: dict[str, list[str]] = {}
    for number, (one, (color, _, marker)) in enumerate(
        zip(studies, choose_styles(len(studies)), strict=True)
    ):
        own = [(trial, point) for other, trial, point in found if other is one]
        if own:
            name = f"trials-{number}"
            axes.plot(*np.array([point for _, point in own]).T, linestyle="", marker=marker,
                      color=color, markersize=4, markeredgewidth=0, label=one.short_label,
                      gid=name)  # fmt: skip
            hints[name] = [f"{one.label}, {describe_trial(one, trial)}" for trial, _ in own]
    points = [point for _, _, point in found]
    x_up, y_up = context.higher_is_better[x_name], context.higher_is_better[y_name]
    front = [points[i] for i in find_front(points, x_up, y_up)]
    axes.step(*np.array(front).T, where="pre" if x_up == y_up else "post", color=INK,
              linewidth=1.1, marker="o", markersize=7, markerfacecolor="none",
              label="Pareto front", zorder=1)  # fmt: skip
    spread_axis(axes, "x", (x for x, _ in points), first.scale(1.0), most=5)
    spread_axis(axes, "y", (y for _, y in points), first.scale(1.0))
    add_legend(figure, axes)
    ends = [front[0], front[-1]]
    x_words, y_words = (name.replace("_", " ") for name in pair)
    return Chart(
        "pareto_front", f"{y_words.capitalize()} against {x_words} of all trials",
        f"{len(found)} trials, {len(front)} on the Pareto front, from {x_words} {ends[0][0]:.4g} "
        f"with {y_words} {ends[0][1]:.4g} to {ends[1][0]:.4g} with {ends[1][1]:.4g}.",
        figure, hints, "A mark per trial, at its selected epoch.",
    )  # fmt: skip


def _read_point(one: ReportedStudy, trial: RecordedTrial, x_name: str, y_name: str) -> Point | None:
    """Return two metrics at the selected epoch, averaged over training seeds."""
    if trial.best is None:
        return None
    rows: list[Mapping[str, object]] = [
        curve[trial.best.epoch - 1].validation for curve in trial.curves
    ]
    values = [[row.get(name) for row in rows] for name in (x_name, y_name)]
    numbers = [[float(v) for v in of if isinstance(v, int | float)] for of in values]
    if any(len(of) < len(rows) for of in numbers):
        return None
    x, y = (one.scale(sum(of) / len(of)) for of in numbers)
    return (x, y) if np.isfinite([x, y]).all() else None
