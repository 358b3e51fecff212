"""Resources: what a trial takes, what the nodes have, and how many trials fit."""

import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray._private import ray_constants
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError, RpcError

from common.errors import UserError
from common.project import ROOT, SOURCE_FOLDERS
from datasets.groups.folder import VARIABLE as FOLDER
from tuning.cluster.ray_environment import protect_token
from tuning.doctor import node_facts
from tuning.options import AUTO, Gpus

SHARES = (1.0, 0.5, 0.25, 0.125)  # of a GPU: those that fill it
CONTEXT = 512 * 1024**2  # bytes, about, that a process holds of a GPU beside torch's own memory
VISIBLE = "CUDA_VISIBLE_DEVICES"
MOST_CODE = 50 * 2**20  # bytes of the source folders
# Where an object store is, for workers on other machines; what opens it lies there already.
STORE = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
LOCAL = "local"  # the address of a cluster that a command starts and ends
REFUSED = (
    "does not take this user's token (~/.ray/auth_token, RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN)"
)
READ = (FOLDER, "EVENHAND_CACHE", "HF_HOME", "TORCH_HOME")  # which data and models are read


def devices(cpus: float, gpus: float) -> str:
    """Return CPUs and GPUs as a message says them: ``8 CPUs, 1 GPU``."""
    named = ((cpus, "CPU"), (gpus, "GPU"))
    return ", ".join(f"{n:g} {name}{'' if n == 1 else 's'}" for n, name in named)


def torchs_part(share: float, total: int) -> float:
    """Return which part of a GPU torch may reserve, so that its process keeps to a share.

    What a process holds beside it, :data:`CONTEXT`, is left out, or half of the share if that is
    less.

    Args:
        share: The process's share.
        total: Bytes that the GPU has.
    """
    return max(share - CONTEXT / total, share / 2)


@dataclass(frozen=True)
class Node:
    """A machine.

    Args:
        name: Its host name or address.
        cpus: CPUs that trials may take.
        gpus: GPUs that trials may take.
    """

    name: str
    cpus: float
    gpus: float

    def __str__(self) -> str:
        """Return what a message says of it."""
        return f"{self.name} ({devices(self.cpus, self.gpus)})"


@dataclass(frozen=True)
class Resources:
    """What a trial takes.

    Args:
        cpus: CPUs, which are also its threads.
        gpus: A share of one GPU, or a number of GPUs.
    """

    cpus: int
    gpus: float

    @property
    def bundle(self) -> dict[str, float]:
        """The resources as Ray names them."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    @property
    def device_share(self) -> float:
        """Devices by which a trial's hours count: GPUs, or CPUs where it has no GPU."""
        return self.gpus or self.cpus

    @property
    def whole_gpu(self) -> "Resources":
        """The same with a whole GPU in place of a share."""
        return replace(self, gpus=1.0) if 0 < self.gpus < 1 else self

    def fit(self, node: Node) -> int:
        """Return how many trials run on a node at once."""
        by_cpu = int(node.cpus / self.cpus + 1e-9)
        if not self.gpus:
            return by_cpu
        if self.gpus < 1:  # shares do not cross the border between two GPUs
            return min(by_cpu, int(node.gpus) * int(1 / self.gpus + 1e-9))
        return min(by_cpu, int(node.gpus / self.gpus + 1e-9))


def local_nodes() -> list[Node]:
    """Return this machine as the only node."""
    gpus = 0
    if torch.cuda.is_available():
        gpus = len(_cut_devices()) or torch.cuda.device_count()
    allowed = getattr(os, "sched_getaffinity", None)  # not everywhere, but it knows containers
    cpus = len(allowed(0)) if allowed else os.cpu_count() or 1
    return [Node(socket.gethostname(), cpus, gpus)]


def _cut_devices() -> list[str]:
    """Return CUDA's names of this machine's devices if some are MIG slices, else nothing.

    CUDA itself shows a process one slice only, and Ray counts GPUs.
    """
    named = os.environ.get(VISIBLE)
    if named is None:
        slices = node_facts.mig_slices()
        found = [uuid for gpu, cut in slices.items() for uuid in [u for _, u in cut] or [gpu]]
    else:
        found = named.split(",")
    return found if any(name.startswith("MIG-") for name in found) else []


