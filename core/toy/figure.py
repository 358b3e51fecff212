"""The figure of :mod:`core.toy`: a panel per weighting, with its paths over the landscape."""

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from common.files import atomic_write
from core.toy.descent import MAX_FRONT_DISTANCE, Descent
from core.toy.landscape import (
    LOSS_SCALES,
    LOSS_SHIFT,
    Array,
    compute_front_distance,
    compute_losses,
    compute_pareto_front,
)

MAX_COLUMNS = 5
AXIS_LIMIT = 10.5
PATH_COLORMAP, FRONT_COLOR, STUCK_COLOR = "plasma", "#00a05a", "#d62728"
MAX_PATH_POINTS = 1500


def draw_figure(
    descents: Sequence[Descent], out: Path, scale: float = LOSS_SCALES[0], in_losses: bool = False
) -> None:
    """Draw all paths into one file, which is written whole or not at all.

    Args:
        descents: The paths of each weighting.
        out: The file, whose ending gives the format.
        scale: Scale of the first loss.
        in_losses: Whether the plane is that of the losses, not of the parameters.
    """
    columns = min(MAX_COLUMNS, len(descents))
    rows = math.ceil(len(descents) / columns)
    figure = Figure(figsize=(2.6 * columns + 0.6, 2.75 * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for number, panel in enumerate(grid.flat):
        if number < len(descents):
            if in_losses:
                _draw_loss_plane(panel, descents[number], scale)
            else:
                _draw_parameter_plane(panel, descents[number])
            # The last panel of a column shows the axis: the row below may be incomplete.
            panel.xaxis.set_tick_params(labelbottom=number + columns >= len(descents))
        else:
            panel.set_visible(False)
    figure.supxlabel("$L_1$" if in_losses else "$x_1$")
    figure.supylabel("$L_2$" if in_losses else "$x_2$")
    _add_legend(figure, grid, in_losses)
    with atomic_write(out) as temporary:
        figure.savefig(temporary, format=out.suffix[1:], dpi=140)


def _draw_parameter_plane(panel: Axes, descent: Descent) -> None:
    """Draw one weighting: contours of the losses' sum, the front, and each path by progress."""
    axis = np.linspace(-AXIS_LIMIT, AXIS_LIMIT, 220)
    plane = torch.from_numpy(np.stack(np.meshgrid(axis, axis), axis=-1))
    # Both objectives on the second one's scale, as the landscape's authors draw them.
    height = (compute_losses(plane) * torch.tensor([10.0, 1.0])).mean(dim=-1).numpy()
    panel.contour(axis, axis, height, levels=18, colors="0.78", linewidths=0.6)
    # Exactly where ends are counted.
    panel.contourf(
        *_measure_front(), levels=[0, MAX_FRONT_DISTANCE], colors=[FRONT_COLOR], alpha=0.55,
        zorder=2,
    )  # fmt: skip
    _draw_paths(panel, descent, list(descent.paths))
    panel.set(xlim=(-AXIS_LIMIT, AXIS_LIMIT), ylim=(-AXIS_LIMIT, AXIS_LIMIT), aspect="equal")
    panel.set_xticks([-8, 0, 8])
    panel.set_yticks([-8, 0, 8])


@cache
def _measure_front() -> tuple[Array, Array, Array]:
    """Return abscissas, ordinates and distances from the front on a grid around it."""
    front = compute_pareto_front()
    low, high = front.min(0) - 2 * MAX_FRONT_DISTANCE, front.max(0) + 2 * MAX_FRONT_DISTANCE
    x1, x2 = np.linspace(low[0], high[0], 400), np.linspace(low[1], high[1], 60)
    return x1, x2, compute_front_distance(np.stack(np.meshgrid(x1, x2), axis=-1))


def _draw_loss_plane(panel: Axes, descent: Descent, scale: float) -> None:
    """Draw one weighting over its losses, without the shift that keeps them positive."""
    shift = np.array([scale, LOSS_SCALES[1]]) * LOSS_SHIFT
    panel.plot(
        *(_to_losses(compute_pareto_front(), scale) - shift).T,
        color=FRONT_COLOR, linewidth=6, alpha=0.55, solid_capstyle="butt", zorder=2,
    )  # fmt: skip
    _draw_paths(panel, descent, [_to_losses(path, scale) - shift for path in descent.paths])
    panel.autoscale()
    panel.set_box_aspect(1)


def _to_losses(points: Array, scale: float) -> Array:
    losses: Array = compute_losses(torch.from_numpy(points), scale).numpy()
    return losses


def _draw_paths(panel: Axes, descent: Descent, paths: Sequence[Array]) -> None:
    """Draw each path by progress, its start, and whether its end is on the front."""
    for path, is_on_front in zip(paths, descent.is_on_front, strict=True):
        stride = max(1, len(path) // MAX_PATH_POINTS)
        points = np.concatenate([path[::stride], path[-1:]])
        segments = list(np.stack([points[:-1], points[1:]], axis=1))
        lines = LineCollection(segments, cmap=PATH_COLORMAP, linewidth=2, zorder=3)
        lines.set_array(np.linspace(0, 1, len(points) - 1))
        panel.add_collection(lines)
        panel.plot(*path[0], marker="o", color="black", markersize=4, zorder=4)
        if is_on_front:
            panel.plot(*path[-1], marker="*", color="white", markeredgecolor="black",
                       markersize=9, zorder=5, clip_on=False)  # fmt: skip
        else:
            panel.plot(*path[-1], marker="X", color=STUCK_COLOR, markeredgecolor="white",
                       markersize=8, zorder=5)  # fmt: skip
    panel.tick_params(labelsize=8)
    reached = f"{descent.is_on_front.sum()}/{len(paths)}"
    name, _, parameters = descent.method.partition(":")
    panel.set_title(" ".join([name, *parameters.split(","), f" {reached}"]), fontsize=10)


def _add_legend(figure: Figure, grid: np.ndarray, in_losses: bool) -> None:
    marks = [
        Line2D([], [], color="black", marker="o", linestyle="", markersize=4, label="start"),
        Line2D([], [], color="white", marker="*", linestyle="", markersize=9,
               markeredgecolor="black", label="end on the front"),
        Line2D([], [], color=STUCK_COLOR, marker="X", linestyle="", markersize=8,
               markeredgecolor="white", label="end elsewhere"),
        Line2D([], [], color=FRONT_COLOR, linewidth=6, alpha=0.55, label="Pareto front"),
        Line2D([], [], color="0.78", linewidth=1, label="sum of the losses, equally scaled"),
    ]  # fmt: skip
    if in_losses:  # without contours
        marks.pop()
    columns = 5 if grid.shape[1] > 3 else 2
    figure.legend(
        handles=marks, loc="outside upper center", ncols=columns, fontsize=9, frameon=False
    )
    bar = figure.colorbar(
        ScalarMappable(cmap=PATH_COLORMAP), ax=grid, shrink=0.6, aspect=30, pad=0.01, ticks=[0, 1]
    )
    bar.ax.set_yticklabels(["first\nstep", "last\nstep"], fontsize=8)
