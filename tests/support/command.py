"""Running the real command line, as a user does."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LISTENS = "0A"  # the state of a socket in the kernel's tables
# 127.0.0.1, plain and as an IPv6 address, in the same tables.
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


@dataclass(frozen=True)
class Done:
    """How a command ended: exit code and all that it printed."""

    code: int
    out: str
    err: str


def tune(arguments: Sequence[object], timeout: float = 240) -> Done:
    """Run ``python tune.py`` with arguments."""
    return python("tune.py", arguments, timeout)


def core(arguments: Sequence[object], timeout: float = 120) -> Done:
    """Run ``python -m core`` with arguments."""
    return python("-m", ["core", *arguments], timeout)


def python(first: str, arguments: Sequence[object], timeout: float) -> Done:
    """Run Python on something of the project."""
    done = subprocess.run(
        [sys.executable, first, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=timeout, env=environment(),
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def copied_project(target: Path) -> Path:
    """Copy what a study needs of the project, to be changed by a test."""
    target.mkdir()
    for name in ("common", "core", "datasets", "tuning", "search_spaces"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tune.py", target)
    return target


def tune_in(project: Path, arguments: Sequence[object]) -> "subprocess.CompletedProcess[str]":
    """Run ``python tune.py`` of a copied project."""
    return subprocess.run(
        [sys.executable, "tune.py", *map(str, arguments)],
        cwd=project, capture_output=True, text=True, timeout=240, env=environment(),
    )  # fmt: skip


def environment() -> dict[str, str]:
    """Return this process's environment without what would lead a study to another cluster."""
    return {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}


def tune_killed(arguments: Sequence[object], once: Callable[[], bool], after: float) -> bool:
    """Start ``python tune.py`` and SIGKILL all its processes; return whether it still ran.

    Args:
        arguments: Its arguments.
        once: What must be so before.
        after: Seconds from then on.
    """
    process = subprocess.Popen(
        [sys.executable, "tune.py", *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env=environment(),
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while process.poll() is None and not once() and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        for number in descendants(process.pid):
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()
        return True
    return False


def descendants(root: int) -> list[int]:
    """Return a process and all that it started, directly or not."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(fields[1])
    family = [root]
    for number in family:  # grows while it is walked
        family += [child for child, parent in parents.items() if parent == number]
    return family


def listening(root: int) -> set[str]:
    """Return the addresses, in the kernel's hexadecimal, at which a process and its own listen."""
    sockets = set()
    for process in descendants(root):
        for entry in Path(f"/proc/{process}/fd").glob("*"):
            try:
                sockets.add(os.readlink(entry))
            except FileNotFoundError:
                continue
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path("/proc/net", table).read_text().splitlines()[1:]
    ]
    return {
        line[1].rpartition(":")[0]
        for line in lines
        if line[3] == LISTENS and f"socket:[{line[9]}]" in sockets
    }
