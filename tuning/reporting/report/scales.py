"""Scales of axes: symmetric logarithmic where a few values would flatten all others."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tuning.reporting.report.style import MAX_TICKS

MAX_RATIO = 10.0  # of the largest to the median absolute value, on a linear axis
MULTIPLES = ((1, 2, 5), (1, 3), (1,))  # of powers of ten, the densest ticks first
WORDS = "symmetric log axis"


def find_linear_end(values: Iterable[float], highest_share: float = 1.0) -> float | None:
    """Return the value up to which a symmetric logarithmic axis is linear; None for a linear one.

    An axis is linear where no value exceeds the median absolute value by far, and for shares, whose
    bounds a reader knows.

    Args:
        values: The values that are drawn; those that are not finite do not count.
        highest_share: The highest value of a share.
    """
    array = np.fromiter(values, dtype=float)
    array = array[np.isfinite(array) & (array != 0)]
    if not len(array) or (array.min() > 0 and array.max() <= highest_share):
        return None
    sizes = np.abs(array)
    middle = float(np.median(sizes))
    if sizes.max() <= MAX_RATIO * middle:
        return None
    return float(10.0 ** np.floor(np.log10(middle)))


def list_ticks(low: float, high: float, linear_end: float, most: int = MAX_TICKS) -> list[float]:
    """Return ticks of a symmetric logarithmic axis: zero, and round numbers on both sides.

    Args:
        low: The lowest value.
        high: The highest value.
        linear_end: The value up to which the axis is linear.
        most: The number of ticks, about.
    """
    decades = np.arange(np.ceil(np.log10(max(abs(low), abs(high), linear_end) / linear_end)) + 1)
    ticks: list[float] = []
    for multiples, stride in [(found, 1) for found in MULTIPLES] + [((1,), 2), ((1,), 3)]:
        sizes = [
            linear_end * multiple * 10.0**decade
            for decade in decades[::stride]
            for multiple in multiples
        ]
        ticks = [t for t in (0.0, *sizes, *(-size for size in sizes)) if low <= t <= high]
        if len(ticks) <= most:
            break
    return sorted(ticks)


def spread_axis(
    axes: Axes,
    name: Literal["x", "y"],
    values: Iterable[float],
    highest_share: float = 1.0,
    most: int = MAX_TICKS,
) -> None:
    """Make an axis symmetric logarithmic where that shows values better, and say so in its label.

    Args:
        axes: The plot.
        name: The axis.
        values: The values that are drawn.
        highest_share: The highest value of a share, where the values are shares.
        most: The number of ticks, about.
    """
    drawn = [value for value in values if np.isfinite(value)]
    end = find_linear_end(drawn, highest_share)
    if end is None:
        return
    axis, set_scale = (axes.xaxis, axes.set_xscale) if name == "x" else (
        axes.yaxis, axes.set_yscale
    )  # fmt: skip
    set_scale("symlog", linthresh=end)
    axis.set_major_locator(FixedLocator(list_ticks(min(0.0, *drawn), max(0.0, *drawn), end, most)))
    axis.set_minor_locator(NullLocator())
    axes.autoscale(axis=name)  # with margins on the new scale
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.10g}"))
    if name == "x":
        axes.set_xlabel(f"{axes.get_xlabel()}, {WORDS}")
    else:  # its label is the title
        axes.set_title(f"{axes.get_title('left')}, {WORDS}", loc="left", y=1.0, fontsize=8)
