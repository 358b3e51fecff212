"""Progress of long tasks on stderr: a bar on a terminal, a line every 15 seconds elsewhere."""

import sys
import time
from threading import Lock
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

SECONDS_BEFORE_FIRST = 2.0  # short tasks show nothing
SECONDS_BETWEEN_LINES = 15.0  # where stderr is no terminal


class ProgressBar:
    """Shows the progress of a task that takes more than two seconds.

    Args:
        description: The task, e.g. ``waterbirds: decoding images``.
        total: The amount of work; None where it is not known.
        done: The amount that was done before.
        in_bytes: Whether amounts are in bytes.
    """

    def __init__(
        self, description: str, total: int | None, done: int = 0, in_bytes: bool = False
    ) -> None:
        columns = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (MofNCompleteColumn(),)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *columns,
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(description, total=total, completed=done)
        self._description, self._total, self._done = description, total, done
        self._in_bytes = in_bytes
        self._next_update = time.monotonic() + SECONDS_BEFORE_FIRST
        self._is_terminal = sys.stderr.isatty()
        self._lock = Lock()

    def advance(self, amount: int = 1) -> None:
        """Add to the amount that is done; may be called from several threads."""
        with self._lock:
            self._done += amount
            if time.monotonic() < self._next_update:
                return
            if self._is_terminal:
                self._bar.start()
                self._bar.update(self._task, completed=self._done)
                return
            self._next_update = time.monotonic() + SECONDS_BETWEEN_LINES
            unit = f"{self._done / 1e6:,.0f} MB" if self._in_bytes else f"{self._done:,}"
            share = f" ({self._done / self._total:.0%})" if self._total else ""
            print(f"{self._description}: {unit}{share}", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar.live.is_started:  # stopping prints a line even where nothing was shown
            self._bar.stop()
