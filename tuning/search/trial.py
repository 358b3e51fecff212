"""A trial of a study: hyperparameters that it trains, with their state and records."""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest

from common.hyperparameters import Hyperparameters
from core.recipe.recipe import StageEpochs
from core.recipe.trial_key import TrialKey
from core.training.selection import Rule, Score, select_epoch
from tuning.records.run_data import (
    Phase,
    RunEnd,
    TrialStatus,
    combine_ends,
    describe_whole_gpu_retry,
)
from tuning.records.run_record import RunRecord
from tuning.search.recorded_scores import score_records
from tuning.search.retries import Retries
from tuning.search.time_left import TrialTimes
from tuning.worker.trial_work import EpochReport


@dataclass
class Trial:
    """A trial of the search, a further seed of one, or a confirmation seed.

    Args:
        phase: Its role.
        number: The trial's number, or the seed.
        hyperparameters: The proposed values.
        runs: The record of each training seed.
        keys: The key of each.
        status: ``waiting``, ``running``, or how it ended.
        reason: Why it failed.
        scores: The score of each epoch so far.
        epoch_seconds: Time that each epoch took, over all training seeds.
        device_seconds: Their sum, each multiplied by the devices that it took.
        retries: Its crashes and failed writes.
        recorded_epochs: Epochs of its record when it started, which its process replays.
        oom_reason: Why a share of a GPU was too small; it then takes a whole one.
        is_default: Whether it is the search's trial of the default hyperparameters.
    """

    phase: Phase
    number: int
    hyperparameters: Hyperparameters
    runs: list[RunRecord]
    keys: list[TrialKey]
    status: TrialStatus = TrialStatus.WAITING
    reason: str = ""
    scores: list[Score | None] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    device_seconds: float = 0.0
    retries: Retries = field(default_factory=Retries)
    recorded_epochs: int = 0
    oom_reason: str = ""
    is_default: bool = False

    @property
    def name(self) -> str:
        """Its name in progress lines and messages."""
        if self.phase == Phase.FINALIST:
            return f"trial {self.number}, seed {self.keys[0].seed}"
        return f"trial {self.number}" if self.phase == Phase.SEARCH else f"seed {self.number}"

    @property
    def is_finished(self) -> bool:
        """Whether it has ended."""
        return self.status.has_ended

    @property
    def best(self) -> Score | None:
        """The score of its best epoch so far."""
        return select_epoch(self.scores)

    @property
    def epochs_done(self) -> int:
        """The number of its epochs, over all training seeds."""
        return len(self.scores) * len(self.runs)

    @property
    def seconds(self) -> float:
        """The time of all epochs, over all training seeds."""
        return sum(self.epoch_seconds)

    @cached_property
    def stages(self) -> tuple[StageEpochs, ...]:
        """The epochs of each stage."""
        return self.keys[0].list_stage_epochs()

    @property
    def times(self) -> TrialTimes:
        """The times of its epochs."""
        return TrialTimes(self.stages, tuple(self.epoch_seconds), self.status, len(self.runs))

    @property
    def eligible_epochs(self) -> int:
        """The number of its epochs that have a score."""
        return sum(score is not None for score in self.scores)

    def start(self) -> None:
        """Set it running."""
        self.status = TrialStatus.RUNNING
        self.recorded_epochs = min(len(run.read_rows()) for run in self.runs)

    def requeue(self, oom_reason: str = "") -> None:
        """Let it run again, on a whole GPU if a share was too small."""
        self.status = TrialStatus.WAITING
        self.oom_reason = oom_reason or self.oom_reason

    def pause(self) -> None:
        """Let it wait for its promotion."""
        self.status = TrialStatus.PAUSED

    def promote(self) -> None:
        """Let a paused trial continue; one that an earlier session ended is reopened."""
        for run in self.runs:
            run.reopen()
        self.status, self.reason = TrialStatus.WAITING, ""

    def add_epoch(self, report: EpochReport) -> None:
        """Add a reported epoch; one that a restarted process replays is known already."""
        if report.epoch > len(self.scores):
            self.scores.append(report.score)
            self.retries.reset()
            self.epoch_seconds.append(report.seconds)
            self.device_seconds += report.device_seconds

    def end(self, status: TrialStatus, reason: str) -> None:
        """Set it finished.

        Args:
            status: How it ended.
            reason: Why it failed; empty if it did not.
        """
        retried = describe_whole_gpu_retry(self.oom_reason) if self.oom_reason else ""
        self.status, self.reason = status, reason or retried

    def write_end(self, status: TrialStatus, reason: str = "") -> None:
        """Write the end of its runs in place of its process; recorded epochs are kept."""
        for run in self.runs:
            run.write_end(RunEnd(status, reason, run.read_rows()))

    def load_end(self, rule: Rule) -> bool:
        """Load status, scores and time from its records; return whether all its runs have ended.

        Args:
            rule: The rule by which epochs are scored.
        """
        ends = [run.read_end() for run in self.runs]
        combined = combine_ends(ends)
        if combined is None:
            self.oom_reason = next((reason for run in self.runs if (reason := run.oom_reason)), "")
            return False
        self.status, self.reason = combined.status, combined.reason
        if combined.retried_whole_gpu:
            self.oom_reason = self.oom_reason or self.reason
        self.scores = score_records(rule, self.runs)
        curves = [end.rows for end in ends if end is not None]
        self.epoch_seconds = [
            sum(row.seconds for row in rows if row is not None) for rows in zip_longest(*curves)
        ]
        self.device_seconds = sum(row.device_seconds for rows in curves for row in rows)
        return True

    def load_epochs(self, rule: Rule) -> None:
        """Load scores and times of a trial that has not ended from its records.

        Args:
            rule: The rule by which epochs are scored.
        """
        self.scores = score_records(rule, self.runs)
        epochs = list(zip(*(run.read_rows() for run in self.runs), strict=False))
        self.epoch_seconds = [sum(row.seconds for row in rows) for rows in epochs]
        self.device_seconds = sum(row.device_seconds for rows in epochs for row in rows)

    def clean_up(self) -> None:
        """Delete the files that its runs need no more once they have ended."""
        for run in self.runs:
            run.clean_up()
