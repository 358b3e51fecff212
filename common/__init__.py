"""Shared by all packages: errors, hyperparameters, progress."""

import sys

from common.early_interrupt import end_at_signals

# One of our commands, such as python -m core or tune.py, begins its imports.
IS_COMMAND = bool(sys.argv) and sys.argv[0].rpartition("/")[2] in ("-m", "tune.py")
if IS_COMMAND:
    end_at_signals()

import time  # noqa: E402

from common.interrupts import handle_signals  # noqa: E402

COMMAND_START = time.monotonic()  # roughly: this package is imported first

if IS_COMMAND:
    handle_signals()


def require_package(name: str) -> None:
    """Exit with code 2 and one line if a package is not installed.

    Commands call it before they import anything that needs the package, because the usual cause is
    a Python outside the project's environment.
    """
    from importlib.util import find_spec  # here: signals are handled before other imports

    if find_spec(name) is None:
        print(
            f"error: {sys.executable} has no package '{name}': activate the project's environment "
            "(source .venv/bin/activate; `make install` creates it)",
            file=sys.stderr,
        )
        raise SystemExit(2)


require_package("torch")  # nothing works without it
