"""How many trials run at once while nodes come and go, and the autoscaler's notice of more work."""

import time
from collections.abc import Callable

import ray
from ray.autoscaler.sdk import request_resources

from tuning.resources import Resources, alive_nodes, slots

INTERVAL = 5.0  # seconds for which a count of the nodes holds
MOST = 1000  # trials for which an autoscaler is asked at once; its own limits are far below


class Capacity:
    """Counts what fits on the nodes that are alive, and asks an autoscaler for what does not.

    A study proposes no more trials than fit, so no demand would ever show by itself; hence the
    autoscaler, where there is one, is told what the rest of the study could use. As that shrinks,
    idle nodes go.

    Args:
        resources: What a trial takes.
        left: Returns how many trials and seeds have not ended.
    """

    def __init__(self, resources: Resources, left: Callable[[], int]) -> None:
        self.resources = resources
        self.left = left
        self._node = ray.get_runtime_context().get_node_id()
        self._counted = -INTERVAL
        self._slots = 1
        self._asked = 0
        self._missed = 0

    def need(self, resources: Resources) -> None:
        """Count from now on what fits of trials that take something else."""
        if resources != self.resources:
            self.resources = resources
            self._counted = -INTERVAL

    def __call__(self) -> int:
        """Return how many trials run at once now; one at least, which then waits for a node."""
        self._count()
        return self._slots

    @property
    def lost(self) -> bool:
        """Whether this process's own node has died, through which it reaches all others."""
        self._count()
        return self._missed > 1

    def nodes_gone(self) -> int:
        """How many nodes the cluster has lost so far."""
        return sum(not node["Alive"] for node in ray.nodes())

    def _count(self) -> None:
        now = time.monotonic()
        if now - self._counted < INTERVAL:
            return
        self._counted = now
        here = any(node["Alive"] and node["NodeID"] == self._node for node in ray.nodes())
        self._missed = 0 if here else self._missed + 1
        if here:
            self._slots = max(1, slots(alive_nodes(), self.resources))
            self._ask(min(self.left(), MOST))

    def _ask(self, trials: int) -> None:
        # A cluster holds one such request: another study's may have taken its place meanwhile.
        if trials or self._asked:
            request_resources(bundles=[self.resources.bundle] * trials)
            self._asked = trials

    def release(self) -> None:
        """Ask the autoscaler for nothing any more."""
        if not self._missed:
            self._ask(0)
