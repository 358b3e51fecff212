"""When a study stops before its end, and the command that goes on with it."""

import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from tuning.options import Options

INTERRUPTED = "interrupted"


class StopCondition:
    """Tells when a study must stop: Ctrl-C, a termination signal, or a spent budget.

    Args:
        options: The command with its budgets.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.reason = ""
        self.deadline = (
            None if options.time_limit is None else time.monotonic() + options.time_limit
        )
        self.device_hours: Callable[[], float] = lambda: 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals during the block; a second one ends the process at once."""
        old = {s: signal.signal(s, self._signalled) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self.reason:
            raise KeyboardInterrupt
        self.reason = INTERRUPTED

    def __call__(self) -> bool:
        """Return whether to stop."""
        if self.reason:
            return True
        if self.deadline is not None and time.monotonic() > self.deadline:
            self.reason = "--time-limit is reached"
        budget = self.options.max_device_hours
        if budget is not None and self.device_hours() >= budget:
            self.reason = f"--max-device-hours {budget:g} is spent"
        return bool(self.reason)


def make_resume_command() -> str:
    """Return the command that goes on with the study which this process ran.

    A budget of device-hours counts all sessions, so a spent one is left out.
    """
    arguments = [argument for argument in sys.argv[1:] if argument != "--resume"]
    for index, argument in enumerate(arguments):
        if argument.startswith("--max-device-hours"):
            del arguments[index : index + (1 if "=" in argument else 2)]
            break
    return shlex.join(["python", "tune.py", *arguments, "--resume"])
