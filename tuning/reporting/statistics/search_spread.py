"""Whether a search found anything: the spread of its trials beside that of one configuration."""

import math
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, stdev

from scipy.special import fdtr, fdtrc  # of the F distribution; scipy.stats takes long to import

from core.training.selection import rank_trial
from tuning.records.run_data import TrialStatus
from tuning.reporting.intervals import CONFIDENCE, MIN_SEEDS
from tuning.reporting.recorded_study import RecordedStudy, RecordedTrial

MIN_TRIALS = 5
WHOLE = (TrialStatus.COMPLETED, TrialStatus.STOPPED_EARLY)
COLLAPSE = 0.02  # a best trial at most this far above a constant prediction has learned nothing


class SearchConclusion(StrEnum):
    """The conclusion of a search about its configurations."""

    DIFFERENT = "configurations differ beyond noise"
    EQUAL = "a configuration drawn blindly would have served as well"
    COLLAPSED = "all configurations collapsed"
    UNKNOWN = "no difference beyond noise is proved, and no equality"
    TOO_FEW_TRIALS = "too few trials trained to their end to tell"
    TOO_FEW_SEEDS = "too few confirmation seeds to tell"


@dataclass(frozen=True)
class SearchSpread:
    """How much the trials of a search differ, beside the seeds of its winner.

    All are judged on the same examples, so that trials of equally good configurations spread as the
    seeds of one do.

    Args:
        trials: Trials that trained to their end.
        pruned: Pruned trials, whose best values until then are lower bounds.
        deviation: The standard deviation of the values of selection of trials that trained to their
            end; None with fewer than two.
        seeds: Confirmation seeds of the winner.
        noise: The standard deviation of the seeds' values, of a mean over the search's training
            seeds; None with fewer than two.
        between: The deviation between configurations beyond noise; None where either is unknown.
        gain: By how much the mean of the winner's seeds is better than that of all trials, the
            value of a configuration drawn blindly. Where trials were pruned it is an upper bound.
        exceeds_noise: Whether the trials differ more than the seeds explain (F test at 5%).
        conclusion: The conclusion.
    """

    trials: int
    pruned: int
    deviation: float | None
    seeds: int
    noise: float | None
    between: float | None
    gain: float | None
    exceeds_noise: bool
    conclusion: SearchConclusion


def measure_search_spread(study: RecordedStudy) -> SearchSpread | None:
    """Return the spread of a search's trials; None without a trial or a seed to compare."""
    ended = [trial for trial in study.trials if trial.status in WHOLE]
    early = [trial for trial in study.trials if trial.status is TrialStatus.PRUNED]
    whole = [value for trial in ended for value in _read_values(study, trial)]
    pruned = [value for trial in early for value in _read_values(study, trial)]
    seeds = [value for seed in study.confirmed_seeds for value in _read_values(study, seed)]
    if not (whole or pruned) or not seeds:
        return None
    deviation = stdev(whole) if len(whole) > 1 else None
    noise = stdev(seeds) / math.sqrt(study.context.search_seeds) if len(seeds) > 1 else None
    gain = fmean(seeds) - fmean([*whole, *pruned])
    between, above, below = None, False, False
    if deviation is not None and noise is not None:
        between = math.sqrt(max(0.0, deviation**2 - noise**2))
        ratio = (deviation / noise) ** 2 if noise else math.inf if deviation else 1.0
        degrees = len(whole) - 1, len(seeds) - 1
        above = bool(fdtrc(*degrees, ratio) < 1 - CONFIDENCE)
        below = bool(fdtr(*degrees, ratio) < 1 - CONFIDENCE)
    constant = study.context.constant_metric
    if constant is not None and max([*whole, *pruned]) <= constant + COLLAPSE:
        conclusion = SearchConclusion.COLLAPSED
    elif len(seeds) < MIN_SEEDS:
        conclusion = SearchConclusion.TOO_FEW_SEEDS
    elif len(whole) < MIN_TRIALS:
        conclusion = SearchConclusion.TOO_FEW_TRIALS
    elif above:
        conclusion = SearchConclusion.DIFFERENT
    elif below or noise is None or gain > noise or _has_failed(study):
        conclusion = SearchConclusion.UNKNOWN
    else:
        conclusion = SearchConclusion.EQUAL
    return SearchSpread(
        len(whole), len(pruned), deviation, len(seeds), noise, between, gain, above, conclusion
    )


def _has_failed(study: RecordedStudy) -> bool:
    return any(trial.status is TrialStatus.FAILED for trial in study.trials)


def _read_values(study: RecordedStudy, trial: RecordedTrial) -> list[float]:
    """Return the value of selection of a trial, greater being better; empty without."""
    score = rank_trial(study.rule, trial.scores)
    return [] if score is None else [score.value]
