"""Shared by all packages: errors, hyperparameters, progress."""

import sys
import time

from common.interrupts import handle_signals

COMMAND_START = time.monotonic()  # roughly: this package is imported first

if sys.argv[:1] == ["-m"]:  # one of our commands, such as python -m core, begins its imports
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
