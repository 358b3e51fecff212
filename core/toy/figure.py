"""The figure of :mod:`core.toy`: a panel per weighting, with its paths over the landscape."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from core.toy.descent import STARTS, Descent, losses, pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 5  # at most
EXTENT = 10.5  # of both axes
COLOURS, FRONT, STUCK = "plasma", "#00a05a", "#d62728"
DRAWN = 1500  # points of a path


def draw(descents: Sequence[Descent], out: Path) -> None:
    """Draw all paths into one file, which is written whole or not at all.

    Args:
        descents: What the weightings did.
        out: The file, whose ending says the format.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(descents))
    rows = math.ceil(len(descents) / columns)
    figure = Figure(figsize=(2.6 * columns + 0.6, 2.75 * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for place, panel in enumerate(grid.flat):
        if place < len(descents):
            _panel(panel, descents[place])
            # The last panel of a column shows the axis: the row below may be incomplete.
            panel.xaxis.set_tick_params(labelbottom=place + columns >= len(descents))
        else:
            panel.set_visible(False)
    figure.supxlabel("$x_1$")
    figure.supylabel("$x_2$")
    _explain(figure, grid)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    figure.savefig(temporary, format=out.suffix[1:], dpi=140)
    temporary.replace(out)


def _panel(panel: "Axes", found: Descent) -> None:
    """Draw one weighting: contours of the losses' sum, the front, and each path by progress."""
    from matplotlib.collections import LineCollection

    axis = np.linspace(-EXTENT, EXTENT, 220)
    plane = torch.from_numpy(np.stack(np.meshgrid(axis, axis), axis=-1))
    # Both objectives on the second one's scale, as the landscape's authors draw them.
    height = (losses(plane) * torch.tensor([10.0, 1.0])).mean(dim=-1).numpy()
    panel.contour(axis, axis, height, levels=18, colors="0.78", linewidths=0.6)
    front = pareto_front()
    panel.plot(*front.T, color=FRONT, linewidth=6, alpha=0.55, solid_capstyle="round", zorder=2)
    for path, reached in zip(found.paths, found.reached, strict=True):
        every = max(1, len(path) // DRAWN)
        points = np.concatenate([path[::every], path[-1:]])
        lines = LineCollection(
            list(np.stack([points[:-1], points[1:]], axis=1)), cmap=COLOURS, linewidth=2, zorder=3
        )
        lines.set_array(np.linspace(0, 1, len(points) - 1))
        panel.add_collection(lines)
        panel.plot(*path[0], marker="o", color="black", markersize=4, zorder=4)
        if reached:
            panel.plot(*path[-1], marker="*", color="white", markeredgecolor="black",
                       markersize=9, zorder=5, clip_on=False)  # fmt: skip
        else:
            panel.plot(*path[-1], marker="X", color=STUCK, markeredgecolor="white",
                       markersize=8, zorder=5)  # fmt: skip
    panel.set(xlim=(-EXTENT, EXTENT), ylim=(-EXTENT, EXTENT), aspect="equal")
    panel.set_xticks([-8, 0, 8])
    panel.set_yticks([-8, 0, 8])
    panel.tick_params(labelsize=8)
    share = f"{found.reached.sum()}/{len(STARTS)}"
    panel.set_title(f"{found.method}  {share}", fontsize=10)


def _explain(figure: "Figure", grid: np.ndarray) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], color="black", marker="o", linestyle="", markersize=4, label="start"),
        Line2D([], [], color="white", marker="*", linestyle="", markersize=9,
               markeredgecolor="black", label="end on the front"),
        Line2D([], [], color=STUCK, marker="X", linestyle="", markersize=8,
               markeredgecolor="white", label="end elsewhere"),
        Line2D([], [], color=FRONT, linewidth=6, alpha=0.55, label="Pareto front"),
        Line2D([], [], color="0.78", linewidth=1, label="sum of the losses, equally scaled"),
    ]  # fmt: skip
    columns = 5 if grid.shape[1] > 3 else 2
    figure.legend(
        handles=marks, loc="outside upper center", ncols=columns, fontsize=9, frameon=False
    )
    bar = figure.colorbar(
        ScalarMappable(cmap=COLOURS), ax=grid, shrink=0.6, aspect=30, pad=0.01, ticks=[0, 1]
    )
    bar.ax.set_yticklabels(["first\nstep", "last\nstep"], fontsize=8)
