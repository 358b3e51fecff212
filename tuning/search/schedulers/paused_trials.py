"""The paused trials of a search: they continue when they are promoted, or end as pruned ones."""

from core.training.selection import Rule
from tuning.records.run_data import TrialStatus
from tuning.search.schedulers.promotion import Promoter
from tuning.search.trial import Trial
from tuning.search.trial_pool import TrialPool


class PausedTrials:
    """Pauses the trials of a search and promotes them.

    Args:
        promoter: Chooses those that continue; None pauses none.
        pool: The trials of the search.
    """

    def __init__(self, promoter: Promoter | None, pool: TrialPool) -> None:
        self.promoter = promoter
        self.pool = pool

    def report_epochs(self, trial: Trial, status: TrialStatus | None) -> None:
        """Let the paused trials continue that a trial's newest epoch, or its end, promotes."""
        if self.promoter is not None:
            for number in self.promoter.report_epochs(trial.number, trial.scores, status):
                promoted = self.pool.trials.get(number)
                if promoted is not None and promoted.status == TrialStatus.PAUSED:
                    promoted.promote()

    def pause_trial(self, trial: Trial) -> bool:
        """Pause a trial that has to wait for its promotion; return whether it has to."""
        if self.promoter is None or self.promoter.may_train(trial.number, trial.scores):
            return False
        trial.pause()
        return True

    def end_trials(self) -> None:
        """End all paused trials, unless trials that can promote them have not ended."""
        blocking = self.pool.list_by_status(TrialStatus.RUNNING, TrialStatus.WAITING)
        if self.promoter is None or blocking:
            return
        for trial in self.pool.list_by_status(TrialStatus.PAUSED):
            trial.write_end(TrialStatus.PRUNED)
            trial.end(TrialStatus.PRUNED, "")

    def restore_trials(self, rule: Rule) -> list[Trial]:
        """Let recorded trials pause or continue; return those that pause.

        Those that stayed paused until an earlier session ended may be promoted in a longer search.

        Args:
            rule: The rule by which epochs are scored.
        """
        if self.promoter is None:
            return []
        for trial in self.pool.trials.values():
            if not trial.is_finished:
                trial.load_epochs(rule)
            if trial.status in (TrialStatus.WAITING, TrialStatus.PRUNED) and trial.scores:
                trial.pause()
                self.promoter.report_epochs(trial.number, trial.scores)
        for trial in self.pool.list_by_status(TrialStatus.PAUSED):
            if self.promoter.may_train(trial.number, trial.scores):
                trial.promote()
        return self.pool.list_by_status(TrialStatus.PAUSED)
