"""What Ray must be told before it is imported: no noise, no state of its own, its own token."""

import os
from pathlib import Path

SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_RUNTIME_ENV_IGNORE_GITIGNORE": "1",  # code travels also where git does not know it yet
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",
}


def prepare() -> None:
    """Set the variables that the user has not set."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    # Ray makes this file with its first local cluster; a later `ray start` then asks for the
    # token, but a driver shows it only if it is told to.
    if Path("~/.ray/auth_token").expanduser().exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
