"""A heat map of the winner: the validation metric of each group or task after each epoch."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from core.training.epoch_row import EpochRow
from tuning.reporting.report.chart import Chart, shorten_name
from tuning.reporting.report.figures.group_bars import AGGREGATES
from tuning.reporting.report.read_studies import ReportedStudy, list_rows
from tuning.reporting.report.style import (
    CELL_DARK,
    CELL_LIGHT,
    CELLS,
    COLOR_MAP,
    INK,
    PANEL,
    make_panel,
)
from tuning.reporting.summary import flatten_metrics

MAX_EPOCHS = 60  # columns; of longer runs evenly spaced ones
MAX_ROWS = 40
GROUP = "validation_group_accuracy["


def draw_group_epochs(one: ReportedStudy) -> Chart | None:
    """Return the heat map of a method's winning trial, or of its first seed; None without one."""
    run = one.study.winner or next(iter(one.study.seeds), None)
    rows = list_rows(run)
    if not rows or run is None:
        return None
    kept = np.linspace(0, len(rows) - 1, min(len(rows), MAX_EPOCHS)).round().astype(int)
    shown = [rows[i] for i in kept]
    names, table, words = _read_table(one, shown)
    if not names:
        return None
    longest = max(len(shorten_name(name)) for name in names)
    left = 0.2 + 0.066 * longest
    width = max(PANEL[0], left + 0.9 + 0.12 * len(shown))
    height = 0.75 + max(0.2 * len(names), 0.4)
    figure, axes = make_panel("epoch", words, (width, height), left=left)
    box = axes.get_position()
    axes.set_position((box.x0, box.y0, box.width - 0.5 / width, box.height))
    epochs = np.arange(len(shown) + 1)
    highest = 100 if one.study.context.as_percent else 1
    axes.pcolormesh(
        epochs, np.arange(len(names) + 1), table, cmap=COLOR_MAP, vmin=0, vmax=highest, gid=CELLS
    )
    axes.invert_yaxis()
    axes.grid(False)
    axes.set_yticks(np.arange(len(names)) + 0.5, [shorten_name(name) for name in names])
    stride = max(1, len(shown) // 8)
    ticks = list(range(0, len(shown), stride))
    axes.set_xticks([t + 0.5 for t in ticks], [str(shown[t].epoch) for t in ticks])
    axes.tick_params(length=0)
    best = run.best.epoch if run.best is not None else None
    if best in (epochs_shown := [row.epoch for row in shown]):
        axes.axvline(epochs_shown.index(best) + 0.5, color=CELL_LIGHT, linewidth=2.2)
        axes.axvline(epochs_shown.index(best) + 0.5, color=CELL_DARK, linewidth=1, linestyle="--")
    _add_scale(figure, highest, width, height)
    hints = {CELLS: [
        f"{name}, epoch {row.epoch}: {value:.4g}"
        for name, line in zip(names, table, strict=True)
        for row, value in zip(shown, line, strict=True)
    ]}  # fmt: skip
    kind = "Groups" if one.study.context.as_percent else "Metrics"
    return Chart(
        "group_epochs", f"{kind} by epoch of the winner",
        describe_collapse(names, table, [row.epoch for row in shown]), figure, hints,
        f"{'Trial' if one.study.winner else 'Seed'} {run.number}, first training seed."
        + (f" Dashed: the selected epoch {best}." if best else ""),
    )  # fmt: skip


def describe_collapse(names: Sequence[str], table: np.ndarray, epochs: Sequence[int]) -> str:
    """Return a sentence per group: its first, highest and last value, with the epochs.

    Args:
        names: The groups.
        table: The values, shape (groups, epochs).
        epochs: The numbers of the epochs.
    """
    sentences = []
    for name, line in list(zip(names, table, strict=True))[:12]:
        if np.isfinite(line).any():
            top = int(np.nanargmax(line))
            sentences.append(
                f"{name}: {line[0]:.3g} at epoch {epochs[0]}, highest {line[top]:.3g} at epoch "
                f"{epochs[top]}, {line[-1]:.3g} at epoch {epochs[-1]}."
            )
    return " ".join(sentences)


def _read_table(one: ReportedStudy, rows: Sequence[EpochRow]) -> tuple[list[str], np.ndarray, str]:
    """Return the names of groups or metrics, their values, shape (names, epochs), and a title."""
    context = one.study.context
    flat: list[Mapping[str, float | None]] = [
        flatten_metrics("validation", row.validation, context) for row in rows
    ]
    groups = [name for name in flat[0] if name.startswith(GROUP)]
    if groups:
        table = [[_scale_value(row.get(name), 100.0) for row in flat] for name in groups]
        names = [name.removeprefix(GROUP).removesuffix("]") for name in groups]
        return names[:MAX_ROWS], np.array(table[:MAX_ROWS]), "validation accuracy of each group (%)"
    metrics = [
        name for name in context.higher_is_better
        if name not in AGGREGATES and f"validation_{name}" in flat[0] and not context.as_percent
    ][:MAX_ROWS]  # fmt: skip
    lines = []
    for name in metrics:
        line = np.array([_scale_value(row.get(f"validation_{name}"), 1.0) for row in flat])
        low, high = np.nanmin(line), np.nanmax(line)
        share = (line - low) / (high - low) if high > low else np.zeros(len(line))
        lines.append(share if context.higher_is_better[name] else 1 - share)
    return metrics, np.array(lines), "validation metric: 0 worst epoch, 1 best epoch"


def _scale_value(value: float | None, factor: float) -> float:
    return float("nan") if value is None else factor * value


def _add_scale(figure: Figure, high: float, width: float, height: float) -> None:
    """Draw the scale of colors as a few cells, small in an SVG file."""
    axes = figure.add_axes((1 - 0.5 / width, 0.42 / height, 0.12 / width, (height - 0.69) / height))
    low = 0.0
    steps = np.linspace(low, high, 13)
    axes.pcolormesh([0, 1], steps, (steps[:-1, None] + steps[1:, None]) / 2, cmap=COLOR_MAP,
                    vmin=low, vmax=high, gid=CELLS)  # fmt: skip
    axes.grid(False)
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.set_yticks([low, high], [f"{low:.3g}", f"{high:.3g}"])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelcolor=INK)
