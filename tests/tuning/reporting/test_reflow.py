"""A live view on terminals that become narrower."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.command import ROOT
from tuning.reporting.layout.reflow import count_rows, wraps_lines

SCRIPT = """
import sys, time
from pathlib import Path
from rich.console import Console
from rich.live import Live
from rich.text import Text
from tuning.reporting.layout.reflow import DrawnView

console = Console()
drawn = DrawnView(console)

def make_view():
    width = console.width
    return Text("\\n".join(f"view {n} ".ljust(width - n, "=") for n in range(4)), no_wrap=True)

def draw_view():
    return drawn.draw_view(make_view)

with Live(
    get_renderable=draw_view, console=console, refresh_per_second=8, transient=True
):
    for number in range(30):  # the screen is full
        console.print(f"trial {number} ended")
    while not Path(sys.argv[1]).exists():
        time.sleep(0.05)
print("done", flush=True)
time.sleep(30)
"""


@pytest.mark.parametrize(
    ("variables", "wraps"),
    [
        ({"TERM": "xterm-256color", "VTE_VERSION": "7000"}, True),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, True),
        ({"TERM": "screen", "TMUX": "/tmp/tmux-0/default,1,0"}, True),
        ({"TERM": "xterm-256color", "SSH_TTY": "/dev/pts/0"}, True),
        ({"TERM": "xterm-256color", "VTE_VERSION": "7000", "XTERM_VERSION": "XTerm(380)"}, False),
        ({"TERM": "screen", "STY": "1.pts-0", "VTE_VERSION": "7000"}, False),
        ({"TERM": "linux"}, False),
        ({"TERM": "xterm"}, False),
        ({}, False),
    ],
)
def test_terminals_are_told_by_their_variables(variables: dict[str, str], wraps: bool) -> None:
    assert wraps_lines(variables) == wraps


def test_rows_of_wrapped_lines() -> None:
    assert count_rows([120, 60, 0, 61], 60) == 2 + 1 + 1 + 2


def capture_screen(tmux: list[str]) -> list[str]:
    command = [*tmux, "capture-pane", "-p", "-S", "-100"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return text.rstrip().splitlines()


def wait_for_screen(tmux: list[str], wanted: list[str]) -> None:
    for _ in range(300):
        if capture_screen(tmux) == wanted:
            return
        time.sleep(0.1)
    assert capture_screen(tmux) == wanted


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
def test_a_narrowed_terminal_shows_no_remains(tmp_path: Path) -> None:
    tmux = ["tmux", "-S", str(tmp_path / "socket"), "-f", os.devnull]
    (tmp_path / "view.py").write_text(SCRIPT)
    end = tmp_path / "end"
    sizes = ("COLUMNS", "LINES")  # of another terminal
    environment = {n: v for n, v in os.environ.items() if n not in sizes}
    environment["PYTHONPATH"] = str(ROOT)
    started = [sys.executable, str(tmp_path / "view.py"), str(end)]
    size = ["-x", "120", "-y", "24"]
    subprocess.run(
        [*tmux, "new-session", "-d", *size, *started], check=True, env=environment
    )  # fmt: skip
    ended = [f"trial {number} ended" for number in range(30)]
    try:
        for width in (120, 80, 60, 100, 61):
            subprocess.run([*tmux, "resize-window", "-x", str(width)], check=True)
            view = [f"view {n} ".ljust(width - n, "=") for n in range(4)]
            wait_for_screen(tmux, [*ended, *view])
        end.touch()
        wait_for_screen(tmux, [*ended, "done"])
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
