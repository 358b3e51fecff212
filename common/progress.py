"""Progress of long work on stderr: a bar on a terminal, a line now and then elsewhere."""

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

PATIENCE = 2.0  # seconds after which work counts as long
INTERVAL = 15.0  # seconds between lines where stderr is no terminal


class ProgressBar:
    """Shows how much of a known amount is done, once it has taken two seconds.

    Args:
        what: What is being done, e.g. ``waterbirds: decoding images``.
        total: The amount; None where it is not known.
        done: What was done before.
        size: Whether the amount is in bytes.
    """

    def __init__(self, what: str, total: int | None, done: int = 0, size: bool = False) -> None:
        columns = (DownloadColumn(), TransferSpeedColumn()) if size else (MofNCompleteColumn(),)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *columns,
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(what, total=total, completed=done)
        self._what, self._total, self._done, self._size = what, total, done, size
        self._shown = time.monotonic() + PATIENCE
        self._terminal = sys.stderr.isatty()
        self._lock = Lock()

    def add(self, amount: int = 1) -> None:
        """Tell that more is done; may be called from several threads."""
        with self._lock:
            self._done += amount
            if time.monotonic() < self._shown:
                return
            if self._terminal:
                self._bar.start()
                self._bar.update(self._task, completed=self._done)
                return
            self._shown = time.monotonic() + INTERVAL
            unit = f"{self._done / 1e6:,.0f} MB" if self._size else f"{self._done:,}"
            share = f" ({self._done / self._total:.0%})" if self._total else ""
            print(f"{self._what}: {unit}{share}", file=sys.stderr, flush=True)

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
