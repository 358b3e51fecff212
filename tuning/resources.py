"""Resources: CPUs and GPUs of nodes and of a trial, and how many trials fit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from common.errors import UserError
from tuning.option_values import AUTO, Gpus

GPU_SHARES = (1.0, 0.5, 0.25, 0.125)  # those that fill a GPU
# A process's memory of a GPU beside torch's own: 0.67 GiB on an H100 with the kernels of training.
CUDA_CONTEXT_BYTES = 1024**3


def format_devices(cpus: float, gpus: float) -> str:
    """Return CPUs and GPUs for a message: ``8 CPUs, 1 GPU``."""
    named = ((cpus, "CPU"), (gpus, "GPU"))
    return ", ".join(f"{n:g} {name}{'' if n == 1 else 's'}" for n, name in named)


def torch_memory_fraction(share: float, total: int) -> float:
    """Return the fraction of a GPU that torch may reserve so that its process keeps to a share.

    The process's memory beside torch's, :data:`CUDA_CONTEXT_BYTES`, is subtracted, or half of the
    share if that is less.

    Args:
        share: The process's share.
        total: Bytes of the GPU.
    """
    return max(share - CUDA_CONTEXT_BYTES / total, share / 2)


@dataclass(frozen=True)
class Node:
    """A machine.

    Args:
        name: Its host name or address.
        cpus: CPUs that trials may take.
        gpus: GPUs that trials may take.
        id: Ray's name for it; empty outside of a cluster.
    """

    name: str
    cpus: float
    gpus: float
    id: str = ""

    def __str__(self) -> str:
        """Return its name with its devices."""
        return f"{self.name} ({format_devices(self.cpus, self.gpus)})"


@dataclass(frozen=True)
class Resources:
    """The resources of a trial.

    Args:
        cpus: CPUs, which are also its threads.
        gpus: A share of one GPU, or a number of GPUs.
    """

    cpus: int
    gpus: float

    @property
    def bundle(self) -> dict[str, float]:
        """The resources under Ray's names."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    @property
    def device_share(self) -> float:
        """Devices by which a trial's hours count: GPUs, or CPUs where it has no GPU."""
        return self.gpus or self.cpus

    @property
    def whole_gpu(self) -> "Resources":
        """The same with a whole GPU in place of a share."""
        return replace(self, gpus=1.0) if 0 < self.gpus < 1 else self

    def count_trials(self, node: Node) -> int:
        """Return how many trials run on a node at once."""
        by_cpu = int(node.cpus / self.cpus + 1e-9)
        if not self.gpus:
            return by_cpu
        if self.gpus < 1:  # a share does not span two GPUs
            return min(by_cpu, int(node.gpus) * int(1 / self.gpus + 1e-9))
        return min(by_cpu, int(node.gpus / self.gpus + 1e-9))


def choose_resources(nodes: Sequence[Node], cpus: int, gpus: Gpus) -> Resources:
    """Return the resources of a trial, checked against the nodes.

    Args:
        nodes: The nodes.
        cpus: CPUs as asked.
        gpus: GPUs as asked; None and ``auto`` take one where a node has one.

    Raises:
        UserError: If no node can hold a trial; names the largest node.
    """
    if gpus is None or gpus == AUTO:
        gpus = 1.0 if any(node.gpus for node in nodes) else 0.0
    resources = Resources(cpus, gpus)
    if not any(resources.count_trials(node) for node in nodes):
        if gpus:
            largest = max(nodes, key=lambda node: (node.gpus, node.cpus))
        else:
            largest = max(nodes, key=lambda node: node.cpus)
        raise UserError(
            f"no node can hold a trial of {format_devices(cpus, gpus)}: the largest node is "
            f"{largest}; lower --cpus-per-trial or --gpus-per-trial"
        )
    return resources


def count_slots(nodes: Sequence[Node], resources: Resources) -> int:
    """Return how many trials run at once on all nodes."""
    return sum(resources.count_trials(node) for node in nodes)
