"""The only uses of Ray's private interface, each where Ray has no public one.

``tests/tuning/cluster/test_ray_private.py`` fails with a release of Ray that changes them.
"""

from enum import Enum
from pathlib import Path

from ray._common.utils import get_default_ray_temp_dir
from ray._private import ray_constants, services, worker
from ray._raylet import InnerGcsClient  # type: ignore[attr-defined]
from ray.air.execution._internal import RayActorManager
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import (
    AuthenticationError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    RpcError,
)
from ray.tune.execution import tune_controller

KNOWN_TO_TUNE = (RayActorError, RayTaskError)  # errors that it hands on
LOW_MEMORY = "Ray ended it because its machine was low on memory"
CRASHED_AT_START = "probably it crashed during start"  # in a line of the node's process
CANNOT_IMPORT = "failed to import on the worker"  # in the error of an actor


class HeadAnswer(Enum):
    """Answers of a cluster's head to a process that wants to join."""

    JOINS = "joins"
    REFUSES_TOKEN = "refuses token"
    NO_ANSWER = "no answer"
    NOT_A_NODE = "not a node"  # this machine


def listen_on_loopback() -> None:
    """Let this process use loopback only: the cluster that it starts next, or the one it joins.

    Ray otherwise takes an address that other machines reach, and listens on all. The switch is the
    process's, which joins a cluster or starts its own, never both.
    """
    ray_constants.ENABLE_RAY_CLUSTER = False


def find_temporary_folder() -> str:
    """Return the folder of Ray's temporary files, which its variables or the system's name."""
    return str(get_default_ray_temp_dir())


def read_noted_address(folder: str | None) -> str | None:
    """Return the address that ``ray start`` noted last; None if there is no note.

    Args:
        folder: Ray's folder of temporary files; None for the one that Ray itself takes here.
    """
    try:
        noted = services.find_bootstrap_address(folder)
    except (OSError, UnicodeDecodeError):  # another user's
        return None
    return str(noted) if noted else None


def list_running_addresses() -> list[str]:
    """Return the addresses of the clusters of which this machine is a node."""
    return sorted(services.find_gcs_addresses())


def ask_head(address: str, timeout: float) -> HeadAnswer:
    """Return how the head of a cluster answers this process; ``ray.init`` would try for minutes.

    Args:
        address: Its address.
        timeout: Seconds for an answer, once it is connected.
    """
    try:
        client = InnerGcsClient.standalone(address, None, int(timeout * 1000))
        nodes = {node.hex() for node in client.get_all_node_info(timeout=timeout)}
    except AuthenticationError:
        return HeadAnswer.REFUSES_TOKEN
    except RpcError:
        return HeadAnswer.NO_ANSWER
    here = services.find_node_ids()
    return HeadAnswer.JOINS if nodes & set(here) else HeadAnswer.NOT_A_NODE


class CrashingActorManager(RayActorManager):
    """Takes any error of Ray's for a crash of the process that has it.

    Tune itself knows one kind and ends at the others, such as that of a process that Ray ended
    because its machine had no memory left.
    """

    def _actor_task_failed(
        self, tracked_actor_task: TrackedActorTask, exception: Exception
    ) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, KNOWN_TO_TUNE):
            is_low = isinstance(exception, OutOfMemoryError)
            exception = RayActorError(error_msg=LOW_MEMORY if is_low else str(exception))
        super()._actor_task_failed(tracked_actor_task, exception)


def take_errors_for_crashes() -> None:
    """Let Tune drive its processes with :class:`CrashingActorManager` from now on."""
    tune_controller.RayActorManager = CrashingActorManager  # type: ignore[attr-defined]


def is_own_cluster() -> bool:
    """Return whether this process started the cluster, so that all workers run on this machine."""
    node = worker.global_worker.node
    return node is not None and bool(node.is_head())


def has_worker_crashed() -> bool:
    """Return whether a worker of this process's own cluster died while it started.

    Ray starts another then, and writes that into the log of its node's process only.
    """
    return any(CRASHED_AT_START in line for line in _read_log("raylet.err"))


def read_last_words() -> str:
    """Return the last line that a worker of this process's own cluster wrote; empty without any."""
    lines = [line for line in _read_log("raylet.err") if "(raylet)" not in line]
    lines += [line for line in _read_log("worker-*.err") if not line.startswith(":")]
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _read_log(pattern: str) -> list[str]:
    """Return the lines of the logs of a name, oldest log first."""
    node = worker.global_worker.node
    if node is None:  # not connected
        return []
    folder = Path(node.get_logs_dir_path())
    logs = sorted(folder.glob(pattern), key=lambda log: log.stat().st_mtime)
    texts = [log.read_text(encoding="utf-8", errors="replace") for log in logs]
    return [line for text in texts for line in text.splitlines()]
