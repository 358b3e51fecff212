"""Runs the command line in processes of its own, as a user does."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 600.0  # seconds: a machine that is busy with other tests is no mistake
UNLEARNED = ": nothing learned: "
LISTENS = "0A"  # the state of a socket in the kernel's tables
# 127.0.0.1, plain and as an IPv6 address, in the same tables.
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


@dataclass(frozen=True)
class CommandResult:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def ran_to_end(self) -> bool:
        return ran_to_end(self.code, self.err)


def ran_to_end(code: int, err: str) -> bool:
    """Return whether a study ran to its end; one of a few epochs may have learned nothing."""
    return code == 0 or (code == 1 and UNLEARNED in err)


def run_tune(
    arguments: Sequence[object], timeout: float = PATIENCE, parallel: bool = False
) -> CommandResult:
    """Run ``python tune.py`` with arguments.

    Args:
        arguments: The arguments.
        timeout: Seconds within which it must end.
        parallel: Whether it uses all CPUs, not one; each trains a trial in a process of its own,
            whose start takes as long as a hundred short epochs.
    """
    if parallel:
        return run_python("tune.py", arguments, timeout)
    with use_one_cpu():
        return run_python("tune.py", arguments, timeout)


@contextmanager
def use_one_cpu() -> Iterator[None]:
    """Start the block's processes on one CPU, where the system can; parallel tests take turns."""
    if not sys.platform.startswith("linux"):
        yield
        return
    before = os.sched_getaffinity(0)
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    os.sched_setaffinity(0, {sorted(before)[number % len(before)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run_core(arguments: Sequence[object], timeout: float = PATIENCE) -> CommandResult:
    """Run ``python -m core`` with arguments."""
    return run_python("-m", ["core", *arguments], timeout)


def run_python(first: str, arguments: Sequence[object], timeout: float) -> CommandResult:
    """Run a Python file or module of the project."""
    done = subprocess.run(
        [sys.executable, first, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=timeout, env=clean_environment(),
    )  # fmt: skip
    return CommandResult(done.returncode, done.stdout, done.stderr)


def copy_project(target: Path) -> Path:
    """Copy the parts of the project that a study needs, for a test to change."""
    target.mkdir()
    for name in ("common", "core", "datasets", "tuning", "search_spaces"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tune.py", target)
    return target


def run_tune_in(project: Path, arguments: Sequence[object]) -> "subprocess.CompletedProcess[str]":
    """Run ``python tune.py`` of a copied project on one CPU."""
    with use_one_cpu():
        return subprocess.run(
            [sys.executable, "tune.py", *map(str, arguments)],
            cwd=project, capture_output=True, text=True, timeout=PATIENCE, env=clean_environment(),
        )  # fmt: skip


def clean_environment() -> dict[str, str]:
    """Return this process's environment without the address of another cluster."""
    return {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}


def run_tune_and_kill(arguments: Sequence[object], once: Callable[[], bool], after: float) -> bool:
    """Start ``python tune.py`` and SIGKILL all its processes; return whether it still ran.

    Args:
        arguments: Its arguments.
        once: Returns whether the delay begins.
        after: Seconds of delay before the kill.
    """
    process = subprocess.Popen(
        [sys.executable, "tune.py", *map(str, arguments)],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env=clean_environment(),
    )  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not once() and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        for number in list_descendants(process.pid):
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()
        return True
    return False


def list_descendants(root: int) -> list[int]:
    """Return the numbers of a process and of all its descendants."""
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


def list_listening_addresses(root: int) -> set[str]:
    """Return the addresses, in the kernel's hexadecimal, at which a process family listens."""
    sockets = set()
    for process in list_descendants(root):
        for entry in Path(f"/proc/{process}/fd").glob("*"):
            try:
                sockets.add(os.readlink(entry))
            except FileNotFoundError:
                continue
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path("/proc/net", table).read_text(encoding="utf-8").splitlines()[1:]
    ]
    return {
        line[1].rpartition(":")[0]
        for line in lines
        if line[3] == LISTENS and f"socket:[{line[9]}]" in sockets
    }
