"""Functions on workers that hold a trial's resources."""

import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import OutOfMemoryError, RayError, WorkerCrashedError

from common.errors import UserError
from core.environment import Environment, detect_environment
from tuning.cluster import ray_private
from tuning.options import Options
from tuning.resources import Resources

T = TypeVar("T")

# Within this time a process starts. It may never: others may hold the nodes' resources.
START_SECONDS = 300.0
LOGS = "their logs are in session_latest/logs of Ray's temporary folder"


def check_worker_start() -> None:
    """Let a worker of this command's own cluster import a trial's code; it then waits for a trial.

    Raises:
        UserError: If no worker starts, or it cannot import the code; Ray itself would start workers
            again and again.
    """
    task: Any = ray.remote(num_cpus=1, max_retries=0)(import_trial_code)
    asked = task.remote()
    deadline = time.monotonic() + START_SECONDS
    start = "Ray cannot start workers on this machine"
    while not ray.wait([asked], timeout=1)[0]:
        if ray_private.has_worker_crashed():
            raise UserError(f"{start}: {ray_private.read_last_words() or 'they crash'}; {LOGS}")
        if time.monotonic() > deadline:
            raise UserError(f"{start}: none is ready after {START_SECONDS:g} s; {LOGS}")
    try:
        ray.get(asked)
    except Exception as error:  # any error of a worker that is set up differently
        if isinstance(error, OutOfMemoryError):
            raise UserError(
                f"{start}: the first was ended, because this machine is low on memory: end other "
                "programs, or raise the share at which Ray does so, RAY_memory_usage_threshold"
            ) from None
        lines = str(error).strip().splitlines() or [type(error).__name__]
        died = isinstance(error, WorkerCrashedError) and ray_private.read_last_words()
        reason = (died or lines[-1]).removeprefix("error: ")
        raise UserError(f"workers cannot run the project's code: {reason}") from None


def import_trial_code() -> None:
    """Import all that a trial needs."""
    importlib.import_module("tuning.worker.actor")


def detect_trial_environment(resources: Resources, options: Options, remote: bool) -> Environment:
    """Return the environment of a trial with these resources.

    Args:
        resources: The resources of a trial.
        options: The command line's, for determinism and precision.
        remote: Whether to ask a worker that holds these resources, not this process.
    """
    gpu = None if resources.gpus else False
    arguments = (gpu, resources.cpus, options.deterministic, options.precision)
    if not remote and not resources.gpus:
        return detect_environment(*arguments)
    return call_on_workers(detect_environment, [arguments], resources)[0]


def call_on_workers(
    function: Callable[..., T], calls: Sequence[tuple[object, ...]], resources: Resources
) -> list[T]:
    """Return a function's result for each call, on workers that hold a trial's resources.

    On GPUs each call has a process of its own, which ends with it.

    Args:
        function: The function.
        calls: The arguments of each call.
        resources: The resources of a trial.

    Raises:
        UserError: If a process died.
    """
    task: Any = ray.remote(num_cpus=resources.cpus, num_gpus=resources.gpus)(function)
    try:
        return list(ray.get([task.options(max_retries=1).remote(*call) for call in calls]))
    except RayError as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"a process that examined a worker's device died: {first}") from None
