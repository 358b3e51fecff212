"""Part e: the tests that are marked ``gpu``."""

import importlib.util

from benchmarks.gpu.other_commands import run_command
from benchmarks.gpu.report import Report
from benchmarks.gpu.small_runs import ROOT

NEEDED = ("pytest", "hypothesis")
PROCESSES = 4  # at once, where pytest-xdist is installed


def run_marked_tests(report: Report) -> None:
    """Part e: run the tests that are marked ``gpu``, where what tests need is installed."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        report.print_line(f"  left out: the tests, {' and '.join(missing)} not installed")
        return
    marked = [
        path for path in (ROOT / "tests").rglob("test_*.py")
        if "pytest.mark.gpu" in path.read_text(encoding="utf-8")
    ]  # fmt: skip
    spread = ["-n", str(PROCESSES)] if importlib.util.find_spec("xdist") else []
    command = [
        "-m", "pytest", "-m", "gpu", "-v", *spread, "--durations=8", "-p", "no:cacheprovider",
        "-rfEs", "-o", "filterwarnings=default", "-o", "minversion=7", "-o", "addopts=",
        *map(str, marked),
    ]  # fmt: skip
    done = run_command(report, command)
    if done is None:
        return
    summary = (done.stdout.strip().splitlines() or ["nothing"])[-1]
    passed = done.returncode == 0 and "passed" in summary
    report.add_verdict(passed or not report.is_cuda, f"{len(marked)} files of tests: {summary}")
    if not passed:
        report.print_line(done.stdout[-5000:] + done.stderr[-1500:])
