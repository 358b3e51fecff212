"""Whether a search found anything: the spread of its trials beside that of one configuration."""

import math
from dataclasses import dataclass
from statistics import stdev

from scipy.special import fdtrc  # the survival function; scipy.stats takes long to import

from core.training.selection import rank_trial
from tuning.records.run_data import TrialStatus
from tuning.reporting.intervals import CONFIDENCE, MIN_SEEDS
from tuning.reporting.recorded_study import RecordedStudy, RecordedTrial

MIN_TRIALS = 5
WHOLE = (TrialStatus.COMPLETED, TrialStatus.STOPPED_EARLY)


@dataclass(frozen=True)
class SearchSpread:
    """How much the trials of a search differ, beside the seeds of its winner.

    All are judged on the same examples, so that trials of equally good configurations spread as the
    seeds of one do.

    Args:
        trials: Trials that trained to their end.
        deviation: The standard deviation of their values of selection.
        seeds: Confirmation seeds of the winner.
        noise: The standard deviation of the seeds' values, of a mean over the search's training
            seeds.
        between: The deviation between configurations beyond noise.
        exceeds_noise: Whether the trials differ more than the seeds explain (F test at 5%).
    """

    trials: int
    deviation: float
    seeds: int
    noise: float
    between: float
    exceeds_noise: bool


def measure_search_spread(study: RecordedStudy) -> SearchSpread | None:
    """Return the spread of a search's trials; None with fewer than 5 trials or 3 seeds to compare.

    Trials that were pruned are left out: their values are those of fewer epochs.
    """
    trials = [
        value
        for trial in study.trials
        if trial.status in WHOLE and (value := _read_value(study, trial)) is not None
    ]
    seeds = [
        value for seed in study.confirmed_seeds if (value := _read_value(study, seed)) is not None
    ]
    if len(trials) < MIN_TRIALS or len(seeds) < MIN_SEEDS:
        return None
    deviation = stdev(trials)
    noise = stdev(seeds) / math.sqrt(study.context.search_seeds)
    ratio = (deviation / noise) ** 2 if noise else math.inf if deviation else 0.0
    return SearchSpread(
        trials=len(trials),
        deviation=deviation,
        seeds=len(seeds),
        noise=noise,
        between=math.sqrt(max(0.0, deviation**2 - noise**2)),
        exceeds_noise=bool(fdtrc(len(trials) - 1, len(seeds) - 1, ratio) < 1 - CONFIDENCE),
    )


def _read_value(study: RecordedStudy, trial: RecordedTrial) -> float | None:
    score = rank_trial(study.rule, trial.scores)
    return None if score is None else score.value
