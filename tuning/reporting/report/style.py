"""The style of all figures: colors that a page replaces by its own, line styles, sizes.

Series are told apart by color, line style and marker, so that a gray print is readable too. The
colors have a contrast of at least 3 on white; :file:`style.css` holds those of dark pages, by the
names in :data:`ROLES`.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import LineStyleType, RcKeyType

INK, MUTED, GRID, FAINT, SURFACE = "#1b1f24", "#57606a", "#d5dbe1", "#8a939c", "#ffffff"
# Paul Tol's schemes, without their light colors.
SERIES = ("#3568a3", "#bb3311", "#1b7a37", "#8e2f77", "#8a6100", "#00797f", "#5b4fc4", "#4d4d4d")
LINE_STYLES: tuple[LineStyleType, ...] = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
# One more than colors, so that a color has another marker when it comes again.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")
HATCHES = ("", "////", "....", "xxxx")
# Numbers in cells of a heat map keep these, since the map does not change with the page.
CELL_LIGHT, CELL_DARK = "#fefefe", "#010101"
CELLS = "cells"  # the group id of a heat map
COLOR_MAP = "cividis"  # readable with any color vision, and monotone in gray

ROLES = {
    INK: "ink", MUTED: "muted", GRID: "grid", FAINT: "faint", SURFACE: "surface",
    **{color: f"series-{number}" for number, color in enumerate(SERIES)},
}  # fmt: skip

PANEL, TALL_PANEL = (3.5, 2.4), (3.5, 3.0)  # inches: a panel fits a phone
PIXELS_PER_INCH = 100
# Sizes of a legend: pixels of a handle with its gaps and of a character, inches of a row.
LEGEND_HANDLE, LEGEND_CHARACTER, LEGEND_ROW = 40.0, 5.4, 0.13
MAX_LEGEND_COLUMNS = 3
MAX_TICKS = 6  # of an axis
STEPS = (1, 2, 2.5, 5, 10)  # between ticks, times a power of ten
SETTINGS: dict[RcKeyType, object] = {
    "font.family": ["DejaVu Sans"], "font.size": 8.0, "axes.titlesize": 8.0,
    "text.parse_math": False,  # names may contain dollar signs
    "text.color": INK, "axes.labelcolor": INK, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.edgecolor": MUTED, "xtick.color": MUTED, "ytick.color": MUTED, "axes.linewidth": 0.7,
    "axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none",
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": GRID, "grid.linewidth": 0.6,
    "xtick.major.size": 2.5, "ytick.major.size": 2.5, "xtick.major.width": 0.7,
    "ytick.major.width": 0.7, "xtick.minor.visible": False, "ytick.minor.visible": False,
    "hatch.linewidth": 0.6,
    "legend.frameon": False, "legend.fontsize": 7.0, "legend.handlelength": 2.2,
    "svg.fonttype": "none", "svg.hashsalt": "evenhand", "pdf.fonttype": 42,
    "path.simplify_threshold": 0.5,
}  # fmt: skip


@contextmanager
def apply_style() -> Iterator[None]:
    """Draw and save figures in this style within the block."""
    with mpl.rc_context(SETTINGS), warnings.catch_warnings():
        # Of names in scripts that the measuring font lacks; browsers have their own.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        warnings.filterwarnings("ignore", message=".*Tight layout not applied.*")
        yield


def make_panel(
    x_label: str, y_label: str, size: tuple[float, float] = PANEL, left: float = 0.6
) -> tuple[Figure, Axes]:
    """Return a figure with one plot.

    Args:
        x_label: The label of its horizontal axis.
        y_label: The label of its vertical axis, printed above it, where it is read without
            turning the head.
        size: Width and height in inches.
        left: Margin for the labels of the vertical axis, in inches.
    """
    width, height = size
    figure = Figure(figsize=size, dpi=PIXELS_PER_INCH)
    bottom, top, right = 0.42, 0.27, 0.12
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width,
         (height - bottom - top) / height)
    )  # fmt: skip
    axes.tick_params(grid_clip_on=False)  # lines end at the axes, and a file is smaller
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(MAX_TICKS, steps=STEPS))
    # Fixed places: matplotlib would measure all texts to find them.
    axes.set_xlabel(x_label)
    axes.xaxis.set_label_coords(0.5, -0.24 / (height - bottom - top))
    axes.yaxis.set_label_coords(0, 0.5)
    axes.set_title(y_label, loc="left", x=(0.08 - left) / (width - left - right), y=1.0, fontsize=8)
    return figure, axes


def add_legend(figure: Figure, axes: Axes) -> None:
    """Put the legend above the plot, in as many columns as fit, and make the figure as much taller.

    Args:
        figure: The figure.
        axes: The plot, whose labeled artists the legend has.
    """
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    width, height = figure.get_size_inches()
    longest = max(map(len, labels))
    fitting = int(width * PIXELS_PER_INCH // (LEGEND_HANDLE + LEGEND_CHARACTER * longest))
    columns = max(1, min(MAX_LEGEND_COLUMNS, fitting))
    rows = -(-len(labels) // columns)
    taller = height + LEGEND_ROW * rows + 0.05
    for panel in figure.axes:
        box = panel.get_position()
        scale = height / taller
        panel.set_position((box.x0, box.y0 * scale, box.width, box.height * scale))
    figure.set_figheight(taller)
    figure.legend(
        handles, labels, loc="upper left", ncols=columns, bbox_to_anchor=(0, 1),
        borderaxespad=0.2, columnspacing=1.0, handletextpad=0.5, labelspacing=0.3,
    )  # fmt: skip


def mark_whole_epochs(axes: Axes) -> None:
    """Set the ticks of a horizontal axis at whole numbers."""
    axes.xaxis.set_major_locator(MaxNLocator(MAX_TICKS, steps=STEPS, integer=True, min_n_ticks=1))


def choose_styles(count: int) -> list[tuple[str, LineStyleType, str]]:
    """Return color, line style and marker of each of several series.

    No two of up to 40 have the same line style and marker, or the same color and marker.
    """
    colors, markers = cycle(SERIES), cycle(MARKERS)
    return [
        (color, LINE_STYLES[number // len(SERIES) % len(LINE_STYLES)], marker)
        for number, (color, marker) in enumerate(zip(islice(colors, count), markers, strict=False))
    ]
