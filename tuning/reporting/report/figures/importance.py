"""Importance of hyperparameters, by Optuna, and slices: the value against each of them."""

import warnings
from collections.abc import Mapping

import numpy as np
import optuna

from common.hyperparameters import Hyperparameter, parse_hyperparameter
from tuning.records.run_data import TrialStatus
from tuning.reporting.report.chart import Chart, list_words, shorten_name
from tuning.reporting.report.figures.learning_curves import choose_trials, describe_trial
from tuning.reporting.report.read_studies import ReportedStudy
from tuning.reporting.report.scales import spread_axis
from tuning.reporting.report.style import FAINT, PANEL, SERIES, add_legend, make_panel
from tuning.search.searchers.tpe import make_distribution

MIN_TRIALS = 5  # with a value, from which an importance is computed
MAX_TRIALS = 400  # of the fit; more change little and take long
MAX_BARS = 12
MAX_SLICES = 3
MAX_MARKS = 500
TREES, DEPTH = 10, 5  # of the forest: larger ones change little and take seconds


def read_domains(one: ReportedStudy) -> dict[str, Hyperparameter]:
    """Return the domains that a study searched, by hyperparameter."""
    found = {
        name: parse_hyperparameter(name, text, [])
        for name, text in one.study.context.search_space.items()
    }
    return {name: domain for name, domain in found.items() if domain is not None}


def compute_importances(one: ReportedStudy) -> dict[str, float]:
    """Return the share of variance that each hyperparameter explains, the largest first.

    By Optuna's functional ANOVA (Hutter et al., ICML 2014) over completed and pruned trials.
    Hyperparameters that only some trials have are left out; empty with too few trials.
    """
    domains = read_domains(one)
    trials = [
        (trial, value)
        for trial, value in one.list_values()
        if trial.status != TrialStatus.FAILED and all(
            name not in domains or domains[name].find_broken_rule(given) is None
            for name, given in trial.proposed.items()
        )
    ][:MAX_TRIALS]  # fmt: skip
    if len(trials) < MIN_TRIALS or len({value for _, value in trials}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize" if one.higher_is_better else "minimize")
    for trial, value in trials:
        params = {name: given for name, given in trial.proposed.items() if name in domains}
        study.add_trial(
            optuna.trial.create_trial(
                value=value, params=params,
                distributions={name: make_distribution(domains[name]) for name in params},
            )
        )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of experimental parts, and of constant values
        evaluator = optuna.importance.FanovaImportanceEvaluator(
            n_trees=TREES, max_depth=DEPTH, seed=0
        )
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: share for name, share in found.items() if np.isfinite(share)}


def draw_importances(one: ReportedStudy, importances: Mapping[str, float]) -> Chart | None:
    """Return the importances as bars; None without any."""
    shown = dict(list(importances.items())[:MAX_BARS])
    if not shown:
        return None
    longest = max(len(shorten_name(name)) for name in shown)
    figure, axes = make_panel(
        "share of variance explained", "", (PANEL[0], 0.75 + 0.2 * len(shown)),
        left=0.2 + 0.066 * longest,
    )  # fmt: skip
    axes.barh(range(len(shown)), list(shown.values()), color=SERIES[0], height=0.6)
    for row, share in enumerate(shown.values()):
        axes.text(share, row, f" {share:.2f}", va="center")
    axes.set_yticks(range(len(shown)), [shorten_name(name) for name in shown])
    axes.set_xlim(0, 1.15 * max(*shown.values(), 0.01))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    listed = list_words([f"{name} {share:.2f}" for name, share in shown.items()])
    return Chart(
        "importance", "Importance of hyperparameters", f"{listed}.", figure,
        note=f"Functional ANOVA by Optuna over {min(MAX_TRIALS, len(one.list_values()))} trials; "
        "of few trials it is a hint only.",
    )  # fmt: skip


def draw_slices(one: ReportedStudy, importances: Mapping[str, float]) -> list[Chart]:
    """Return the value of all trials against each of the most important hyperparameters."""
    domains = read_domains(one)
    names = [*importances, *(name for name in domains if name not in importances)][:MAX_SLICES]
    charts = [_draw_slice(one, name, domains[name]) for name in names if name in domains]
    return [chart for chart in charts if chart is not None]


def _draw_slice(one: ReportedStudy, name: str, domain: Hyperparameter) -> Chart | None:
    found = [trial for trial, _ in one.list_values() if name in trial.proposed]
    trials = choose_trials(one, found, MAX_MARKS)
    if len(trials) < 2:
        return None
    figure, axes = make_panel(
        shorten_name(name), one.name_axis(one.metric, "validation"), (PANEL[0], PANEL[1] * 0.85)
    )
    hints = {}
    choices = [str(value) for value in domain.values]
    for label, marker, color, chosen in (
        ("pruned", "x", FAINT, [t for t in trials if t.status == TrialStatus.PRUNED]),
        ("completed", "o", SERIES[0], [t for t in trials if t.status != TrialStatus.PRUNED]),
    ):
        if chosen:
            given = [trial.proposed[name] for trial in chosen]
            x = (
                [float(choices.index(str(v))) if str(v) in choices else np.nan for v in given]
                if domain.kind == "choice"
                else [float(v) for v in given]
            )
            y = [one.get_value(trial) or 0.0 for trial in chosen]
            axes.plot(x, y, linestyle="", marker=marker, color=color, markersize=4, label=label,
                      gid=f"marks-{label}")  # fmt: skip
            hints[f"marks-{label}"] = [describe_trial(one, trial) for trial in chosen]
    if domain.kind == "choice":
        axes.set_xticks(range(len(choices)), [shorten_name(text)[:12] for text in choices])
        axes.set_xlim(-0.5, len(choices) - 0.5)
    elif domain.is_log:
        axes.set_xscale("log")
        axes.minorticks_off()
        ticks = np.geomspace(*domain.bounds, 4)
        axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    values = [one.get_value(trial) or 0.0 for trial in trials]
    spread_axis(axes, "y", values, one.scale(1.0))
    if len(hints) > 1:
        add_legend(figure, axes)
    top = max(trials, key=lambda trial: trial.best.value if trial.best else -np.inf)
    return Chart(
        f"slice_{name}", f"Value against {name}",
        f"{len(trials)} trials; the best has {name}={top.proposed[name]}.", figure, hints,
    )  # fmt: skip
