"""Learning curves of a method's trials: pruned ones faint, the winner strong."""

from collections.abc import Sequence

import numpy as np
from matplotlib.collections import LineCollection

from core.training.selection import Score
from tuning.records.run_data import TrialStatus
from tuning.reporting.recorded_study import RecordedTrial
from tuning.reporting.report.chart import Chart
from tuning.reporting.report.read_studies import ReportedStudy
from tuning.reporting.report.scales import spread_axis
from tuning.reporting.report.style import (
    FAINT,
    MUTED,
    SERIES,
    add_legend,
    make_panel,
    mark_whole_epochs,
)

MAX_CURVES = 150  # of a method; the best ones and evenly spaced others
MAX_POINTS = 100  # of a curve


def draw_learning_curves(one: ReportedStudy) -> Chart | None:
    """Return the selection metric of each trial after each eligible epoch; None without any."""
    trials = [trial for trial in one.study.trials if any(trial.scores)]
    shown = choose_trials(one, trials, MAX_CURVES)
    if not shown:
        return None
    figure, axes = make_panel("epoch", one.name_axis(one.metric, "validation"))
    winner = one.study.winner
    kinds = [
        ("pruned", FAINT, ":", 0.7, [t for t in shown if t.status == TrialStatus.PRUNED]),
        ("other trials", MUTED, "-", 0.8,
         [t for t in shown if t.status != TrialStatus.PRUNED and t is not winner]),
        ("winner", SERIES[0], "-", 2.0, [t for t in shown if t is winner]),
    ]  # fmt: skip
    hints = {}
    for label, color, line, width, chosen in kinds:
        if chosen:
            name = f"curves-{label.replace(' ', '-')}"
            axes.add_collection(
                LineCollection([_make_curve(one, trial.scores) for trial in chosen], colors=color,
                               linewidths=width, linestyles=line, label=label, gid=name)
            )  # fmt: skip
            hints[name] = [describe_trial(one, trial) for trial in chosen]
            points = [c[0] for trial in chosen if len(c := _make_curve(one, trial.scores)) == 1]
            if points:
                axes.plot(*np.array(points).T, linestyle="", marker="o", color=color, markersize=3)
    drawn = [value for trial in shown for value in _make_curve(one, trial.scores)[:, 1]]
    spread_axis(axes, "y", drawn, one.scale(1.0))
    axes.autoscale()
    mark_whole_epochs(axes)
    add_legend(figure, axes)
    pruned = sum(trial.status == TrialStatus.PRUNED for trial in one.study.trials)
    part = "" if len(shown) == len(trials) else f" Drawn: {len(shown)} of {len(trials)} trials."
    best = None if winner is None else one.get_value(winner)
    described = "" if best is None or winner is None else (
        f"The winner, trial {winner.number}, has its best value {best:.4g} at epoch "
        f"{winner.best.epoch if winner.best else 0}. "
    )  # fmt: skip
    return Chart(
        "learning_curves", "Learning curves",
        f"{described}{len(trials)} trials have a value; {pruned} were pruned.", figure, hints,
        f"Mean over training seeds.{part}",
    )  # fmt: skip


def choose_trials(
    one: ReportedStudy, trials: Sequence[RecordedTrial], most: int
) -> list[RecordedTrial]:
    """Return trials to draw: all, or the best half and evenly spaced others.

    Args:
        one: The study.
        trials: Trials with a value.
        most: The number of trials.
    """
    if len(trials) <= most:
        return list(trials)
    ordered = sorted(
        (trial for trial in trials if trial.best is not None),
        key=lambda trial: trial.best.value if trial.best else 0.0, reverse=True,
    )  # fmt: skip
    rest = ordered[most // 2 :]
    spaced = [rest[i] for i in np.linspace(0, len(rest) - 1, most - most // 2).astype(int)]
    return [*ordered[: most // 2], *spaced]


def describe_trial(one: ReportedStudy, trial: RecordedTrial) -> str:
    """Return the text that a trial's mark shows: its value and hyperparameters."""
    value = one.get_value(trial)
    words = ", ".join(
        f"{name}={v:.4g}" if isinstance(v, float) else f"{name}={v}"
        for name, v in trial.proposed.items()
    )
    shown = "-" if value is None else f"{value:.4g}"
    return f"trial {trial.number}, {trial.status.replace('_', ' ')}: {shown}; {words}"


def _make_curve(one: ReportedStudy, scores: Sequence[Score | None]) -> np.ndarray:
    """Return epochs and values of a curve, shape (points, 2)."""
    found = [
        (score.epoch, one.scale(one.study.rule.read_metric(score) or 0.0))
        for score in scores
        if score is not None
    ]
    points = np.array(found, dtype=float)
    if len(points) > MAX_POINTS:
        points = points[np.linspace(0, len(points) - 1, MAX_POINTS).round().astype(int)]
    return points
