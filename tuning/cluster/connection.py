"""Finds a Ray cluster to join, or starts one on this machine."""

import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

import ray

from common.errors import UserError
from tuning.cluster import ray_private
from tuning.cluster.nodes import VISIBLE_DEVICES, list_alive_nodes, local_node, mig_devices
from tuning.cluster.ray_environment import protect_token
from tuning.cluster.runtime_environment import make_runtime_environment
from tuning.resources import Node

LOCAL = "local"  # the address of a cluster that a command starts and ends
TOKEN_REFUSED = (
    "refuses this user's token (~/.ray/auth_token, RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN)"
)


class RayArguments(TypedDict, total=False):
    """Arguments of ``ray.init`` that differ between joining a cluster and starting one."""

    address: str
    num_cpus: int
    num_gpus: int
    include_dashboard: bool


def find_cluster(asked: str | None) -> str | None:
    """Return the address of the Ray cluster to join; None for a local one of this command's own.

    ``--address``, then the variable ``RAY_ADDRESS``, where ``local`` asks for one of this command's
    own; then a cluster that ``ray start`` or ``ray up`` left running on this machine, unless it is
    another user's.

    Raises:
        UserError: If nothing listens at the given address, or the cluster refuses the token.
    """
    for source, address in (("--address", asked), ("RAY_ADDRESS", os.environ.get("RAY_ADDRESS"))):
        if address == LOCAL:
            return None
        if address:
            if reason := _connection_error(address):
                raise UserError(f"{source}: no Ray cluster at '{address}': {reason}")
            if _refuses_token(address):
                raise UserError(
                    f"{source}: the Ray cluster at '{address}' {TOKEN_REFUSED}; copy the token "
                    f"from its head, or start a local cluster with --address {LOCAL}"
                )
            return address
    current = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    address = current.read_text().strip() if current.exists() else ""
    if not address or _connection_error(address):
        return None
    if _refuses_token(address):
        refusal = f"the Ray cluster at '{address}', found on this machine, {TOKEN_REFUSED}"
        print(f"{refusal}: starting a local one", file=sys.stderr)
        return None
    return address


def _connection_error(address: str) -> str:
    """Return why nothing listens at an address, or nothing; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return ""
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    return ""


def _refuses_token(address: str) -> bool:
    if "://" in address or not address.rpartition(":")[2].isdigit():
        return False
    with _hide_stderr():
        return ray_private.refuses_token(address)


@contextmanager
def _hide_stderr() -> Iterator[None]:
    """Hide the output of Ray's C++ code on the standard error."""
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(null)
        os.close(kept)


@contextmanager
def join_cluster(address: str | None) -> Iterator[list[Node]]:
    """Join a Ray cluster, or start a local one that ends with the block; yield its nodes.

    Raises:
        UserError: If there is no cluster at the address.
    """
    arguments = RayArguments(address=address) if address else _local_arguments()
    environment = make_runtime_environment(local=not address)
    protect_token()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ray.init(
                **arguments,
                runtime_env=environment,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            first = str(error).strip().splitlines()[0]
            if address:
                raise UserError(f"no Ray cluster at '{address}': {first}") from None
            raise UserError(f"cannot start Ray on this machine: {first}") from None
        finally:
            protect_token()
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield list_alive_nodes()
    finally:
        sys.stdout.flush()
        ray.shutdown()


def _local_arguments() -> RayArguments:
    """Return the arguments of ``ray.init`` that start a cluster on this machine."""
    ray_private.listen_on_loopback()
    node = local_node()
    if node.gpus and (devices := mig_devices()):
        os.environ[VISIBLE_DEVICES] = ",".join(devices)  # of which Ray gives each trial its own
    return {
        "address": "local",
        "num_cpus": int(node.cpus),
        "num_gpus": int(node.gpus),
        "include_dashboard": False,
    }
