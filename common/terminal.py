"""Ends a command with the exit code that users expect on every terminal and pipe.

A terminal may not be UTF-8; standard output may be full, closed, or read by a program that ends
early. That concerns no command in particular: each runs through :func:`run_command`.
"""

import codecs
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from common.interrupts import EXIT_CODE, MESSAGE, ignore_signals, is_interrupted

ERROR_HANDLER = "evenhand"
PLAIN_CHARACTERS = {"±": "+-"}  # of characters that a terminal cannot show; others are escaped


def run_command(main: Callable[[], int], prints_result: bool = False) -> int:
    """Run a command; return its exit code.

    Args:
        main: The command.
        prints_result: Whether its result is what it prints. Then it ends as soon as nobody reads
            on, and fails if its output cannot be written. Else its result is on disk, so it goes on
            without output, and its exit code stays.
    """
    codecs.register_error(ERROR_HANDLER, _replace_characters)
    output = _Stream.replace(sys.stdout, 1)
    errors = _Stream.replace(sys.stderr, 2)
    output.ends_command = prints_result
    sys.stdout, sys.stderr = output, errors
    try:
        code = main()
        output.flush()
    except SystemExit as end:  # --help, a wrong option, or nobody reads on
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=errors)
    except KeyboardInterrupt:
        code = EXIT_CODE
        print(MESSAGE, file=errors)
    if is_interrupted():  # also where a library has made another error of it
        code = EXIT_CODE
    ignore_signals()
    output.ends_command = False
    output.flush()
    if output.lost and not isinstance(output.lost, BrokenPipeError):
        print(f"standard output is incomplete: {output.lost.strerror}", file=errors)
        code = code or int(prints_result)
    errors.flush()
    return code


class _Stream(io.TextIOWrapper):
    """A standard stream that shows what it can, and nothing more once it cannot be written.

    Attributes:
        lost: The error by which output was lost; None without one.
        ends_command: Whether the command ends when output is lost.
    """

    lost: OSError | None = None
    ends_command = False

    @classmethod
    def replace(cls, stream: TextIO | None, number: int) -> "_Stream":
        """Return a stream in place of a standard one.

        Args:
            stream: The standard stream; None if Python found it closed.
            number: Its file descriptor. A closed one would be the next file's or socket's, into
                which libraries then print.
        """
        if stream is None:
            try:
                os.fstat(number)
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            return cls(open(os.devnull, "wb"), encoding="utf-8", errors=ERROR_HANDLER)
        stream.flush()
        return cls(
            stream.buffer,
            encoding=stream.encoding,
            errors=ERROR_HANDLER,
            line_buffering=bool(stream.line_buffering),
        )

    def write(self, text: str) -> int:
        """Write a text, or discard it."""
        try:
            return super().write(text)
        except OSError as error:
            self._discard(error)
            return len(text)

    def flush(self) -> None:
        """Flush, or discard."""
        try:
            super().flush()
        except OSError as error:
            self._discard(error)

    def _discard(self, error: OSError) -> None:
        """Let all output, and that of libraries, go to the null device from now on."""
        self.lost = self.lost or error
        with suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            super().flush()
        if self.ends_command:
            raise SystemExit(0)


def _replace_characters(error: UnicodeError) -> tuple[str | bytes, int]:
    """Replace characters that an encoding does not have, a handler for :mod:`codecs`."""
    if isinstance(error, UnicodeEncodeError) and error.object[error.start] in PLAIN_CHARACTERS:
        return PLAIN_CHARACTERS[error.object[error.start]], error.start + 1
    return codecs.backslashreplace_errors(error)