def choose(nodes: list[Node], cpus: int, gpus: Gpus) -> Resources:
    """Return what a trial takes, checked against the nodes.

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
    if not any(resources.fit(node) for node in nodes):
        largest = max(nodes, key=lambda node: (node.gpus, node.cpus)) if gpus else max(
            nodes, key=lambda node: node.cpus
        )  # fmt: skip
        raise UserError(
            f"no node can hold a trial of {devices(cpus, gpus)}: the largest node is "
            f"{largest}; lower --cpus-per-trial or --gpus-per-trial"
        )
    return resources


def slots(nodes: list[Node], resources: Resources) -> int:
    """Return how many trials run at once on all nodes."""
    return sum(resources.fit(node) for node in nodes)


def cluster_address(asked: str | None) -> str | None:
    """Return the Ray cluster to join; None for a local one of this command's own.

    ``--address``, then the variable ``RAY_ADDRESS``, where ``local`` asks for one of this command's
    own; then a cluster that ``ray start`` or ``ray up`` left running on this machine, unless it is
    somebody else's.

    Raises:
        UserError: If nothing listens at the address that was asked for, or it refuses the token.
    """
    for source, address in (("--address", asked), ("RAY_ADDRESS", os.environ.get("RAY_ADDRESS"))):
        if address == LOCAL:
            return None
        if address:
            if reason := _silent(address):
                raise UserError(f"{source}: no Ray cluster at '{address}': {reason}")
            if _refused(address):
                raise UserError(
                    f"{source}: the Ray cluster at '{address}' {REFUSED}; copy it from its head, "
                    f"or take one of this command's own with --address {LOCAL}"
                )
            return address
    noted = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    address = noted.read_text().strip() if noted.exists() else ""
    if not address or _silent(address):
        return None
    if _refused(address):
        told = f"the Ray cluster at '{address}', found on this machine, {REFUSED}"
        print(f"{told}: a local one of this command's own takes its place", file=sys.stderr)
        return None
    return address


def _silent(address: str) -> str:
    """Return why nothing listens at an address, or nothing; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return ""
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return ""


def _refused(address: str) -> bool:
    """Return whether a cluster takes no commands with this user's token.

    Ray itself would try for long, and say only that it cannot connect.
    """
    if "://" in address or not address.rpartition(":")[2].isdigit():
        return False
    with _quiet():
        try:
            GcsClient(address=address)
        except AuthenticationError:
            return True
        except RpcError:  # what else is wrong, ray.init says
            return False
    return False


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Ray's C++ writes to the standard error out of sight."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


def travelling_code() -> dict[str, Any]:
    """Return what makes Ray send this command's code to the workers, in place of their own.

    Ray stores it under its hash, so commands with other code do not meet.

    Raises:
        UserError: If there is more of it than code can be.
    """
    files = [
        path
        for name in SOURCE_FOLDERS
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    sizes = {path: path.stat().st_size for path in files}
    total = sum(sizes.values())
    if total > MOST_CODE:
        largest = max(sizes, key=lambda path: sizes[path])
        raise UserError(
            f"the code that goes to the workers, {', '.join(SOURCE_FOLDERS)}, has "
            f"{total / 2**20:.0f} MiB, expected at most {MOST_CODE / 2**20:.0f}: move "
            f"'{largest.relative_to(ROOT)}' and the like out of these folders"
        )
    others = [f"/{path.name}" for path in ROOT.iterdir() if path.name not in SOURCE_FOLDERS]
    here = os.getcwd()

    def enter() -> None:  # a model's folder, say, may be named from there
        if os.path.isdir(here):
            os.chdir(here)

    return {
        "working_dir": str(ROOT),
        "excludes": [*others, "__pycache__"],
        "worker_process_setup_hook": enter,
    }


@contextmanager
def cluster(address: str | None) -> Iterator[list[Node]]:
    """Join a Ray cluster, or start a local one that ends with the block; give its nodes.

    Raises:
        UserError: If there is no cluster at the address.
    """
    environment = {"PYTHONWARNINGS": "ignore"}
    travelling = (*STORE, *READ)
    environment |= {name: os.environ[name] for name in travelling if name in os.environ}
    code = travelling_code() if address else {}
    if not address:
        environment["PYTHONPATH"] = str(ROOT)
    arguments: dict[str, Any] = {"address": address} if address else _local_arguments()
    protect_token()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ray.init(
                **arguments,
                logging_level=logging.ERROR,
                log_to_driver=False,
                runtime_env={"env_vars": environment, **code},
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            first = str(error).strip().splitlines()[0]
            where = f"at '{address}'" if address else "could be started here"
            raise UserError(f"no Ray cluster {where}: {first}") from None
        finally:
            protect_token()
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield alive_nodes()
    finally:
        sys.stdout.flush()
        ray.shutdown()


def alive_nodes() -> list[Node]:
    """Return the nodes that the joined cluster has now."""
    return [
        Node(
            node["NodeManagerHostname"],
            node["Resources"].get("CPU", 0),
            node["Resources"].get("GPU", 0),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def _local_arguments() -> dict[str, Any]:
    # Ray takes an address that others reach, and listens on all, unless it is to be no cluster.
    # The switch is the process's, which joins a cluster or starts its own, never both.
    ray_constants.ENABLE_RAY_CLUSTER = False
    (node,) = local_nodes()
    if node.gpus and (cut := _cut_devices()):
        os.environ[VISIBLE] = ",".join(cut)  # of which Ray gives each trial its own
    return {
        "address": "local",
        "num_cpus": int(node.cpus),
        "num_gpus": int(node.gpus),
        "include_dashboard": False,
    }
