"""A trial on a worker: all its training seeds, trained epoch by epoch in turn.

Independent of Ray. :mod:`tuning.search.retries` decides whether a trial runs again after its worker
crashed or its record could not be written.
"""

import torch

from core.training import selection
from core.training.selection import Patience, Score
from core.training.steps import BatchTooLarge
from tuning.records.run_data import TrialStatus
from tuning.records.run_record import RunRecord
from tuning.records.storage import StorageError
from tuning.worker.recorded_run import RecordedRun
from tuning.worker.trial_work import OUT_OF_MEMORY, STORAGE_FAILED, EpochReport, TrialWork


class TrialRunner:
    """Trains the runs of one trial.

    Args:
        work: The runs and their options.
    """

    def __init__(self, work: TrialWork) -> None:
        self.gpu_share = work.gpu_share
        self.runs = [
            RecordedRun(RunRecord(run.folder), run.key, work.options, work.gpu_share)
            for run in work.runs
        ]
        self.rule = selection.get_rule(work.options.rule)
        self.progress = Patience(
            work.runs[0].key.training_config.patience, self.rule, work.options.constant_metric
        )

    def train_epoch(self) -> EpochReport:
        """Return the next epoch's report; the trial ends after its last epoch or patience.

        Any error in training ends the trial with its reason, never the study. A trial that ran out
        of memory on a share of a GPU does not end: it runs again, once, with a whole one. A
        trial whose record cannot be written is retried as well.
        """
        try:
            seen = [run.train_next_epoch() for run in self.runs]
            score = selection.score_epoch(self.rule, seen)
            status = self._next_status(score, seen[0].epoch_row.eligible)
            if status:
                self._finish_runs(status)
        except StorageError as error:  # which says nothing about the trial
            return EpochReport(status=STORAGE_FAILED, reason=str(error))
        except Exception as error:  # recorded with its reason; the search continues
            return self._report_error(error)
        rows = [run.rows[-1] for run in self.runs]
        return EpochReport(
            epoch=rows[0].epoch,
            seconds=sum(row.seconds for row in rows),
            device_seconds=sum(row.device_seconds for row in rows),
            score=score,
            status=status or "",
        )

    def _report_error(self, error: Exception) -> EpochReport:
        """Record an error of training and return its report."""
        reason = f"{type(error).__name__}: {error}"
        if not self._may_fit_whole_gpu(error):
            self._finish_runs(TrialStatus.FAILED, reason)
            return EpochReport(status=TrialStatus.FAILED, reason=reason)
        for run in self.runs:
            run.record.write_oom_reason(reason)
        return EpochReport(status=OUT_OF_MEMORY, reason=reason)

    def _may_fit_whole_gpu(self, error: Exception) -> bool:
        """Return whether memory ran out on a share of a GPU, and no whole one was tried yet."""
        cause = error.__cause__ if isinstance(error, BatchTooLarge) else error
        return (
            isinstance(cause, torch.OutOfMemoryError)
            and 0 < self.gpu_share < 1
            and not any(run.record.oom_reason for run in self.runs)
        )

    def _next_status(self, score: Score | None, eligible: bool) -> TrialStatus | None:
        """Take an epoch's score in; return how the trial ends with it, None if it does not."""
        has_stalled = self.progress.add_score(score, eligible)
        if len(self.runs[0].rows) >= self.runs[0].total_epochs:
            return TrialStatus.COMPLETED
        if has_stalled:
            return TrialStatus.STOPPED_EARLY
        return None

    def _finish_runs(self, status: TrialStatus, reason: str = "") -> None:
        for run in self.runs:
            run.write_end(status, reason)
