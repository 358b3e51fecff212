"""Erases a live view whose lines a narrower terminal has wrapped.

Most terminals wrap the lines on screen anew when they become narrower, so that the view takes more
rows than were drawn; rich then erases too few of them. Others cut the lines: there nothing is to be
done. A program cannot ask which kind its terminal is, but most can be told by their variables.
"""

import os
from collections.abc import Mapping, Sequence

from rich.console import Console, RenderableType
from rich.segment import Segment

WRAPPING = ("TMUX", "VTE_VERSION", "KONSOLE_VERSION", "KITTY_WINDOW_ID", "ALACRITTY_WINDOW_ID",
            "TERM_PROGRAM", "WT_SESSION", "WEZTERM_PANE", "SSH_TTY")  # fmt: skip
CUTTING = ("XTERM_VERSION", "STY")  # xterm and screen, also below one of the others
CUTTING_TERMINALS = ("linux", "vt", "rxvt", "dumb")  # beginnings of TERM


def wraps_lines(variables: Mapping[str, str] = os.environ) -> bool:
    """Return whether the terminal wraps lines anew when it becomes narrower, as far as is known."""
    if "TMUX" not in variables:
        is_old = variables.get("TERM", "dumb").startswith(CUTTING_TERMINALS)
        if is_old or any(name in variables for name in CUTTING):
            return False
    return any(name in variables for name in WRAPPING)


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

    @property
    def is_wrapped(self) -> bool:
        """Whether the terminal has become narrower than a line of the view."""
        return self._wraps and max(self._widths, default=0) > self._console.width

    def measure(self, view: RenderableType) -> None:
        """Note the lines of a view that is drawn next."""
        lines = self._console.render_lines(view, pad=False)
        self._widths = [Segment.get_line_length(line) for line in lines]

    def erase_wrapped(self) -> None:
        """Erase a view that was wrapped; the cursor is then where rich expects it."""
        if self.is_wrapped:
            rows, lines = count_rows(self._widths, self._console.width), len(self._widths)
            self._console.file.write(f"\r\x1b[{rows - 1}A\x1b[J" + "\n" * (lines - 1))
            self._console.file.flush()
            self._widths = []
