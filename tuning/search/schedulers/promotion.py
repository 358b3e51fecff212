"""Successive halving that pauses trials and promotes the best: no trial is stopped for good.

Every trial pauses at the first rung. The records keep its state, so the best third of each rung
continue, at no cost, to the next one. Trials are compared in the order of their numbers, at higher
rungs in the order of their promotion, whenever their epochs end: so the trials that are promoted
do not depend on how many train at once, and those of a shorter search are promoted in a longer one.
"""

import bisect
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from core.training.selection import Rule, Score, rank_trial
from tuning.records.run_data import TrialStatus
from tuning.search.schedulers.successive_halving import REDUCTION_FACTOR, make_successive_halving

# Ends after which a trial trains no more; a trial that stays paused ends as a pruned one.
FINAL = (TrialStatus.COMPLETED, TrialStatus.STOPPED_EARLY, TrialStatus.FAILED)


@dataclass
class PromotionRung:
    """An epoch at which trials pause.

    Args:
        epoch: The epoch, counted in eligible ones.
        arrivals: The trials that reach it, in the order in which they are compared.
        values: The value of each trial that has reached it, by the trial's number.
        ranking: The trials compared so far, the best first, with their negated values.
        promoted: Those that continue to the next rung.
    """

    epoch: int
    arrivals: list[int] = field(default_factory=list)
    values: dict[int, float] = field(default_factory=dict)
    ranking: list[tuple[float, int]] = field(default_factory=list)
    promoted: set[int] = field(default_factory=set)

    def list_best(self) -> list[int]:
        """Return the best third of the trials compared so far, and those that equal its last.

        Where all are equal, as while every trial predicts one class, none lags behind.
        """
        count = len(self.ranking) // REDUCTION_FACTOR
        if not count or self.ranking[count - 1][0] == math.inf:
            count = bisect.bisect_left(self.ranking, (math.inf, -1), hi=count)
            return [number for _, number in self.ranking[:count]]
        last = self.ranking[count - 1][0]
        end = bisect.bisect_right(self.ranking, (last, sys.maxsize))
        return [number for _, number in self.ranking[:end]]


class Promoter:
    """Asynchronous successive halving by promotion (ASHA; Li et al., MLSys 2020, algorithm 2).

    A trial is promoted once it is among the best third of those that are compared at its rung, or
    equals the last of these.

    Args:
        rule: The rule that ranks trials, by their epochs up to the rung.
        epochs: Eligible epochs of a trial.
    """

    def __init__(self, rule: Rule, epochs: int) -> None:
        self.rule = rule
        self.epochs = epochs
        rungs = sorted(rung.epoch for rung in make_successive_halving(epochs).rungs)
        self.rungs = [PromotionRung(epoch) for epoch in rungs if epoch < epochs]
        self._reached: dict[int, int] = {}  # the rung to which each trial may train

    def report_epochs(
        self, trial: int, scores: Sequence[Score | None], status: TrialStatus | None = None
    ) -> list[int]:
        """Record a trial's epochs; return the numbers of the trials that are promoted now.

        Args:
            trial: The trial's number.
            scores: The score of each of its epochs.
            status: How it ended; None if it did not.
        """
        eligible = [score for score in scores if score is not None]
        for rung in self.rungs:
            reached = len(eligible) >= rung.epoch
            if trial not in rung.values and (reached or status in FINAL):
                best = rank_trial(self.rule, eligible[: rung.epoch])
                failed = best is None or (not reached and status == TrialStatus.FAILED)
                rung.values[trial] = -math.inf if best is None or failed else best.value
        return self._promote_trials()

    def may_train(self, trial: int, scores: Sequence[Score | None]) -> bool:
        """Return whether a trial may train a further epoch.

        Args:
            trial: The trial's number.
            scores: The score of each of its epochs.
        """
        index = self._reached.get(trial, 0)
        target = self.rungs[index].epoch if index < len(self.rungs) else self.epochs
        return sum(score is not None for score in scores) < target

    def _promote_trials(self) -> list[int]:
        found: list[int] = []
        for index, rung in enumerate(self.rungs):
            while (trial := self._next_arrival(index)) in rung.values:
                bisect.insort(rung.ranking, (-rung.values[trial], trial))
                new = [n for n in rung.list_best() if n not in rung.promoted]
                rung.promoted.update(new)
                self._reached.update(dict.fromkeys(new, index + 1))
                if index + 1 < len(self.rungs):
                    self.rungs[index + 1].arrivals += new
                found += new
        return found

    def _next_arrival(self, index: int) -> int:
        """Return the trial that is compared next at a rung; -1 if none has come there."""
        compared = len(self.rungs[index].ranking)
        if index == 0:
            return compared
        arrivals = self.rungs[index].arrivals
        return arrivals[compared] if compared < len(arrivals) else -1


def make_promoter(scheduler: str, rule: Rule, epochs: int) -> Promoter | None:
    """Return the promoter of a search; None for a scheduler that pauses no trials.

    Args:
        scheduler: The ``--scheduler`` option.
        rule: The selection rule.
        epochs: Eligible epochs of a trial.
    """
    pauses = scheduler == "asha_promotion" and epochs >= 2
    return Promoter(rule, epochs) if pauses else None
