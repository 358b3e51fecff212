"""Reasons why the workers of this command's own cluster cannot start; Ray itself tries forever.

Of another cluster one node may be broken: there a crash is retried like any other.
"""

from common.errors import UserError
from tuning.cluster import ray_private

LOGS = "their logs are in session_latest/logs of Ray's temporary folder"


def explain_crash() -> UserError | None:
    """Return the reason why a worker died at its start; None if none did."""
    if not ray_private.is_own_cluster() or not ray_private.has_worker_crashed():
        return None
    cause = ray_private.read_last_words() or "they crash"
    return UserError(f"Ray cannot start workers on this machine: {cause}; {LOGS}")


def explain_import_error(error: str) -> UserError | None:
    """Return the reason why a trial's actor cannot import the code; None for other errors.

    Args:
        error: Ray's text of the error.
    """
    if ray_private.CANNOT_IMPORT not in error or not ray_private.is_own_cluster():
        return None
    cause = error.strip().splitlines()[-1].removeprefix("error: ")
    return UserError(f"workers cannot run the project's code: {cause}")
