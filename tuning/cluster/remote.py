"""Functions on workers that hold a trial's resources."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from common.errors import UserError
from core.environment import Environment, detect_environment
from tuning.options import Options
from tuning.resources import Resources

T = TypeVar("T")


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
