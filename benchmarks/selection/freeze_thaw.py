"""Freeze-thaw search: after every epoch the trial continues that promises the greatest gain.

Swersky, Snoek and Adams (arXiv 1406.3896) extrapolate curves by a Gaussian process. Here the gain
of the next epochs is that of all trials so far at about the same epoch. It is a candidate for
``--scheduler``; in the replays it finds no more than successive halving (docs/search.md).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from core.training.selection import Rule, rank_trial
from tuning.records.run_data import TrialStatus
from tuning.search.recorded_curves import Curve, RecordedCurves
from tuning.search.searchers.base import Searcher
from tuning.search.simulate import SimulatedTrial

HORIZON = 3  # epochs after which a gain is expected
PRIOR_TRIALS = 2  # that the expectation before the first trial is worth


@dataclass
class FrozenTrial:
    """A trial that may continue.

    Args:
        curve: Its recorded curve.
        values: The value by which the rule ranks it after each epoch so far.
    """

    curve: Curve
    values: list[float] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether it has trained to its end."""
        return len(self.values) == len(self.curve.scores)

    def train_epoch(self, rule: Rule) -> None:
        """Train an epoch; one without a score is worth nothing."""
        score = rank_trial(rule, self.curve.scores[: len(self.values) + 1])
        self.values.append(-math.inf if score is None else score.value)


def search_by_expected_gain(
    recorded: RecordedCurves, searcher: Searcher, budget: float, scale: float
) -> list[SimulatedTrial]:
    """Return the trials of a search, each of them stopped where its gain was no more the greatest.

    Args:
        recorded: The trials of an earlier study.
        searcher: The searcher.
        budget: Epochs to spend.
        scale: The differences of values that are expected before there are trials.
    """
    rule = replace(recorded.rule, ranked_epochs=3)
    trials: list[FrozenTrial] = []
    most = len(recorded.curves)
    longest = max(len(curve.scores) for curve in recorded.curves)
    spent = 0
    while spent < budget:
        best = max((max(trial.values) for trial in trials), default=-math.inf)
        later = _sum_gains(trials, longest)
        gains = [
            -1.0 if trial.is_complete else _expect_gain(*_predict(trial, later, scale), best)
            for trial in trials
        ]
        fresh = _expect_gain(*_predict_new(trials, scale), best) if len(trials) < most else -1.0
        if not trials or fresh > max(gains):
            values = searcher.propose_hyperparameters(len(trials))
            assert values is not None
            trials.append(FrozenTrial(recorded.find_nearest(values)))
            chosen = trials[-1]
        elif max(gains) < 0:
            break
        else:
            chosen = trials[int(np.argmax(gains))]
        chosen.train_epoch(rule)
        spent += 1
    return [
        SimulatedTrial(
            number,
            trial.curve,
            trial.curve.scores[: len(trial.values)],
            TrialStatus.COMPLETED if trial.is_complete else TrialStatus.PRUNED,
        )
        for number, trial in enumerate(trials)
    ]


def _sum_gains(trials: Sequence[FrozenTrial], epochs: int) -> np.ndarray:
    """Return number, sum and sum of squares of the gains near each epoch, ``(epochs + 2, 3)``.

    A gain is by how much a trial was better some epochs after an epoch.
    """
    sums = np.zeros((epochs + 3, 3))
    for trial in trials:
        values = np.array(trial.values)
        starts = np.arange(len(values) - 1)
        starts = starts[np.isfinite(values[starts])]
        gains = values[np.minimum(starts + HORIZON, len(values) - 1)] - values[starts]
        sums[starts + 1] += np.stack([np.ones_like(gains), gains, gains**2], axis=1)
    return sums[:-2] + sums[1:-1] + sums[2:]  # of an epoch and its neighbors


def _predict(trial: FrozenTrial, later: np.ndarray, scale: float) -> tuple[float, float]:
    """Return the mean and deviation of a trial's value some epochs later."""
    epoch = len(trial.values)
    if not math.isfinite(trial.values[-1]):  # before its first eligible epoch
        return math.inf, scale
    number, total, squares = later[epoch - 1].tolist()
    mean, deviation = _combine(number, total, squares, scale / epoch)
    return trial.values[-1] + mean, deviation


def _predict_new(trials: Sequence[FrozenTrial], scale: float) -> tuple[float, float]:
    """Return the mean and deviation of a new trial's value after some epochs."""
    found = [trial.values[min(len(trial.values), HORIZON) - 1] for trial in trials]
    found = [value for value in found if math.isfinite(value)]
    if not found:
        return 0.0, scale
    mean = sum(found) / len(found)
    squares = PRIOR_TRIALS * scale**2 + sum((value - mean) ** 2 for value in found)
    return mean, math.sqrt(squares / (PRIOR_TRIALS + len(found)))


def _combine(number: float, total: float, squares: float, expected: float) -> tuple[float, float]:
    """Return a mean and deviation, in which a prior of that size counts as some trials."""
    count = PRIOR_TRIALS + number
    mean = (PRIOR_TRIALS * expected + total) / count
    variance = (squares + (2 * PRIOR_TRIALS) * expected**2) / count - mean**2
    return mean, math.sqrt(max(variance, 1e-18))


def _expect_gain(mean: float, deviation: float, best: float) -> float:
    """Return the expected improvement of a normal value over the best one."""
    if not math.isfinite(best) or mean == math.inf:
        return deviation
    ahead = (mean - best) / deviation
    below = (1 + math.erf(ahead / math.sqrt(2))) / 2
    return deviation * (ahead * below + math.exp(-(ahead**2) / 2) / math.sqrt(2 * math.pi))
