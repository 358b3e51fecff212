"""Pruning: whether a trial of the search stops early."""

from collections.abc import Sequence

from core.training.selection import Score
from tuning.search.schedulers.successive_halving import SuccessiveHalving, make_successive_halving


class Pruner:
    """Compares the trials of a search by their best value after so many eligible epochs.

    Args:
        halving: The rule; None prunes nothing.
    """

    def __init__(self, halving: SuccessiveHalving | None) -> None:
        self.halving = halving

    def report_epoch(self, trial: int, scores: Sequence[Score | None]) -> bool:
        """Record a trial's newest epoch; return whether the trial lags behind.

        Args:
            trial: The trial's number.
            scores: The score of each of its epochs, the newest included.
        """
        if self.halving is None or not scores or scores[-1] is None:
            return False
        values = [score.value for score in scores if score is not None]
        return self.halving.report(trial, len(values), max(values))

    def add_finished_trial(self, trial: int, scores: Sequence[Score | None]) -> None:
        """Record the epochs of a finished trial; values that are recorded already stay."""
        for epochs in range(1, len(scores) + 1):
            self.report_epoch(trial, scores[:epochs])


def list_rungs(scheduler: str, epochs: int) -> list[int]:
    """Return the eligible epochs at which a scheduler compares trials, descending.

    Args:
        scheduler: The ``--scheduler`` option.
        epochs: Eligible epochs of a trial.
    """
    if scheduler == "none" or epochs < 2:
        return []
    return [rung.epoch for rung in make_successive_halving(epochs).rungs]


def make_pruner(scheduler: str, epochs: int) -> Pruner:
    """Return the pruner of a search.

    Args:
        scheduler: The ``--scheduler`` option.
        epochs: Eligible epochs of a trial.
    """
    prunes = scheduler == "asha" and epochs >= 2
    return Pruner(make_successive_halving(epochs) if prunes else None)
