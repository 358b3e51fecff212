"""Erases a live view whose lines a narrower terminal has wrapped.

Most terminals wrap the lines on screen anew when they become narrower, so that the view takes more
rows than were drawn; rich then erases too few of them. Others cut the lines: there nothing is to be
done. A program cannot ask which kind its terminal is, but most can be told by their variables.
"""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from rich.console import Console, RenderableType
from rich.segment import Segment

T = TypeVar("T", bound=RenderableType)
WRAPPING = ("TMUX", "VTE_VERSION", "KONSOLE_VERSION", "KITTY_WINDOW_ID", "ALACRITTY_WINDOW_ID",
            "TERM_PROGRAM", "WT_SESSION", "WEZTERM_PANE", "SSH_TTY")  # fmt: skip
CUTTING = ("XTERM_VERSION", "STY")  # xterm and screen, also below one of the others
TMUX_SECONDS, TMUX_TRIES = 1.0, 10
CUTTING_TERMINALS = ("linux", "vt", "rxvt", "dumb")  # beginnings of TERM


def wraps_lines(variables: Mapping[str, str] = os.environ) -> bool:
    """Return whether the terminal wraps lines anew when it becomes narrower, as far as is known."""
    if "TMUX" not in variables:
        is_old = variables.get("TERM", "dumb").startswith(CUTTING_TERMINALS)
        if is_old or any(name in variables for name in CUTTING):
            return False
    return any(name in variables for name in WRAPPING)


def read_tmux_width() -> int | None:
    """Return the width of this program's pane of tmux; None if that does not say."""
    pane = os.environ.get("TMUX_PANE", "")
    command = ["tmux", "display-message", "-p", "-t", pane, "#{pane_width}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return int(done.stdout) if done.stdout.strip().isdigit() else None


def count_rows(widths: Sequence[int], columns: int) -> int:
    """Return the rows that lines take on a terminal that wraps them.

    Args:
        widths: The width of each line, in columns.
        columns: The width of the terminal.
    """
    return sum(max(1, -(-width // columns)) for width in widths)


class DrawnView:
    """The lines of a live view as they were drawn last.

    Args:
        console: The console.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._widths: list[int] = []
        self._wraps = wraps_lines()
        self._is_tmux = "TMUX" in os.environ

    @property
    def is_wrapped(self) -> bool:
        """Whether the terminal has become narrower than a line of the view."""
        return self._wraps and max(self._widths, default=0) > self._console.width

    def _wait_for_tmux(self) -> None:
        """Wait for the width to which tmux has wrapped lines, of which it tells programs later."""
        for _ in range(TMUX_TRIES):
            if read_tmux_width() in (None, self._console.width):
                return
            time.sleep(TMUX_SECONDS / TMUX_TRIES)
        self._is_tmux = False  # the width of the console is fixed

    def draw_view(self, make_view: Callable[[], T]) -> T:
        """Return a view that is drawn next, in place of a wrapped one.

        Args:
            make_view: Makes the view for the width of the terminal.
        """
        while True:
            self._erase_wrapped()
            width = self._console.width
            view = make_view()
            lines = self._console.render_lines(view, pad=False)
            if self._console.width == width:  # else it has changed meanwhile
                self._widths = [Segment.get_line_length(line) for line in lines]
                return view

    def _erase_wrapped(self) -> None:
        """Erase a view that was wrapped; the cursor is then where rich expects it."""
        if self._is_tmux and self._widths:
            self._wait_for_tmux()
        if self.is_wrapped:
            rows, lines = count_rows(self._widths, self._console.width), len(self._widths)
            # Row by row: tmux would keep a screen that is erased as a whole in its history.
            erased = "\r\x1b[2K" + "\x1b[1A\x1b[2K" * (rows - 1)
            self._console.file.write(erased + "\n" * (lines - 1))
            self._console.file.flush()
            self._widths = []
