"""What a study tries: a configuration of the search or a confirmation seed, and its state."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from common.hyperparameters import Hyperparameters
from tuning import selection
from tuning.records.run_record import RunRecord
from tuning.resources import Resources
from tuning.selection import Row, Score, score_records


@dataclass
class Trial:
    """A configuration of the search, or a confirmation seed.

    Args:
        phase: ``search`` or ``confirm``.
        number: The configuration's number, or the seed.
        hyperparameters: Values of the hyperparameters, fixed ones included.
        runs: The record of each training seed.
        keys: The key of each, as plain data.
        status: ``waiting``, ``running``, or how it ended.
        reason: Why it failed.
        scores: The score of each epoch so far.
        seconds: What its epochs took, over all training seeds.
        crashes: Crashes of its process since its last new epoch.
        failed_writes: Failed writes of its record since its last new epoch.
        lost_nodes: Nodes that the cluster had lost at the first of these crashes.
        recorded_epochs: Epochs of its record when it started, which its process replays.
        oom_reason: Why it did not fit into its share of a GPU; it then takes a whole one.
    """

    phase: str
    number: int
    hyperparameters: Hyperparameters
    runs: list[RunRecord]
    keys: list[dict[str, Any]]
    status: str = "waiting"
    reason: str = ""
    scores: list[Score | None] = field(default_factory=list)
    seconds: float = 0.0
    crashes: int = 0
    failed_writes: int = 0
    lost_nodes: int | None = None
    recorded_epochs: int = 0
    oom_reason: str = ""

    @property
    def name(self) -> str:
        """What progress calls it."""
        return f"trial {self.number}" if self.phase == "search" else f"seed {self.number}"

    @property
    def is_finished(self) -> bool:
        """Whether it has ended."""
        return self.status not in ("waiting", "running")

    @property
    def best(self) -> Score | None:
        """The best epoch's score so far."""
        return max((score for score in self.scores if score is not None), default=None)

    @property
    def epochs_done(self) -> int:
        """The epochs done, over all training seeds."""
        return len(self.scores) * len(self.runs)

    @property
    def eligible_epochs(self) -> int:
        """The epochs done that selection looks at."""
        return sum(score is not None for score in self.scores)

    def device_share(self, resources: Resources) -> float:
        """Return the devices by which its hours count."""
        return (resources.whole_gpu if self.oom_reason else resources).device_share

    def add_epoch(self, rows: Sequence[Row], score: Score | None) -> None:
        """Add an epoch; one that is known already, from a process that died, changes nothing."""
        if int(rows[0]["epoch"]) > len(self.scores):
            self.scores.append(score)
            self.crashes, self.failed_writes, self.lost_nodes = 0, 0, None  # it gets on
            self.seconds += sum(float(row["seconds"]) for row in rows)

    def restore_end(self, rule: selection.Rule) -> bool:
        """Fill in what the records hold of an ended configuration; return whether it has ended."""
        ends = [end for folder in self.runs if (end := folder.read_end()) is not None]
        if len(ends) < len(self.runs):
            self.oom_reason = next(
                (found for folder in self.runs if (found := folder.oom_reason)), ""
            )
            return False
        statuses = [end.status for end in ends]
        self.status = "failed" if "failed" in statuses else statuses[0]
        self.reason = next((end.reason for end in ends if end.reason), "")
        if any(end.retried_whole_gpu for end in ends):
            self.oom_reason = self.oom_reason or self.reason
        self.scores = score_records(rule, self.runs)
        self.seconds = sum(float(row["seconds"]) for end in ends for row in end.rows)
        return True

    def clean_up(self) -> None:
        """Drop what the records of an ended configuration need no more."""
        for folder in self.runs:
            folder.clean_up()
