"""Confirmation: the winner, trained again on new seeds."""

from common.hyperparameters import Hyperparameters
from core.training.selection import Rule
from tuning.records.run_data import Phase
from tuning.search.trial import Trial
from tuning.search.trial_records import TrialRecords


class ConfirmationSeeds:
    """The confirmation seeds of a search's winner.

    Args:
        records: Creates the trials.
        rule: The selection rule.
        count: Seeds, numbered from 0.
    """

    def __init__(self, records: TrialRecords, rule: Rule, count: int) -> None:
        self.records = records
        self.rule = rule
        self.count = count
        self.trials: dict[int, Trial] = {}  # by seed; empty until the search is done

    @property
    def is_done(self) -> bool:
        """Whether every seed has ended."""
        finished = all(trial.is_finished for trial in self.trials.values())
        return len(self.trials) >= self.count and finished

    def begin(self, values: Hyperparameters | None) -> None:
        """Create the seeds, unless they exist or nothing has won.

        Args:
            values: The winner's hyperparameters.
        """
        if not self.trials:
            self.trials = self._create_trials(values)

    def _create_trials(self, values: Hyperparameters | None) -> dict[int, Trial]:
        if values is None:
            return {}
        trials: dict[int, Trial] = {}
        for seed in range(self.count):
            trials[seed] = self.records.create_trial(Phase.CONFIRM, seed, values)
            if trials[seed].load_end(self.rule):
                trials[seed].clean_up()
        return trials
