"""The search of one method: propose trials, take their reports, select and confirm the winner.

The queue asks :meth:`MethodSearch.next_trial` and hands each :class:`EpochReport` to
:meth:`MethodSearch.report_epoch`, which decides whether the trial continues.
"""

from collections.abc import Mapping, Sequence

from common.hyperparameters import Hyperparameters
from core.environment import Environment
from core.recipe.recipe import EpochCounts
from core.training.selection import Rule
from datasets.training_config import TrainingConfig
from tuning.options import Options
from tuning.records.method_records import MethodRecords
from tuning.records.run_data import Phase, TrialStatus
from tuning.records.storage import StorageError
from tuning.search.confirmation import ConfirmationSeeds
from tuning.search.finalist_race import count_finalist_runs, count_runs_left
from tuning.search.finalists import FinalistRuns
from tuning.search.proposal import Proposer, count_trials, make_searcher
from tuning.search.schedulers.paused_trials import PausedTrials
from tuning.search.schedulers.promotion import make_promoter
from tuning.search.schedulers.pruning import make_pruner
from tuning.search.searchers.base import Searcher
from tuning.search.space import Space
from tuning.search.time_left import (
    MethodTimes,
    PlannedWork,
    StageRates,
    describe_work,
    list_work,
)
from tuning.search.trial import Trial
from tuning.search.trial_pool import TrialPool
from tuning.search.trial_records import TrialRecords
from tuning.worker.trial_work import OUT_OF_MEMORY, STORAGE_FAILED, EpochReport


