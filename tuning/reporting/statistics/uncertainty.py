"""The parts of a result's uncertainty: training seed, finite group, choice of configuration."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from core.training.selection import Rule
from tuning.reporting.intervals import CONFIDENCE, SeedStatistics
from tuning.reporting.recorded_study import RecordedStudy, RecordedTrial
from tuning.selection import compute_margin

ACCURACY, COUNT = "group_accuracy[", "group_count["


@dataclass(frozen=True)
class GroupUncertainty:
    """The accuracy of a group, and how well its size determines it.

    Args:
        name: The group.
        accuracy: The mean accuracy over seeds.
        count: The number of its examples.
        standard_error: Binomial standard error of the accuracy, sqrt(p (1 - p) / count).
        low: Lower end of the 95% interval of Wilson (1927).
        high: Upper end.
    """

    name: str
    accuracy: float
    count: int
    standard_error: float
    low: float
    high: float


@dataclass(frozen=True)
class UncertaintyParts:
    """Standard errors of a mean test metric by source; their squares add up.

    Args:
        metric: The metric.
        seed: Of the training seed: standard deviation over seeds by sqrt(n); None with one seed.
        group: Of the finite group that is worst: binomial, which is an upper bound, since seeds
            classify the same examples; None for other metrics than the worst group's.
        configuration: Of the choice of configuration: the standard deviation of the value, on other
            search seeds, of the configuration that each search seed alone would choose, beyond that
            of a fixed configuration; None with one search seed.
        total: The root of the sum of the squares of those that are known.
        unknown: A line for each part that the records do not tell, with the reason.
    """

    metric: str
    seed: float | None
    group: float | None
    configuration: float | None
    total: float
    unknown: tuple[str, ...]


def list_group_uncertainties(
    metrics: Mapping[str, SeedStatistics], split: str = "test"
) -> list[GroupUncertainty]:
    """Return the accuracy of each group with its standard error and interval.

    Args:
        metrics: The statistics of ``<split>_<metric>``, such as those of a summary.
        split: The split.
    """
    found = []
    for name, accuracy in metrics.items():
        if not name.startswith(f"{split}_{ACCURACY}"):
            continue
        group = name.removeprefix(f"{split}_{ACCURACY}").removesuffix("]")
        size = metrics.get(f"{split}_{COUNT}{group}]")
        if size is not None and size.mean > 0:
            found.append(describe_group(group, accuracy.mean, round(size.mean)))
    return found


def describe_group(name: str, accuracy: float, count: int) -> GroupUncertainty:
    """Return a group's accuracy with its binomial standard error and Wilson's interval."""
    z = float(ndtri((1 + CONFIDENCE) / 2))
    shrunk = 1 + z**2 / count
    center = (accuracy + z**2 / (2 * count)) / shrunk
    half = z / shrunk * math.sqrt(accuracy * (1 - accuracy) / count + (z / (2 * count)) ** 2)
    error = math.sqrt(accuracy * (1 - accuracy) / count)
    low, high = max(0.0, min(center - half, accuracy)), min(1.0, max(center + half, accuracy))
    return GroupUncertainty(name, accuracy, count, error, low, high)


def split_uncertainty(
    study: RecordedStudy, metrics: Mapping[str, SeedStatistics], worst_group: str | None
) -> UncertaintyParts | None:
    """Return the parts of the uncertainty of the main test metric; None without a result.

    Args:
        study: The study.
        metrics: The statistics of its ``test_<metric>``.
        worst_group: The most frequent worst group of the test split; None without groups.
    """
    metric = study.context.reported_metrics[0]
    found = metrics.get(f"test_{metric}")
    if found is None:
        return None
    unknown = []
    seed = None if found.std is None else found.std / math.sqrt(found.n)
    if seed is None:
        unknown.append("training seed: one seed has no deviation")
    group = _find_group_error(metrics, worst_group) if metric == "worst_group_accuracy" else None
    if group is None:
        unknown.append("finite test set: no accuracy and size of a worst group are recorded")
    configuration = None
    if study.context.search == "published":
        unknown.append("choice of configuration: nothing was searched")
    elif study.context.search_seeds < 2:
        unknown.append("choice of configuration: the search has one training seed (--search-seeds)")
    elif any(study.further_runs.values()):
        unknown.append("choice of configuration: further seeds of finalists decided it")
    else:
        configuration = measure_choice(study.rule, study.trials)
        if configuration is None:
            unknown.append("choice of configuration: no trials have all search seeds")
    known = [part for part in (seed, group, configuration) if part is not None]
    return UncertaintyParts(
        metric, seed, group, configuration, math.sqrt(sum(part**2 for part in known)),
        tuple(unknown),
    )  # fmt: skip


def _find_group_error(
    metrics: Mapping[str, SeedStatistics], worst_group: str | None
) -> float | None:
    groups = {group.name: group for group in list_group_uncertainties(metrics)}
    found = None if worst_group is None else groups.get(worst_group)
    return None if found is None else found.standard_error


def measure_choice(rule: Rule, trials: Sequence[RecordedTrial]) -> float | None:
    """Return the standard deviation that the choice of configuration adds; None where unknown.

    Each search seed alone chooses the trial with its best value, or the defaults within the rule's
    margin; the mean of that trial over the
    other search seeds is a value of the choice. Such means of a fixed trial vary too, by the
    variance of its values divided by (seeds - 1)²: the mean of this over the choices is subtracted
    from the variance of the values, so that the part is 0 where all seeds choose the same trial.

    Args:
        rule: The selection rule.
        trials: The trials of the search.
    """
    found = [
        (trial, values)
        for trial in trials
        if (values := _list_seed_values(rule, trial)) is not None
    ]
    seeds = max((len(values) for _, values in found), default=0)
    found = [(trial, values) for trial, values in found if len(values) == seeds]
    complete = np.array([values for _, values in found])
    if seeds < 2 or len(complete) == 0:
        return None
    ranked = -complete if rule.lower_is_better else complete
    chosen = ranked.argmax(axis=0)
    for number, (trial, _) in enumerate(found):
        if trial.is_default and trial.best is not None:
            limits = ranked[number] + compute_margin(rule, trial.best)
            chosen = np.where(ranked.max(axis=0) <= limits, number, chosen)
    if (chosen == chosen[0]).all():
        return 0.0
    others = [np.delete(complete[trial], seed).mean() for seed, trial in enumerate(chosen)]
    fixed = complete[chosen].var(axis=1, ddof=1).mean() / (seeds - 1) ** 2
    return math.sqrt(max(0.0, float(np.var(others, ddof=1) - fixed)))


def _list_seed_values(rule: Rule, trial: RecordedTrial) -> list[float] | None:
    """Return a finished trial's metric at its best epoch, of each training seed."""
    best = trial.best
    if best is None or not trial.is_finished or rule.oracle:
        return None
    found = [curve[best.epoch - 1].validation.get(rule.metric) for curve in trial.curves]
    values = [float(value) for value in found if isinstance(value, int | float)]
    return values if len(values) == len(found) else None
