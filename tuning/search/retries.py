"""When a trial runs again after its worker crashed or its record could not be written.

:class:`tuning.search.method_search.MethodSearch` asks, for the reports that the queue hands to it.
"""

from dataclasses import dataclass

MAX_RETRIES = 3  # after worker crashes (node failures excluded), and after failed writes
# Crashes without a new epoch in between, node failures included. A trial that reaches this limit
# probably takes its nodes down itself, or no node lives long enough for an epoch.
MAX_CRASHES = 20


@dataclass
class Retries:
    """The failures of a trial since its last new epoch.

    Args:
        crashes: Crashes of its worker process.
        failed_writes: Consecutive failed writes of its record.
        lost_nodes: Nodes that the cluster had lost at the first of these crashes; None without one.
    """

    crashes: int = 0
    failed_writes: int = 0
    lost_nodes: int | None = None

    def reset(self) -> None:
        """Forget all failures, since the trial has made progress."""
        self.crashes, self.failed_writes, self.lost_nodes = 0, 0, None

    def record_crash(self, lost_nodes: int) -> bool:
        """Record a crash; return whether the trial may run again.

        It may not after its 20th crash (:data:`MAX_CRASHES`), nor once its crashes exceed
        :data:`MAX_RETRIES` plus the nodes that the cluster has lost since the first of them: these
        crashes are taken for the nodes' failures.

        Args:
            lost_nodes: Nodes that the cluster has lost so far.
        """
        self.crashes += 1
        if self.lost_nodes is None:
            self.lost_nodes = lost_nodes
        own_crashes = self.crashes - (lost_nodes - self.lost_nodes)
        return own_crashes <= MAX_RETRIES and self.crashes < MAX_CRASHES

    def record_failed_write(self) -> bool:
        """Record a failed write; return whether the trial may run again."""
        self.failed_writes += 1
        return self.failed_writes <= MAX_RETRIES
