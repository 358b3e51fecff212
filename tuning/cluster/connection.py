"""Joins a Ray cluster, or starts one on this machine."""

import logging
import os
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypedDict

import ray

from common.errors import UserError
from common.files import find_existing_parent
from tuning.cluster import ray_private
from tuning.cluster.nodes import VISIBLE_DEVICES, list_nodes, local_node, mig_devices
from tuning.cluster.ray_environment import TOKEN, protect_token
from tuning.cluster.runtime_environment import make_runtime_environment, pass_variables_on
from tuning.resources import Node

# The variables that name the folder of Ray's temporary files, in Ray's order.
SESSION_MARK = "evenhand"  # a file in the folders of Ray's sessions that studies start
TEMPORARY_FOLDERS = ("RAY_TMPDIR", "TMPDIR")


class RayArguments(TypedDict, total=False):
    """Arguments of ``ray.init`` that differ between joining a cluster and starting one."""

    address: str
    num_cpus: int
    num_gpus: int
    include_dashboard: bool


@contextmanager
def join_cluster(address: str | None) -> Iterator[list[Node]]:
    """Join a Ray cluster, or start a local one that ends with the block; yield its nodes.

    Raises:
        UserError: If Ray cannot start here, or no cluster can be joined at the address.
    """
    arguments = RayArguments(address=address) if address else _local_arguments()
    environment = make_runtime_environment() if address else None
    protect_token()
    variables = nullcontext() if address else pass_variables_on()
    with warnings.catch_warnings(), _keep_signal_handlers(), variables:
        warnings.simplefilter("ignore")
        try:
            ray.init(
                **arguments,
                runtime_env=environment,
                logging_level=logging.CRITICAL,  # the error below says it in one line
                log_to_driver=False,
            )
        except Exception as error:  # Ray has many; none of them is a mistake of this project
            raise UserError(_explain_start_error(error, address)) from None
        finally:
            protect_token()
    if not address:
        _mark_session()
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield list_nodes().alive
    finally:
        sys.stdout.flush()
        ray.shutdown()


def _mark_session() -> None:
    """Mark the folder of this process's cluster, so that ``tune.py clean`` knows whose it is."""
    for session in Path(ray_private.find_temporary_folder()).glob(f"session_*_{os.getpid()}"):
        with suppress(OSError):
            (session / SESSION_MARK).touch()


@contextmanager
def _keep_signal_handlers() -> Iterator[None]:
    """Restore the handler of termination signals, which ``ray.init`` replaces by an exit."""
    old = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:  # a signal came while Ray started
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, old)


def _explain_start_error(error: Exception, address: str | None) -> str:
    """Return the reason why Ray did not start, or did not join a cluster, and the way out."""
    first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    if address:
        return f"no Ray cluster at '{address}': {first}"
    folder = ray_private.find_temporary_folder()
    path = str(error.filename or "") if isinstance(error, OSError) else ""
    if "AF_UNIX" in first or path.startswith(folder):
        reason = "the paths of its sockets would be too long" if "AF_UNIX" in first else first
        named = next((name for name in TEMPORARY_FOLDERS if name in os.environ), "")
        source = f"from the variable {named}" if named else f"as {TEMPORARY_FOLDERS[0]} is not set"
        return (
            f"cannot start Ray on this machine: {reason}; its temporary folder is '{folder}' "
            f"({source}): set {TEMPORARY_FOLDERS[0]} to a folder with a short path that you can "
            "write, such as /tmp/$USER"
        )
    if path.startswith(str(TOKEN.parent)):
        return f"cannot start Ray on this machine: {first}; set HOME to a folder that you can write"
    busy = "; it may be too busy: try again later" * ("timed out" in first)
    free = shutil.disk_usage(find_existing_parent(Path(folder))).free / 1024**3
    return (
        f"cannot start Ray on this machine: {first}{busy}; its logs are in "
        f"'{folder}/session_latest/logs', on a disk with {free:.1f} GiB left"
    )


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
