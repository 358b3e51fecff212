"""The nodes of the cluster that this process has joined, and this machine as a node."""

import os
import socket

import ray
import torch

from common.cpus import count_cpus
from tuning.gpus import list_mig_slices
from tuning.resources import Node

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"


def list_alive_nodes() -> list[Node]:
    """Return the nodes that are alive now."""
    return [
        Node(
            node["NodeManagerHostname"],
            node["Resources"].get("CPU", 0),
            node["Resources"].get("GPU", 0),
            node["NodeID"],
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


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
