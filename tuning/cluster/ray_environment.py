"""Ray's environment variables, set before its import, and the protection of its token."""

import os
from contextlib import suppress
from pathlib import Path

TOKEN = Path("~/.ray/auth_token").expanduser()  # Ray makes it with its first local cluster

SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_RUNTIME_ENV_IGNORE_GITIGNORE": "1",  # code travels also where git does not know it yet
    # Else the driver waits for workers within C++, forever if they cannot start.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # trials on this machine compete with others as equals
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",
}


def configure_ray() -> None:
    """Set the variables that the user has not set."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    # `ray start` requires the token as soon as one exists, but a driver sends it in this mode only.
    if TOKEN.exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def protect_token() -> None:
    """Let only its owner read the token, also one that Ray makes later: Ray lets all read it."""
    with suppress(OSError):  # there is none, or a home that cannot be written
        TOKEN.parent.mkdir(mode=0o700, exist_ok=True)
        if TOKEN.stat().st_mode & 0o077:
            TOKEN.chmod(0o600)
