"""The winner's value in the search, on fresh seeds, and on the test split."""

from collections.abc import Sequence

from tuning.reporting.report.chart import Chart
from tuning.reporting.report.read_studies import ReportedStudy
from tuning.reporting.report.scales import spread_axis
from tuning.reporting.report.style import MUTED, PANEL, SERIES, add_legend, make_panel
from tuning.reporting.summary import Summary

KINDS = (
    ("search, validation", "D", SERIES[4]), ("fresh seeds, validation", "o", SERIES[0]),
    ("fresh seeds, test", "s", SERIES[1]),
)  # fmt: skip


def draw_winners_curse(
    studies: Sequence[ReportedStudy], summaries: Sequence[Summary]
) -> Chart | None:
    """Return the three values of each method's winner; None before there are two of them."""
    rows: list[tuple[ReportedStudy, list[float | None]]] = []
    for one, summary in zip(studies, summaries, strict=True):
        winner = one.study.winner
        found = [summary.metrics.get(f"{split}_{one.metric}") for split in ("validation", "test")]
        means = [None if value is None else one.scale(value.mean) for value in found]
        rows.append((one, [None if winner is None else one.get_value(winner), *means]))
    rows = [row for row in rows if sum(value is not None for value in row[1]) > 1]
    if not rows:
        return None
    longest = max(len(one.short_label) for one, _ in rows)
    first = rows[0][0]
    figure, axes = make_panel(
        first.name_axis(first.metric), "", (PANEL[0], 0.7 + 0.22 * len(rows)),
        left=0.2 + 0.066 * longest,
    )  # fmt: skip
    for row, (_, values) in enumerate(rows):
        known = [value for value in values if value is not None]
        axes.plot([min(known), max(known)], [row, row], color=MUTED, linewidth=0.8, zorder=1)
    for number, (kind, marker, color) in enumerate(KINDS):
        points = [
            (value, row)
            for row, (_, all_) in enumerate(rows)
            if (value := all_[number]) is not None
        ]
        if points:
            axes.plot([x for x, _ in points], [y for _, y in points], linestyle="", marker=marker,
                      color=color, markersize=5, label=kind)  # fmt: skip
    axes.set_yticks(range(len(rows)), [one.short_label for one, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    drawn = [value for _, values in rows for value in values if value is not None]
    spread_axis(axes, "x", drawn, first.scale(1.0), most=5)
    add_legend(figure, axes)
    listed = "; ".join(
        f"{one.label}: " + ", ".join(
            f"{kind[0]} {value:.4g}"
            for kind, value in zip(KINDS, values, strict=True) if value is not None
        )
        for one, values in rows
    )  # fmt: skip
    return Chart(
        "winners_curse", "The winner's curse", f"{listed}.", figure,
        note="The value that won the search is the best of many noisy ones, so fresh seeds are "
        "expected to be worse.",
    )  # fmt: skip
