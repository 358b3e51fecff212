"""Task weights, gradient conflicts and gradient norms over the winner's training."""

from collections.abc import Mapping, Sequence

import numpy as np

from core.training.epoch_row import EpochRow
from tuning.reporting.report.chart import Chart, list_words, shorten_name
from tuning.reporting.report.read_studies import ReportedStudy, list_rows
from tuning.reporting.report.style import (
    SERIES,
    add_legend,
    choose_styles,
    make_panel,
    mark_whole_epochs,
)

MAX_LINES = 16  # tasks
WEIGHT_NOTE = "Mean weight of each epoch's steps; thin lines are the lowest and the highest."


def draw_training_signals(one: ReportedStudy) -> list[Chart]:
    """Return the figures of a method's winning trial, or of its first seed; none without data."""
    run = one.study.winner or next(iter(one.study.seeds), None)
    rows = list_rows(run)
    found = [_draw_weights(rows), _draw_conflicts(rows), _draw_norms(rows)]
    return [chart for chart in found if chart is not None]


def _draw_weights(rows: Sequence[EpochRow]) -> Chart | None:
    weighted = [row for row in rows if row.weights]
    names = list(dict.fromkeys(name for row in weighted for name in row.weights or {}))[:MAX_LINES]
    if not names:
        return None
    bands = {
        name: np.array([
            [_read_number((row.weights or {}).get(name), key) for key in ("mean", "min", "max")]
            for row in weighted
        ])
        for name in names
    }  # fmt: skip
    means = {name: band[:, 0] for name, band in bands.items()}
    return _draw_lines(
        "task_weights", "Weights of the losses", "weight of the loss",
        [row.epoch for row in weighted], means, WEIGHT_NOTE,
        {name: band[:, 1:] for name, band in bands.items()},
    )  # fmt: skip


def _draw_conflicts(rows: Sequence[EpochRow]) -> Chart | None:
    shares = [
        (row.epoch, 100 * share)
        for row in rows
        if (share := _read_number(row.conflicts, "negative_cosines")) == share
    ]
    if not shares:
        return None
    figure, axes = make_panel("epoch", "pairs of task gradients in conflict (%)")
    axes.plot(*np.array(shares).T, color=SERIES[0], linewidth=1.4, marker="o", markersize=3)
    axes.set_ylim(bottom=0)
    mark_whole_epochs(axes)
    first, last = shares[0], shares[-1]
    return Chart(
        "gradient_conflicts", "Gradient conflicts",
        f"{first[1]:.3g}% of pairs at epoch {first[0]}, {last[1]:.3g}% at epoch {last[0]}.",
        figure, note="Share of pairs of task gradients whose cosine is negative.",
    )  # fmt: skip


def _draw_norms(rows: Sequence[EpochRow]) -> Chart | None:
    measured = [(row.epoch, row.conflicts.get("norms")) for row in rows if row.conflicts]
    kept = [(epoch, norms) for epoch, norms in measured if isinstance(norms, Mapping)]
    names = list(dict.fromkeys(name for _, norms in kept for name in norms))[:MAX_LINES]
    if not names:
        return None
    lines = {name: np.array([_read_number(norms, name) for _, norms in kept]) for name in names}
    return _draw_lines(
        "gradient_norms", "Norms of task gradients", "mean norm of the gradient",
        [epoch for epoch, _ in kept], lines, "Mean over each epoch's steps.",
    )  # fmt: skip


def _draw_lines(
    name: str,
    title: str,
    y_label: str,
    epochs: Sequence[int],
    lines: Mapping[str, np.ndarray],
    note: str,
    bands: Mapping[str, np.ndarray] | None = None,
) -> Chart:
    figure, axes = make_panel("epoch", y_label)
    styles = choose_styles(len(lines))
    for (task, values), (color, line, marker) in zip(lines.items(), styles, strict=True):
        if bands is not None:
            for edge in bands[task].T:
                axes.plot(epochs, edge, color=color, linestyle=line, linewidth=0.5)
        axes.plot(epochs, values, color=color, linestyle=line, marker=marker, markersize=3,
                  linewidth=1.4, label=shorten_name(task))  # fmt: skip
    mark_whole_epochs(axes)
    add_legend(figure, axes)
    ends = list_words([f"{task} {v[0]:.3g} to {v[-1]:.3g}" for task, v in lines.items()], 8)
    return Chart(name, title, f"From epoch {epochs[0]} to {epochs[-1]}: {ends}.", figure, note=note)


def _read_number(values: Mapping[str, object] | None, name: str) -> float:
    """Return a number of a mapping; NaN where it has none."""
    value = (values or {}).get(name)
    return float(value) if isinstance(value, int | float) else float("nan")
