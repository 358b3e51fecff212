"""The only uses of Ray's private interface, each where Ray has no public one.

``tests/tuning/cluster/test_ray_private.py`` fails with a release of Ray that changes them.
"""

from enum import Enum

from ray._common.utils import get_default_ray_temp_dir
from ray._private import ray_constants, services
from ray._raylet import InnerGcsClient  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError, RpcError


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
