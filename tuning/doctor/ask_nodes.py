"""Asks the nodes of a Ray cluster for their facts, each by a task pinned to it."""

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import NodeDiedError, RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tuning.doctor.findings import Finding, Level
from tuning.doctor.node_facts import NodeFacts, Requirements, collect_facts, read_clock
from tuning.resources import Node

NODE_LOST = (NodeDiedError, TaskUnschedulableError)
TIMEOUT_SECONDS = 90.0  # of a node's answer: a first process on it may import torch from NFS
CLOCK_TIMEOUT_SECONDS = 20.0


def find_own_node() -> str:
    """Return the id of this process's node."""
    return str(ray.get_runtime_context().get_node_id())


def _pin_to(node: Node) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node.id, soft=False)


def measure_clock_skew(nodes: Sequence[Node]) -> dict[str, float]:
    """Return by how many seconds each node's clock differs from this one's, at least.

    Asked after the facts, when the processes exist: then an answer takes milliseconds, and no more
    than that can hide a difference.
    """
    task: Any = ray.remote(num_cpus=0, max_retries=0)(read_clock)
    start = time.time()
    asked = {task.options(scheduling_strategy=_pin_to(node)).remote(): node.id for node in nodes}
    skew: dict[str, float] = {}
    while asked:
        ready, _ = ray.wait(list(asked), timeout=CLOCK_TIMEOUT_SECONDS)
        arrived = time.time()
        for reference in ready:
            node = asked.pop(reference)
            with suppress(RayError):  # the node left: the study notices by itself
                there = ray.get(reference)
                skew[node] = max(there - arrived, start - there, 0.0)
        if not ready:
            break
    return skew


def ask_nodes(
    requirements: Requirements,
    token: str,
    nodes: Sequence[Node],
    runs_trials: Mapping[str, bool],
    timeout: float,
) -> tuple[dict[str, NodeFacts], list[Finding]]:
    """Return the facts of each node, and a finding for each that gave none.

    Args:
        requirements: The needs of the study.
        token: A name of this check.
        nodes: The nodes.
        runs_trials: Whether a node can hold trials, by id.
        timeout: Seconds for an answer, once a node that can hold trials has answered.
    """
    task: Any = ray.remote(num_cpus=0, max_retries=0)(collect_facts)
    asked = {
        task.options(scheduling_strategy=_pin_to(node)).remote(
            requirements, token, node.id, runs_trials[node.id]
        ): node
        for node in nodes
    }
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=timeout)
    waited = timeout
    rest = TIMEOUT_SECONDS - timeout
    if rest > 0 and late and not any(runs_trials[asked[reference].id] for reference in ready):
        hosts = ", ".join(asked[reference].name for reference in late)
        print(f"no answer from {hosts} after {timeout:g} s; still waiting", file=sys.stderr)
        waited = TIMEOUT_SECONDS
        ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=rest)
    facts: dict[str, NodeFacts] = {}
    broken: list[Finding] = []
    lost: list[tuple[Node, str, str]] = []
    for reference in ready:
        node = asked[reference]
        try:
            facts[node.id] = ray.get(reference)
        except NODE_LOST:
            lost.append((node, "left the cluster during the check", "none, if that was intended"))
        except Exception as error:  # any error of a machine set up differently
            lines = str(error).strip().splitlines() or [type(error).__name__]
            message = f"cannot run the project's code: {lines[-1]}"
            fix = "ray up --no-config-cache FILE, which copies and installs it again"
            broken.append(Finding("error", node.name, message, fix))
    for reference in late:
        ray.cancel(reference, force=True)
        fix = "on the node: ray stop --force; then ray up --no-config-cache --no-restart FILE"
        lost.append((asked[reference], f"did not answer within {waited:g} s", fix))
    # A study can do without a lost node as long as another can hold its trials.
    level: Level = "warning" if any(runs_trials[node] for node in facts) else "error"
    return facts, [*broken, *(Finding(level, n.name, message, fix) for n, message, fix in lost)]
