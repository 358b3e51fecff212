"""Asynchronous successive halving: which trials to stop early, by their rank at a few epochs."""

from dataclasses import dataclass, field

import numpy as np

REDUCTION_FACTOR = 3  # each rung keeps about one in so many trials
FIRST_RUNG_DIVISOR = 9  # the first rung is at this part of a trial's epochs


@dataclass
class Rung:
    """An epoch at which trials are compared.

    Args:
        epoch: The epoch, counted in eligible ones.
        values: The value of each trial that has reached it, by the trial's number.
    """

    epoch: int
    values: dict[int, float] = field(default_factory=dict)

    def cutoff(self, reduction_factor: int) -> float | None:
        """Return the value below which a trial is pruned; None while the rung is empty."""
        if not self.values:
            return None
        percentile = (1 - 1 / reduction_factor) * 100
        return float(np.nanpercentile(list(self.values.values()), percentile))


class SuccessiveHalving:
    """Asynchronous successive halving (ASHA; Li et al., MLSys 2020) in one bracket.

    A trial is compared at the highest rung that it has reached and that does not know it yet, with
    the trials that came there before it. Greater values are better. The decisions are those of
    ``ray.tune.schedulers.AsyncHyperBandScheduler`` with ``stop_last_trials=False``.

    Args:
        max_epochs: The epochs of a trial that is not pruned.
        min_epochs: The epoch of the first rung.
        reduction_factor: The ratio of one rung's epoch to the next one's, and of the trials there.
    """

    def __init__(
        self, max_epochs: int, min_epochs: int, reduction_factor: int = REDUCTION_FACTOR
    ) -> None:
        self.max_epochs = max_epochs
        self.reduction_factor = reduction_factor
        count = int(np.log(max_epochs / min_epochs) / np.log(reduction_factor) + 1)
        self.rungs = [Rung(min_epochs * reduction_factor**i) for i in reversed(range(count))]

    def report(self, trial: int, epochs: int, value: float) -> bool:
        """Record a trial's value; return whether to prune the trial.

        Args:
            trial: The trial's number.
            epochs: The eligible epochs that it has done.
            value: Its best value so far.
        """
        rung = next((rung for rung in self.rungs if epochs >= rung.epoch), None)
        if rung is None or trial in rung.values:
            return False
        cutoff = rung.cutoff(self.reduction_factor)
        rung.values[trial] = value
        return cutoff is not None and value < cutoff

    def expected_epochs(self) -> float:
        """Return the mean epochs of a trial, if each rung keeps one in ``reduction_factor``."""
        total, reached, share = 0.0, 0, 1.0
        for rung in reversed(self.rungs):
            total += share * (rung.epoch - reached)
            reached, share = rung.epoch, share / self.reduction_factor
        return total + share * (self.max_epochs - reached)


def make_successive_halving(epochs: int) -> SuccessiveHalving:
    """Return the pruner of a study whose trials have ``epochs`` eligible epochs."""
    return SuccessiveHalving(epochs, max(1, epochs // FIRST_RUNG_DIVISOR))
