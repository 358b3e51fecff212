"""The nodes of the cluster that this process has joined, and this machine as a node."""

import os
import socket
from dataclasses import dataclass

import ray
import torch
from ray.exceptions import RayError

from common.cpus import count_cpus
from common.errors import UserError
from tuning.gpus import list_mig_slices
from tuning.resources import Node

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class ClusterNodes:
    """The nodes that a cluster has had.

    Args:
        alive: Those that are alive.
        lost: The number of the others.
    """

    alive: list[Node]
    lost: int


def list_nodes() -> ClusterNodes:
    """Return the nodes that the cluster has had until now.

    Raises:
        UserError: If the cluster does not answer.
    """
    alive: list[Node] = []
    lost = 0
    try:
        records = ray.nodes()
    except RayError as error:
        first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise UserError(f"the Ray cluster does not answer: {first}") from None
    for record in records:
        match record:
            case {"Alive": False}:
                lost += 1
            case {"NodeID": id, "NodeManagerHostname": name, "Resources": devices}:
                alive.append(Node(name, devices.get("CPU", 0), devices.get("GPU", 0), id))
            case _:
                raise TypeError(f"Ray described a node in an unknown form: {record}")
    return ClusterNodes(alive, lost)


def local_node() -> Node:
    """Return this machine as a node."""
    gpus = 0
    if torch.cuda.is_available():
        gpus = len(mig_devices()) or torch.cuda.device_count()
    return Node(socket.gethostname(), count_cpus(), gpus)


def mig_devices() -> list[str]:
    """Return CUDA's names of this machine's devices if some are MIG slices, else nothing.

    CUDA itself shows a process one slice only, and Ray counts GPUs.
    """
    named = os.environ.get(VISIBLE_DEVICES)
    if named is None:
        slices = list_mig_slices()
        found = [uuid for gpu, cut in slices.items() for uuid in [u for _, u in cut] or [gpu]]
    else:
        found = named.split(",")
    return found if any(name.startswith("MIG-") for name in found) else []
