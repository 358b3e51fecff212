"""Trial slots as nodes come and go: how many there are, and requests to an autoscaler."""

import time
from collections.abc import Callable

import ray
from ray.autoscaler.sdk import request_resources

from tuning.cluster.nodes import list_nodes
from tuning.resources import Resources, count_slots

COUNT_SECONDS = 5.0  # the node count is cached for this long
MAX_REQUESTED_TRIALS = 1000  # of an autoscaler at once; its own limits are far below


class Capacity:
    """Counts the trials that fit on the live nodes, and asks an autoscaler for room for the rest.

    A study proposes no more trials than fit, so Ray would see no demand for nodes; hence the
    autoscaler, where there is one, is asked for all that the rest of the study could use. As that
    shrinks, idle nodes are removed.

    Args:
        resources: The resources of a trial.
        count_unfinished: Returns how many trials and seeds have not ended.
    """

    def __init__(self, resources: Resources, count_unfinished: Callable[[], int]) -> None:
        self.resources = resources
        self.count_unfinished = count_unfinished
        self._own_node = ray.get_runtime_context().get_node_id()
        self._counted_at = -COUNT_SECONDS
        self._slots = 1
        self._requested = 0
        self._missed = 0

    def change_resources(self, resources: Resources) -> None:
        """Count trials that take these resources from now on."""
        if resources != self.resources:
            self.resources = resources
            self._counted_at = -COUNT_SECONDS

    def count_slots(self) -> int:
        """Return how many trials can run at once; at least one, which then waits for a node."""
        self._update()
        return self._slots

    def check_own_node(self) -> bool:
        """Return whether this process's own node is alive, through which it reaches all others."""
        self._update()
        return self._missed <= 1

    def count_lost_nodes(self) -> int:
        """Return how many nodes the cluster has lost so far."""
        return list_nodes().lost

    def _update(self) -> None:
        now = time.monotonic()
        if now - self._counted_at < COUNT_SECONDS:
            return
        self._counted_at = now
        nodes = list_nodes().alive
        if any(node.id == self._own_node for node in nodes):
            self._missed = 0
            self._slots = max(1, count_slots(nodes, self.resources))
            self._request(min(self.count_unfinished(), MAX_REQUESTED_TRIALS))
        else:
            self._missed += 1

    def _request(self, trials: int) -> None:
        # A cluster keeps one such request: another study's may have replaced it meanwhile.
        if trials or self._requested:
            request_resources(bundles=[self.resources.bundle] * trials)
            self._requested = trials

    def release(self) -> None:
        """Withdraw the request to the autoscaler."""
        if not self._missed:
            self._request(0)
