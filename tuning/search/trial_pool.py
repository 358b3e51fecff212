"""Bookkeeping: the trials of a search, and the incumbent, the best of them so far."""

from core.training.selection import Rule
from tuning.records.run_data import TrialStatus
from tuning.search.trial import Trial
from tuning.selection import list_finalists, rank_trials, select_trial


class TrialPool:
    """The trials of a search.

    Those that are finished and not among the best are set aside, so that the time per event does
    not grow with the number of trials. That of the default hyperparameters stays, for the rule may
    prefer it.

    Args:
        rule: The rule that ranks trials.
        kept: The number of best trials that are not set aside.
    """

    def __init__(self, rule: Rule, kept: int = 1) -> None:
        self.rule = rule
        self.kept = kept
        self.trials: dict[int, Trial] = {}
        self._contenders: list[Trial] = []  # unfinished trials and the best ones

    @property
    def all_finished(self) -> bool:
        """Whether every trial has ended."""
        return all(trial.is_finished for trial in self._contenders)

    @property
    def has_running(self) -> bool:
        """Whether a trial is running."""
        return any(trial.status == TrialStatus.RUNNING for trial in self._contenders)

    def list_by_status(self, *statuses: TrialStatus) -> list[Trial]:
        """Return the trials that stand somewhere."""
        return [trial for trial in self._contenders if trial.status in statuses]

    def add_trial(self, trial: Trial) -> None:
        """Add a trial."""
        self.trials[trial.number] = trial
        self._contenders.append(trial)

    def drop_losers(self) -> None:
        """Drop finished trials that are not among the best; an unfinished one may fail yet."""
        finished = rank_trials([t for t in self._contenders if t.is_finished], self.rule)
        best = {trial.number for trial in finished[: self.kept]}
        # A new list: the live table reads the old one in a thread of its own.
        self._contenders = [
            t for t in self._contenders if t.number in best or t.is_default or not t.is_finished
        ]

    def find_incumbent(self) -> Trial | None:
        """Return the best trial so far; None if none has a score."""
        return select_trial(list(self._contenders), self.rule)

    def list_best(self) -> list[Trial]:
        """Return the best trials so far, the best one first."""
        return list_finalists(list(self._contenders), self.rule, self.kept)

    def list_contenders(self) -> list[Trial]:
        """Return the unfinished trials, the best ones, and that of the defaults."""
        return list(self._contenders)
