"""Parallel coordinates: each trial's hyperparameters and value as one line."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.collections import LineCollection

from common.hyperparameters import Scalar
from tuning.reporting.report.chart import Chart, list_words, shorten_name
from tuning.reporting.report.figures.learning_curves import choose_trials, describe_trial
from tuning.reporting.report.read_studies import ReportedStudy
from tuning.reporting.report.style import FAINT, MUTED, PANEL, SERIES, make_panel

MAX_LINES = 200
MAX_AXES = 10
LOG_RATIO = 30  # of the highest to the lowest value, from which an axis is logarithmic
TOP_SHARE = 0.2


@dataclass(frozen=True)
class ParallelAxis:
    """One axis of the figure.

    Args:
        name: The hyperparameter, or the metric.
        positions: The position of each trial from 0 to 1; NaN where it has no value.
        labels: Texts at positions.
    """

    name: str
    positions: tuple[float, ...]
    labels: tuple[tuple[float, str], ...]


def make_axis(name: str, values: Sequence[Scalar | None]) -> ParallelAxis:
    """Return the axis of some values: numbers on a scale, else names in order.

    Args:
        name: Its name.
        values: A value per trial; None where it has none.
    """
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == sum(v is not None for v in values) and len(set(numbers)) > 1:
        low, high = min(numbers), max(numbers)
        is_log = low > 0 and high / low >= LOG_RATIO
        array = np.array([np.nan if v is None else float(v) for v in values])
        ends = np.array([low, high])
        if is_log:
            array, ends = np.log(array), np.log(ends)
        positions = (array - ends[0]) / (ends[1] - ends[0])
        middle = np.exp(ends.mean()) if is_log else ends.mean()
        labels = [(0.0, f"{low:.3g}"), (0.5, f"{middle:.3g}"), (1.0, f"{high:.3g}")]
        return ParallelAxis(name, tuple(map(float, positions)), tuple(labels))
    names = sorted({str(v) for v in values if v is not None})
    places = {
        text: 0.5 if len(names) == 1 else i / (len(names) - 1) for i, text in enumerate(names)
    }
    positions = tuple(float("nan") if v is None else places[str(v)] for v in values)
    return ParallelAxis(
        name, positions, tuple((p, shorten_name(t)[:12]) for t, p in places.items())
    )


def draw_parallel_coordinates(one: ReportedStudy) -> Chart | None:
    """Return the figure of a method's trials; None with fewer than two of them."""
    found = one.list_values()
    trials = choose_trials(one, [trial for trial, _ in found], MAX_LINES)
    names = list(dict.fromkeys(name for trial in trials for name in trial.proposed))[:MAX_AXES]
    if len(trials) < 2 or not names:
        return None
    values = [one.get_value(trial) for trial in trials]
    drawn = [make_axis(name, [trial.proposed.get(name) for trial in trials]) for name in names]
    drawn.append(make_axis(one.metric, values))
    width = max(PANEL[0], 0.95 * len(drawn))
    figure, axes = make_panel("", "", (width, PANEL[1]), left=0.3)
    axes.set_axis_off()
    table = np.array([axis.positions for axis in drawn]).T  # (trials, axes)
    finite = [value for value in values if value is not None]
    ranks = np.argsort(np.argsort(np.array(finite) * (-1 if one.higher_is_better else 1)))
    top = max(1, round(TOP_SHARE * len(trials)))
    kinds = [
        ("others", ranks >= top, FAINT, 0.8, ":"),
        (f"best {TOP_SHARE:.0%}", (ranks < top) & (ranks > 0), MUTED, 1.0, "-"),
        ("best", ranks == 0, SERIES[1], 2.0, "-"),
    ]
    hints: dict[str, list[str]] = {}
    x = np.arange(len(drawn))
    for label, chosen, color, line_width, line in kinds:
        rows = np.flatnonzero(chosen)
        if len(rows):
            name = f"lines-{label.split()[0]}-{len(hints)}"
            lines = [np.column_stack([x, table[row]]) for row in rows]
            axes.add_collection(
                LineCollection(lines, colors=color, linewidths=line_width, linestyles=line,
                               label=label, gid=name)
            )  # fmt: skip
            hints[name] = [describe_trial(one, trials[row]) for row in rows]
    for i, axis in enumerate(drawn):
        axes.axvline(i, ymin=0.085, ymax=0.915, color=MUTED, linewidth=0.8)
        shown = shorten_name(axis.name.replace("_accuracy", ""))[:16]
        axes.text(i, 1.07 if i % 2 == 0 else 1.16, shown, ha="center", va="bottom")
        for place, text in axis.labels:
            axes.text(i + 0.04, place, text, va="center", fontsize=6.5)
    axes.set_xlim(-0.15, len(drawn) - 0.45)
    axes.set_ylim(-0.1, 1.1)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=3)
    box = axes.get_position()
    axes.set_position((box.x0, box.y0, box.width, box.height - 0.08))
    best = trials[int(np.argmin(ranks))]
    return Chart(
        "parallel_coordinates", "Hyperparameters of all trials",
        f"{len(trials)} trials over {list_words(names)}. The best: {describe_trial(one, best)}.",
        figure, hints,
    )  # fmt: skip
