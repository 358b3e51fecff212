"""A configuration that a study trains, with its state and records."""

from dataclasses import dataclass, field
from typing import Literal

from common.hyperparameters import Hyperparameters
from core.recipe.trial_key import TrialKey
from tuning.records.run_data import RunEnd, describe_whole_gpu_retry
from tuning.records.run_record import RunRecord
from tuning.search.retries import Retries
from tuning.selection import Rule, Score, score_records, select_epoch
from tuning.worker.trial_work import EpochReport

Phase = Literal["search", "confirm"]


@dataclass
class Trial:
    """A trial of the search, or a confirmation seed.

    Args:
        phase: ``search`` or ``confirm``.
        number: The trial's number, or the seed.
        hyperparameters: The proposed values.
        runs: The record of each training seed.
        keys: The key of each.
        status: ``waiting``, ``running``, or how it ended.
        reason: Why it failed.
        scores: The score of each epoch so far.
        seconds: Time that its epochs took, over all training seeds.
        device_seconds: The same, multiplied by the devices that it took at each epoch.
        retries: Its crashes and failed writes.
        recorded_epochs: Epochs of its record when it started, which its process replays.
        oom_reason: Why a share of a GPU was too small; it then takes a whole one.
    """

    phase: Phase
    number: int
    hyperparameters: Hyperparameters
    runs: list[RunRecord]
    keys: list[TrialKey]
    status: str = "waiting"
    reason: str = ""
    scores: list[Score | None] = field(default_factory=list)
    seconds: float = 0.0
    device_seconds: float = 0.0
    retries: Retries = field(default_factory=Retries)
    recorded_epochs: int = 0
    oom_reason: str = ""

    @property
    def name(self) -> str:
        """Its name in progress lines and messages."""
        return f"trial {self.number}" if self.phase == "search" else f"seed {self.number}"

    @property
    def is_finished(self) -> bool:
        """Whether it has ended."""
        return self.status not in ("waiting", "running")

    @property
    def best(self) -> Score | None:
        """The score of its best epoch so far."""
        return select_epoch(self.scores)

    @property
    def epochs_done(self) -> int:
        """The number of its epochs, over all training seeds."""
        return len(self.scores) * len(self.runs)

    @property
    def eligible_epochs(self) -> int:
        """The number of its epochs that have a score."""
        return sum(score is not None for score in self.scores)

    def start(self) -> None:
        """Set it running."""
        self.status = "running"
        self.recorded_epochs = min(len(run.read_rows()) for run in self.runs)

    def requeue(self, oom_reason: str = "") -> None:
        """Let it run again, on a whole GPU if a share was too small."""
        self.status = "waiting"
        self.oom_reason = oom_reason or self.oom_reason

    def add_epoch(self, report: EpochReport) -> None:
        """Add a reported epoch; one that a restarted process replays is known already."""
        if report.epoch > len(self.scores):
            self.scores.append(report.score)
            self.retries.reset()
            self.seconds += report.seconds
            self.device_seconds += report.device_seconds

    def end(self, status: str, reason: str) -> None:
        """Set it finished.

        Args:
            status: How it ended.
            reason: Why it failed; empty if it did not.
        """
        retried = describe_whole_gpu_retry(self.oom_reason) if self.oom_reason else ""
        self.status, self.reason = status, reason or retried

    def write_end(self, status: str, reason: str = "") -> None:
        """Write the end of its runs in place of its process; recorded epochs are kept."""
        for run in self.runs:
            run.write_end(RunEnd(status, reason, run.read_rows()))

    def load_end(self, rule: Rule) -> bool:
        """Load status, scores and time from its records; return whether all its runs have ended.

        Args:
            rule: The rule by which epochs are scored.
        """
        ends = [end for run in self.runs if (end := run.read_end()) is not None]
        if len(ends) < len(self.runs):
            self.oom_reason = next((reason for run in self.runs if (reason := run.oom_reason)), "")
            return False
        statuses = [end.status for end in ends]
        self.status = "failed" if "failed" in statuses else statuses[0]
        self.reason = next((end.reason for end in ends if end.reason), "")
        if any(end.retried_whole_gpu for end in ends):
            self.oom_reason = self.oom_reason or self.reason
        self.scores = score_records(rule, self.runs)
        rows = [row for end in ends for row in end.rows]
        self.seconds = sum(row.seconds for row in rows)
        self.device_seconds = sum(row.device_seconds for row in rows)
        return True

    def clean_up(self) -> None:
        """Delete the files that its runs need no more once they have ended."""
        for run in self.runs:
            run.clean_up()
