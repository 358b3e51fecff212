"""Ends a command at Ctrl-C from its first statement on.

It imports built-in modules only: those of ``signal`` and ``contextlib`` take some 30 ms, in which
Ctrl-C would be a traceback. Then :mod:`common.interrupts` takes over.
"""

import _signal  # type: ignore[import-not-found]  # the built-in part of signal
import os

EXIT_CODE = 130
MESSAGE = "interrupted"
SIGNALS = (_signal.SIGINT, _signal.SIGTERM)


def end_at_signals() -> None:
    """Let Ctrl-C or a termination signal end this process with one line."""
    for number in SIGNALS:
        _signal.signal(number, _end_process)


def _end_process(number: int, frame: object) -> None:
    os.write(2, f"{MESSAGE}\n".encode())
    os._exit(EXIT_CODE)
