"""Ends a command at Ctrl-C or a termination signal: one line, exit code 130, at any moment.

An exception would come out anywhere: in the imports of a library, which takes it for a missing
part of its own, or in a callback from C++, which aborts the process. So a signal ends the process
at once, except where something is to be cleaned up (:func:`clean_up_after_signals`).
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, NoReturn

from common.early_interrupt import EXIT_CODE as EXIT_CODE
from common.early_interrupt import MESSAGE as MESSAGE

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
# To the start of the line, over the ^C that a terminal shows; with a visible cursor.
RESTORE_TERMINAL = "\r\x1b[K\x1b[?25h"


class _State:
    """The state of this process's command.

    Attributes:
        process: The process that handles signals; 0 before there is one. A fork of it has none.
        cleaners: Blocks in progress that clean up after a signal.
        is_interrupted: Whether a signal has come in such a block.
    """

    process = 0
    cleaners = 0
    is_interrupted = False


def handle_signals() -> None:
    """Let a signal end this process; called first, since the imports of a command take seconds."""
    _State.process = os.getpid()
    for number in SIGNALS:
        signal.signal(number, _handle_signal)


def ignore_signals() -> None:
    """Ignore signals from now on, if this process handles them: its command is done."""
    if _State.process == os.getpid():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def is_interrupted() -> bool:
    """Return whether a signal has come while something was to be cleaned up."""
    return _State.is_interrupted


@contextmanager
def clean_up_after_signals() -> Iterator[None]:
    """Let the first signal during the block raise ``KeyboardInterrupt``, for its clean-up.

    A second one ends the process at once.
    """
    is_main = threading.current_thread() is threading.main_thread()  # others get no signals
    _State.cleaners += is_main
    try:
        yield
    finally:
        _State.cleaners -= is_main


def end_process(message: str = MESSAGE) -> NoReturn:
    """Print a line to stderr and end the process, without waiting for anything."""
    with suppress(OSError, RuntimeError, ValueError, AttributeError):  # closed, or being written
        sys.stdout.flush()
    for output, text in ((1, ""), (2, f"{message}\n")):
        with suppress(OSError):
            restores = os.isatty(output) and os.environ.get("TERM", "dumb") != "dumb"
            os.write(output, f"{RESTORE_TERMINAL if restores else ''}{text}".encode())
    os._exit(EXIT_CODE)


def _handle_signal(number: int, frame: FrameType | None) -> None:
    if _State.process != os.getpid():
        os._exit(EXIT_CODE)
    if _State.cleaners and not _State.is_interrupted:
        _State.is_interrupted = True
        raise KeyboardInterrupt
    end_process()
