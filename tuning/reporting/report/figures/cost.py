"""Device-hours by method and phase, and the slots that were busy."""

from collections.abc import Sequence

import numpy as np

from tuning.reporting.report.chart import Chart, list_words
from tuning.reporting.report.read_studies import BusyTime, ReportedStudy
from tuning.reporting.report.style import (
    HATCHES,
    INK,
    PANEL,
    SERIES,
    SURFACE,
    add_legend,
    make_panel,
)

SECONDS = {"h": 3600.0, "min": 60.0, "s": 1.0}
MAX_GAP_SECONDS = 60.0  # between runs, from which no command ran


def draw_device_hours(studies: Sequence[ReportedStudy]) -> Chart | None:
    """Return the device-hours of search and confirmation of each method; None without any."""
    rows: list[tuple[ReportedStudy, tuple[float, float, float]]] = []
    for one in studies:
        study = one.study
        winning = {id(seed) for seed in study.seeds}
        earlier = [seed for seed in study.recorded_seeds if id(seed) not in winning]
        parts = ((*study.trials, *study.list_further_runs()), study.seeds, earlier)
        search, seeds, rest = (sum(trial.device_hours for trial in part) for part in parts)
        rows.append((one, (search, seeds, rest)))
    if not any(sum(hours) for _, hours in rows):
        return None
    longest = max(len(one.short_label) for one, _ in rows)
    height = 0.7 + 0.2 * len(rows)
    figure, axes = make_panel("device-hours", "", (PANEL[0], height), left=0.2 + 0.066 * longest)
    start = np.zeros(len(rows))
    kinds = ("search", "confirmation", "earlier winners")
    for number, (kind, hatch) in enumerate(zip(kinds, HATCHES, strict=False)):
        values = np.array([hours[number] for _, hours in rows])
        if values.any():
            axes.barh(range(len(rows)), values, left=start, height=0.65, color=SERIES[number],
                      hatch=hatch, edgecolor=SURFACE, linewidth=0.3, label=kind)  # fmt: skip
        start += values
    axes.set_yticks(range(len(rows)), [one.short_label for one, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    add_legend(figure, axes)
    listed = list_words(
        [f"{one.label} {h[0]:.3g} search and {h[1]:.3g} confirmation" for one, h in rows]
    )
    return Chart(
        "device_hours", "Device-hours by method and phase",
        f"{start.sum():.3g} device-hours: {listed}.", figure,
    )  # fmt: skip


def count_busy_slots(busy: Sequence[BusyTime]) -> tuple[np.ndarray, np.ndarray]:
    """Return times, and the number of trials in training from each of them to the next.

    Args:
        busy: The runs.
    """
    changes = sorted([(one.start, 1) for one in busy] + [(one.end, -1) for one in busy])
    times = np.array([time for time, _ in changes])
    return times, np.cumsum([change for _, change in changes])


def measure_idle_share(busy: Sequence[BusyTime], slots: int) -> float | None:
    """Return the share of slot time without training while a command ran; None where unknown.

    Gaps of more than a minute without any run count as between two commands.

    Args:
        busy: The runs.
        slots: The number of slots; 0 where unknown.
    """
    if not busy or not slots:
        return None
    times, counts = count_busy_slots(busy)
    spans = np.diff(times)
    runs = (counts[:-1] > 0) | (spans <= MAX_GAP_SECONDS)
    total = float(spans[runs].sum()) * slots
    used = float((spans * np.minimum(counts[:-1], slots)).sum())
    return None if total <= 0 else max(0.0, 1 - used / total)


def draw_busy_slots(studies: Sequence[ReportedStudy]) -> Chart | None:
    """Return the number of busy slots over time; None where the records do not tell."""
    busy = [time for one in studies for time in one.busy]
    slots = max(one.study.context.slots for one in studies)
    idle = measure_idle_share(busy, slots)
    if idle is None:
        return None
    times, counts = count_busy_slots(busy)
    spans = np.diff(times)
    spans[(counts[:-1] <= 0) & (spans > MAX_GAP_SECONDS)] = 0  # between two commands
    elapsed = np.concatenate([[0.0], np.cumsum(spans)])
    unit, seconds = next(((u, s) for u, s in SECONDS.items() if elapsed[-1] >= 2 * s), ("s", 1.0))
    figure, axes = make_panel(f"time ({unit})", "trials in training", (PANEL[0], PANEL[1] * 0.85))
    bins = np.linspace(0, elapsed[-1], 121)
    edges = np.concatenate([[0.0], np.cumsum(spans * counts[:-1])])
    means = np.diff(np.interp(bins, elapsed, edges)) / max(bins[1], 1e-9)
    axes.stairs(means, bins / seconds, color=SERIES[0], linewidth=1.2)
    axes.axhline(slots, color=INK, linestyle="--", linewidth=1)
    axes.text(elapsed[-1] / seconds, slots, f"{slots} slots", ha="right", va="bottom")
    axes.set_ylim(0, 1.2 * max(slots, float(means.max())))
    return Chart(
        "busy_slots", "Busy slots",
        f"{idle:.0%} of the time of {slots} slots was not spent in epochs.", figure,
        note=f"{idle:.0%} idle: starts, data, proposals and waiting. From the time stamps of the "
        "records, so copied records may show another picture.",
    )  # fmt: skip
