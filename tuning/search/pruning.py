"""Pruning: whether a trial of the search stops early."""

import itertools

from tuning.search.successive_halving import SuccessiveHalving, make_successive_halving
from tuning.search.trial import Trial
from tuning.selection import Score


class Pruner:
    """Compares the trials of a search by their best value after so many eligible epochs.

    Args:
        halving: The rule; None prunes nothing.
    """

    def __init__(self, halving: SuccessiveHalving | None) -> None:
        self.halving = halving

    def should_prune(self, trial: Trial, score: Score | None) -> bool:
        """Record a trial's new epoch; return whether the trial lags behind.

        Args:
            trial: The trial, the epoch included.
            score: The epoch's score.
        """
        best = trial.best
        if self.halving is None or trial.phase != "search" or score is None or best is None:
            return False
        return self.halving.report(trial.number, trial.eligible_epochs, best.value)

    def add_finished_trial(self, trial: Trial) -> None:
        """Record the epochs of a finished trial; values that are recorded already stay."""
        if self.halving is None or trial.phase != "search":
            return
        values = (score.value for score in trial.scores if score is not None)
        for epochs, best in enumerate(itertools.accumulate(values, max), start=1):
            self.halving.report(trial.number, epochs, best)


def make_pruner(scheduler: str, epochs: int) -> Pruner:
    """Return the pruner of a search.

    Args:
        scheduler: The ``--scheduler`` option.
        epochs: Eligible epochs of a trial.
    """
    prunes = scheduler == "asha" and epochs >= 2
    return Pruner(make_successive_halving(epochs) if prunes else None)