class MethodSearch:
    """The search of one method; a resumed one continues from the records.

    Args:
        space: The search space.
        options: The command.
        environment: Where trials compute.
        records: The method's records, which may hold an earlier session's trials.
        rule: The selection rule.
    """

    def __init__(
        self,
        space: Space,
        options: Options,
        environment: Environment,
        records: MethodRecords,
        rule: Rule,
    ) -> None:
        self.space = space
        self.options = options
        self.environment = environment
        self.records = records
        self.rule = rule
        self.epoch_counts: EpochCounts = max(space.count_epochs(options.search))
        values = space.find_common_values(options.search)
        self._default_key = space.resolved.make_key(values, 0, environment)
        self._trial_records = TrialRecords(space, environment, records, options.search_seeds)
        earlier = self._trial_records.read_proposals()
        searcher = make_searcher(space, options, len(earlier))
        self._proposer = Proposer(searcher, count_trials(space, options))
        self._pool = TrialPool(rule, options.finalist_count)
        self._finalists = FinalistRuns(self._trial_records, rule, options.finalist_count)
        self._confirmation = ConfirmationSeeds(self._trial_records, self.rule, options.seeds)
        self.pruner = make_pruner(options.scheduler, self.epoch_counts.eligible)
        promoter = make_promoter(options.scheduler, rule, self.epoch_counts.eligible)
        self._paused = PausedTrials(promoter, self._pool)
        self._told_epochs: dict[int, int] = {}  # of each trial, to the searcher
        self.is_closed = False  # whether a budget has ended the search early
        self._restore_trials(earlier)
        if self.are_trials_done and not self.is_closed:
            self._finalists.start_runs(self._pool.list_best())
        if self.is_search_done:
            self._confirmation.begin(self.select_hyperparameters())

    @property
    def name(self) -> str:
        """The method's name."""
        return self.space.resolved.name

    @property
    def searcher(self) -> Searcher | None:
        """The searcher; None where nothing is searched."""
        return self._proposer.searcher

    @property
    def trial_budget(self) -> int:
        """The number of trials of the search."""
        return self._proposer.budget

    @property
    def expected_trials(self) -> int:
        """The number of trials that the search will have, as far as is known."""
        known = self._proposer.is_exhausted or self.is_closed
        return len(self.trials) if known else self.trial_budget

    @property
    def trials(self) -> dict[int, Trial]:
        """The trials of the search, by number."""
        return self._pool.trials

    @property
    def seeds(self) -> dict[int, Trial]:
        """The confirmation seeds; empty until the search is done."""
        return self._confirmation.trials

    @property
    def training_config(self) -> TrainingConfig:
        """The training config of a trial whose searched hyperparameters have their defaults."""
        return self._default_key.training_config

    def list_trials(self) -> list[Trial]:
        """Return the trials of the search, the further seeds and the confirmation seeds."""
        seeds = [*self._finalists.list_trials(), *list(self.seeds.values())]
        return [*list(self.trials.values()), *seeds]

    def count_unfinished(self) -> int:
        """Return the number of trials and seeds that have not ended, proposed or not."""
        ended = sum(trial.is_finished for trial in self.list_trials())
        expected = self.trial_budget + self._count_finalist_runs() + self.options.seeds
        return max(0, expected - ended)

    def _count_finalist_runs(self) -> int:
        """Return the number of further runs of finalists: at most, until their race is decided."""
        created = len(self._finalists.list_trials())
        if self.is_closed:
            return created
        if self.are_trials_done:
            race = self._finalists.find_race(self._pool.list_best())
            return created + count_runs_left(race, self._finalists.runs)
        return count_finalist_runs(min(self.options.finalist_count, self.trial_budget))

    def sum_device_seconds(self) -> float:
        """Return the time of all epochs so far, in seconds of devices."""
        return sum(trial.device_seconds for trial in self.list_trials())

    # --- progress of the search ---

    @property
    def has_proposed_all(self) -> bool:
        """Whether the search proposes no more trials."""
        return (
            self.is_closed or self._proposer.is_exhausted or len(self.trials) >= self.trial_budget
        )

    @property
    def are_trials_done(self) -> bool:
        """Whether every trial of the search has ended, or none runs after an early end."""
        if self.is_closed:
            return not self._pool.has_running
        return self.has_proposed_all and self._pool.all_finished

    @property
    def is_search_done(self) -> bool:
        """Whether all trials have ended, and one of the finalists has won."""
        if not self.are_trials_done:
            return False
        if self.is_closed:
            return all(t.status != TrialStatus.RUNNING for t in self._finalists.list_trials())
        race = self._finalists.find_race(self._pool.list_best())
        return race is None or race.is_decided

    @property
    def is_done(self) -> bool:
        """Whether the winner is confirmed, or nothing can be confirmed."""
        if not self.is_search_done:
            return False
        return self.select_hyperparameters() is None or self._confirmation.is_done

    def describe_times(self) -> MethodTimes:
        """Return the times of all epochs so far, and the number of trials still to start."""
        return self._describe_work(self._finalists.list_trials(), self._count_finalist_runs())

    def _describe_work(self, further: Sequence[Trial], further_runs: int) -> MethodTimes:
        """Return the times with further seeds of finalists, and the number of those to come."""
        seeds = list(self.seeds.values())
        started = [t for t in self.trials.values() if t.is_finished or not self.is_closed]
        planned = PlannedWork(
            stages=self._default_key.list_stage_epochs(),
            trials=len(started) if self.has_proposed_all else self.trial_budget,
            further_runs=further_runs,
            seeds=0 if self.is_done else self.options.seeds,
            search_seeds=self.options.search_seeds,
            scheduler=self.options.scheduler,
            epochs=self.epoch_counts.eligible,
        )
        return describe_work(planned, started, [*further, *seeds], self.rule)

    def estimate_confirmation_seconds(self) -> float:
        """Return the training time of the seeds that are left, as far as epochs are timed."""
        times = self._describe_work([], 0)
        rates = StageRates(times)
        return 0.0 if rates.mean is None else sum(list_work(times, rates)[1])

    def close(self) -> None:
        """End the search early, so that the best trial so far is confirmed.

        Running trials stop after their epoch, and a resumed study continues them. A search without
        an epoch that has a score continues until it has one.
        """
        self._load_waiting_trials()
        if not self.is_search_done and self.find_incumbent() is not None:
            self.is_closed = True

    def _load_waiting_trials(self) -> None:
        """Load all recorded epochs of trials that have not ended, so that they are compared."""
        for trial in self._pool.list_by_status(TrialStatus.WAITING):
            trial.load_epochs(self.rule)

    # --- proposal ---

    def next_trial(self, whole_gpu: bool = False) -> Trial | None:
        """Start the next trial; return None if it depends on running trials, or if all is done.

        Args:
            whole_gpu: Whether to start trials for which a share of a GPU was too small, and only
                those.
        """
        self._pool.drop_losers()
        trial = self._find_waiting(whole_gpu)
        if trial is None and not self.are_trials_done and not whole_gpu:
            trial = self._propose_trial()
        if trial is None:
            self._end_paused_trials()
            if self.are_trials_done and not self.is_closed:
                self._finalists.start_runs(self._pool.list_best())
            if self.is_search_done and not self.seeds:
                self._load_waiting_trials()
                if self.is_closed:
                    self._finalists.load_ended_runs(self._pool.list_best())
                self._confirmation.begin(self.select_hyperparameters())
            trial = self._find_waiting(whole_gpu)
        if trial is not None:
            trial.start()
        return trial

    def _find_waiting(self, whole_gpu: bool) -> Trial | None:
        searched: list[Trial] = []
        if not self.is_closed:
            searched = [*self._pool.list_contenders(), *self._finalists.list_trials()]
        for trial in (*searched, *self.seeds.values()):
            if trial.status == TrialStatus.WAITING and bool(trial.oom_reason) == whole_gpu:
                return trial
        return None

    def _propose_trial(self) -> Trial | None:
        proposed = None if self.has_proposed_all else self._proposer.propose_trial(self.trials)
        return None if proposed is None else self._create_trial(*proposed)

    def _create_trial(self, number: int, values: Hyperparameters) -> Trial:
        trial = self._trial_records.create_trial(Phase.SEARCH, number, values)
        self._pool.add_trial(trial)
        return trial

    # --- reports ---

    def report_epoch(self, trial: Trial, report: EpochReport) -> bool:
        """Take a trial's report; return whether the trial continues.

        Args:
            trial: The trial.
            report: The report of its epoch.

        Raises:
            StorageError: If its record could not be written, again and again.
        """
        if trial.is_finished:
            return False
        if report.status == OUT_OF_MEMORY:
            trial.requeue(oom_reason=report.reason)
            return False
        if report.status == STORAGE_FAILED:
            if not trial.retries.record_failed_write():
                raise StorageError(report.reason)
            trial.requeue()
            return False
        status = TrialStatus(report.status) if report.status else None
        if status != TrialStatus.FAILED:
            trial.add_epoch(report)
        # The last epoch counts on its rung too. Decisions of an earlier session are kept.
        lags = report.score is not None and self._report_to_pruner(trial)
        if lags and status is None and len(trial.scores) > trial.recorded_epochs:
            status = TrialStatus.PRUNED
            trial.write_end(status)
        if status is not None:
            self._end_trial(trial, status, report.reason)
            return False
        if trial.phase == Phase.SEARCH:
            self._paused.report_epochs(trial, None)
            if self._paused.pause_trial(trial):
                self._tell_searcher(trial, TrialStatus.PRUNED)
        if self.is_closed and trial.phase != Phase.CONFIRM and trial.status == TrialStatus.RUNNING:
            trial.requeue()
        self._end_paused_trials()
        return trial.status == TrialStatus.RUNNING

    def _report_to_pruner(self, trial: Trial) -> bool:
        """Report a trial's newest epoch; return whether the trial lags behind."""
        return trial.phase == Phase.SEARCH and self.pruner.report_epoch(trial.number, trial.scores)

    def report_crash(self, trial: Trial, lost_nodes: int = 0, cause: str = "") -> None:
        """Take the crash of a trial's process: the trial has ended, runs again, or has failed.

        Args:
            trial: The trial.
            lost_nodes: Nodes that the cluster has lost so far.
            cause: The cause of the crash, as a clause; empty if it is not known.
        """
        if trial.is_finished or self._restore_end(trial):
            return
        if trial.retries.record_crash(lost_nodes):
            trial.requeue()
            return
        crashes = trial.retries.crashes
        reason = f"the worker process crashed {crashes} times without completing an epoch"
        reason += f"; the last time {cause}" if cause else ""
        trial.write_end(TrialStatus.FAILED, reason)
        self._end_trial(trial, TrialStatus.FAILED, reason)

    def _end_trial(self, trial: Trial, status: TrialStatus, reason: str) -> None:
        trial.end(status, reason)
        if trial.phase == Phase.SEARCH:
            self._tell_searcher(trial, status)
            self._paused.report_epochs(trial, status)
            self._end_paused_trials()

    def _tell_searcher(self, trial: Trial, status: TrialStatus) -> None:
        """Report a trial to the searcher, unless it knows all its epochs."""
        if self.searcher is not None and self._told_epochs.get(trial.number) != len(trial.scores):
            self._told_epochs[trial.number] = len(trial.scores)
            self.searcher.report_trial(trial.number, trial.scores, status)

    def _end_paused_trials(self) -> None:
        if self.has_proposed_all:
            self._paused.end_trials()

    # --- selection ---

    def find_incumbent(self) -> Trial | None:
        """Return the best trial so far, in the end the winner; None if none has a score.

        Where nothing is searched there is none.
        """
        race = self._finalists.find_race(self._pool.list_best()) if self.are_trials_done else None
        return self._pool.find_incumbent() if race is None else self.trials[race.leader]

    def select_hyperparameters(self) -> Hyperparameters | None:
        """Return the hyperparameters that are confirmed; None if there are none."""
        if self.searcher is None:
            return self.space.published()
        winner = self.find_incumbent()
        return None if winner is None else winner.hyperparameters

    # --- resume ---

    def restore_ended_trials(self) -> None:
        """Restore trials that ended on record without a report, such as while a study stopped."""
        for trial in self.list_trials():
            if not trial.is_finished:
                self._restore_end(trial)

    def _restore_trials(self, earlier: Mapping[int, Hyperparameters]) -> None:
        """Restore an earlier session's trials, and the knowledge of searcher and pruner."""
        if self.searcher is None:
            return
        for number, values in earlier.items():
            trial = self._create_trial(number, values)
            self.searcher.add_trial(number, values)
            self._restore_end(trial)
        self._proposer.raise_budget(len(self.trials))
        for trial in self._paused.restore_trials(self.rule):
            self._tell_searcher(trial, TrialStatus.PRUNED)
        self._end_paused_trials()
        self._pool.drop_losers()

    def _restore_end(self, trial: Trial) -> bool:
        """Restore a trial's end from its records; return whether it has ended."""
        if not trial.load_end(self.rule):
            return False
        trial.clean_up()
        if trial.phase == Phase.SEARCH:
            self.pruner.add_finished_trial(trial.number, trial.scores)
        self._end_trial(trial, trial.status, trial.reason)
        return True
