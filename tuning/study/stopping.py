"""Signals and budgets that stop a study, and the command that resumes it."""

import itertools
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from common.interrupts import SIGNALS, end_process

INTERRUPTED = "interrupted"


class StopCondition:
    """Stops a study: by Ctrl-C, a termination signal, or a spent budget.

    Args:
        time_limit: Seconds from now; None for no limit.
        max_device_hours: Device-hours of all sessions; None for no limit.
    """

    def __init__(self, time_limit: float | None, max_device_hours: float | None) -> None:
        self.max_device_hours = max_device_hours
        self.reason = ""  # empty while the study runs
        self.is_limited = time_limit is not None or max_device_hours is not None
        self._deadline = None if time_limit is None else time.monotonic() + time_limit

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Handle signals during the block; a second one ends the process at once."""
        old = {number: signal.signal(number, self._handle_signal) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        if self.reason == INTERRUPTED:
            end_process("interrupted twice: records are kept, tables are not; resume with --resume")
        self.reason = INTERRUPTED

    def should_stop(self, sum_device_hours: Callable[[], float]) -> bool:
        """Return whether to stop, and keep the reason.

        Args:
            sum_device_hours: Returns the device-hours so far; called only if they are limited.
        """
        if self.reason:
            return True
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.reason = "--time-limit is reached"
        budget = self.max_device_hours
        if budget is not None and sum_device_hours() >= budget:
            self.reason = f"--max-device-hours {budget:g} is used up"
        return bool(self.reason)

    def should_end_searches(
        self, reserved_seconds: float, reserved_hours: float, sum_device_hours: Callable[[], float]
    ) -> bool:
        """Return whether the rest of a limit is needed to confirm the winners so far.

        Args:
            reserved_seconds: The time that the confirmation seeds need.
            reserved_hours: The device-hours that they need.
            sum_device_hours: Returns the device-hours so far; called only if they are limited.
        """
        if self._deadline is not None and time.monotonic() + reserved_seconds > self._deadline:
            return True
        budget = self.max_device_hours
        return budget is not None and sum_device_hours() + reserved_hours > budget


def make_resume_command(max_device_hours: float | None) -> str:
    """Return the command that resumes the study of this process.

    Args:
        max_device_hours: The limit of device-hours; it counts all sessions, so it is doubled.
    """
    flag = "--max-device-hours"
    arguments: list[str] = []
    for previous, argument in itertools.pairwise(["", *sys.argv[1:]]):
        if argument not in (flag, "--resume") and flag not in (previous, argument.split("=")[0]):
            arguments.append(argument)
    if max_device_hours is not None:
        arguments += [flag, f"{2 * max_device_hours:g}"]
    resume = [] if arguments[:1] == ["resume"] else ["--resume"]
    return shlex.join(["python", "tune.py", *arguments, *resume])
