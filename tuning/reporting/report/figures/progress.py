"""Best validation value against the cost so far, with the expectation of a random search."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tuning.reporting.recorded_study import RecordedTrial
from tuning.reporting.report.chart import Chart, list_words
from tuning.reporting.report.read_studies import ReportedStudy
from tuning.reporting.report.scales import spread_axis
from tuning.reporting.report.style import (
    MUTED,
    SERIES,
    TALL_PANEL,
    add_legend,
    choose_styles,
    make_panel,
)

MIN_EXPECTED = 3  # trials with a value, of an expectation
MAX_POINTS = 300  # of a line


@dataclass(frozen=True)
class Cost:
    """A measure of a search's cost.

    Args:
        name: Its name and unit.
        measure: Returns the cost of a trial.
    """

    name: str
    measure: Callable[[RecordedTrial], float]


EPOCHS = Cost("epochs", lambda trial: float(trial.epochs))
DEVICE_HOURS = Cost("device-hours", lambda trial: trial.device_hours)
NOTE = (
    "Trials count in the order of their numbers, each with the cost of its recorded epochs. "
    "Dashed: the expected best of as many trials drawn at random from the same records, at their "
    "mean cost."
)


def trace_progress(one: ReportedStudy, cost: Cost) -> tuple[list[float], list[float]]:
    """Return the cost after each trial, and the best value so far; trials without a value add cost.

    Args:
        one: The study.
        cost: The measure of cost.
    """
    pick: Callable[[float, float], float] = max if one.higher_is_better else min
    costs, values = [0.0], [math.nan]
    for trial in one.study.trials:
        value = one.get_value(trial)
        costs.append(costs[-1] + cost.measure(trial))
        if value is None:
            values.append(values[-1])
        else:
            values.append(value if math.isnan(values[-1]) else pick(values[-1], value))
    return costs, values


def expect_random_best(values: Sequence[float], higher_is_better: bool = True) -> list[float]:
    """Return the expected best of 1, 2, ... values drawn without replacement.

    The k-th expectation weighs each value by the share of subsets of size k whose best it is.

    Args:
        values: The values.
        higher_is_better: Their direction.
    """
    best_first = np.sort(np.asarray(values, dtype=float))[:: -1 if higher_is_better else 1]
    n = len(best_first)
    worse = np.arange(n - 1, 0, -1)  # the values after each but the last
    expected = []
    for k in range(1, n + 1):
        # The share of subsets whose best is the first value, and the factor to each next share.
        factors = np.clip((worse - k + 1) / worse, 0, None)
        shares = k / n * np.concatenate([[1.0], np.cumprod(factors)])
        expected.append(float(shares @ best_first))
    return expected


def draw_progress(one: ReportedStudy, cost: Cost) -> Chart | None:
    """Return the best value against the cost of one method; None without values."""
    costs, values = trace_progress(one, cost)
    found = [value for _, value in one.list_values()]
    if not found:
        return None
    figure, axes = make_panel(cost.name, f"best {one.name_axis(one.metric, 'validation')}")
    axes.step(*_thin_out(costs, values), where="post", color=SERIES[0], linewidth=1.6,
              label="this search")  # fmt: skip
    expected: list[float] = []
    if len(found) >= MIN_EXPECTED:
        expected = expect_random_best(found, one.higher_is_better)
        mean = costs[-1] / max(1, len(one.study.trials))
        steps = [mean * k for k in range(1, len(expected) + 1)]
        axes.plot(*_thin_out(steps, expected), color=MUTED, linestyle="--", linewidth=1.2,
                  label="random order, expected")  # fmt: skip
    spread_axis(axes, "y", (*values, *expected), one.scale(1.0))
    add_legend(figure, axes)
    axes.set_xlim(left=0)
    best = values[-1]
    description = (
        f"{one.label} reaches {best:.4g} after {costs[-1]:.4g} {cost.name} and "
        f"{len(one.study.trials)} trials; {len(found)} trials have a value."
    )
    kind = cost.name.replace("-", "_")
    return Chart(
        f"progress_{kind}", f"Best value against {cost.name}", description, figure,
        note=NOTE if cost is EPOCHS else "",
    )  # fmt: skip


def draw_all_progress(studies: Sequence[ReportedStudy], cost: Cost) -> Chart | None:
    """Return the best value against the cost of all methods; None without values."""
    drawn = [(one, *trace_progress(one, cost)) for one in studies if one.list_values()]
    if not drawn:
        return None
    first = drawn[0][0]
    figure, axes = make_panel(
        cost.name, f"best {first.name_axis(first.metric, 'validation')}", TALL_PANEL
    )
    styles = choose_styles(len(drawn))
    hints: dict[str, list[str]] = {}
    for (one, costs, values), (color, line, marker) in zip(drawn, styles, strict=True):
        x, y = _thin_out(costs, values)
        axes.step(x, y, where="post", color=color, linestyle=line, linewidth=1.4, marker=marker,
                  markersize=4, markevery=[len(x) - 1], label=one.short_label,
                  gid=f"line-{len(hints)}")  # fmt: skip
        hints[f"line-{len(hints)}"] = [f"{one.label}: {values[-1]:.4g}"] * 2
    ends = (value for _, _, values in drawn for value in values)
    spread_axis(axes, "y", ends, first.scale(1.0))
    add_legend(figure, axes)
    axes.set_xlim(left=0)
    ordered = sorted(drawn, key=lambda item: item[2][-1], reverse=first.higher_is_better)
    listed = list_words([f"{one.label} {values[-1]:.4g}" for one, _, values in ordered])
    kind = cost.name.replace("-", "_")
    return Chart(
        f"progress_{kind}", f"Best validation value against {cost.name}",
        f"Final best values: {listed}.", figure, hints,
    )  # fmt: skip


def _thin_out(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return a line with fewer points, its ends included."""
    if len(x) <= MAX_POINTS:
        return list(x), list(y)
    kept = np.linspace(0, len(x) - 1, MAX_POINTS).round().astype(int)
    return [x[i] for i in kept], [y[i] for i in kept]
