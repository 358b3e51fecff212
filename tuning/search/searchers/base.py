"""The interface of searchers.

A searcher proposes values for the active hyperparameters
(:func:`common.hyperparameters.active_names`); the others keep their defaults.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from common.hyperparameters import Hyperparameters, Scalar
from core.training.selection import Score
from tuning.records.run_data import TrialStatus


def make_identity(values: Mapping[str, Scalar]) -> str:
    """Return a text that is equal for equal hyperparameters."""
    return json.dumps(dict(values), sort_keys=True)


class Searcher(ABC):
    """Proposes the hyperparameters of a method's trials, in the order of their numbers from 0."""

    def __init__(self) -> None:
        self.proposed: set[str] = set()  # identities, those of earlier sessions included

    @abstractmethod
    def draw_hyperparameters(self, number: int) -> Hyperparameters | None:
        """Return the hyperparameters of a trial that are not proposed yet; None if none are left.

        Args:
            number: The trial's number.
        """

    def propose_hyperparameters(self, number: int) -> Hyperparameters | None:
        """Return new hyperparameters and remember them; None if none are left.

        Args:
            number: The trial's number.
        """
        values = self.draw_hyperparameters(number)
        if values is not None:
            self.proposed.add(make_identity(values))
        return values

    def add_trial(self, number: int, values: Hyperparameters) -> None:
        """Add a trial that an earlier session proposed.

        Args:
            number: The trial's number.
            values: Its hyperparameters.
        """
        self.proposed.add(make_identity(values))

    def report_trial(
        self, number: int, scores: Sequence[Score | None], status: TrialStatus
    ) -> None:
        """Report how a trial ended; searchers that do not learn ignore it.

        Args:
            number: The trial's number.
            scores: The score of each of its epochs.
            status: How it ended.
        """
        return
