"""Progress of long tasks on stderr: a bar on a terminal, a line every 15 seconds elsewhere."""

import sys
import time
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress

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
        self._description, self._total, self._done = description, total, done
        self._in_bytes = in_bytes
        self._next_update = time.monotonic() + SECONDS_BEFORE_FIRST
        self._is_terminal = sys.stderr.isatty()
        self._lock = Lock()
        self._bar: Progress | None = None

    def advance(self, amount: int = 1) -> None:
        """Add to the amount that is done; may be called from several threads."""
        with self._lock:
            self._done += amount
            if time.monotonic() < self._next_update:
                return
            if self._is_terminal:
                self._bar = self._bar or self._start_bar()
                self._bar.update(self._bar.task_ids[0], completed=self._done)
                return
            self._next_update = time.monotonic() + SECONDS_BETWEEN_LINES
            unit = f"{self._done / 1e6:,.0f} MB" if self._in_bytes else f"{self._done:,}"
            share = f" ({self._done / self._total:.0%})" if self._total else ""
            print(f"{self._description}: {unit}{share}", file=sys.stderr, flush=True)

    def _start_bar(self) -> "Progress":
        # Imported where a bar is shown: most tasks are short, and rich takes 0.1 s to import.
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

        amounts = DownloadColumn(), TransferSpeedColumn()
        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *(amounts if self._in_bytes else [MofNCompleteColumn()]),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        bar.add_task(self._description, total=self._total, completed=self._done)
        bar.start()
        return bar

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
