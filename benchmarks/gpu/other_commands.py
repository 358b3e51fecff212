"""Parts k and l: updates of reinforcement learning, and a small study."""

import contextlib
import importlib.util
import io
import subprocess
import sys
import tempfile

from benchmarks.gpu.report import Report
from benchmarks.gpu.small_runs import ROOT
from benchmarks.reinforcement import time_graphs, time_updates


def time_reinforcement(report: Report) -> None:
    """Part k: updates of soft actor-critic by weighting, with and without the graph."""
    with contextlib.redirect_stdout(_ReportedLines(report)):
        if report.is_cuda:
            time_graphs(1)
        else:
            time_updates("cpu", 1)
    report.add_verdict(True, "updates of reinforcement learning were timed")


class _ReportedLines(io.TextIOBase):
    """Standard output of which a report keeps each line as it comes.

    Args:
        report: The report.
    """

    def __init__(self, report: Report) -> None:
        self.report, self.shown, self.begun = report, sys.stdout, ""

    def write(self, text: str) -> int:
        *lines, self.begun = (self.begun + text).split("\n")
        with contextlib.redirect_stdout(self.shown):
            for line in lines:
                self.report.print_line(f"  {line}")
        return len(text)


def run_study(report: Report) -> None:
    """Part l: a study with four trials on the GPU at once, where Ray and Optuna are installed."""
    missing = [name for name in ("ray", "optuna") if importlib.util.find_spec(name) is None]
    if missing or not report.is_cuda:
        why = f"{' and '.join(missing)} not installed" if missing else "it needs a GPU"
        report.print_line(f"  left out: a study, {why}")
        return
    with tempfile.TemporaryDirectory() as folder:
        command = ["tune.py", "--method", "erm", "--dataset", "colored_digits", "--trials", "4"]
        command += ["--seeds", "2", "--gpus-per-trial", "0.25", "--results", f"{folder}/results"]
        _judge_command(report, "a study of 4 trials at once", command)


def run_command(report: Report, command: list[str]) -> subprocess.CompletedProcess[str] | None:
    """Run Python with arguments; print the output so far and return None if time runs out."""
    limit = None if report.seconds_left == float("inf") else max(1.0, report.seconds_left)
    try:
        return subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, cwd=ROOT, timeout=limit
        )
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
        report.print_line((output if isinstance(output, str) else output.decode())[-6000:])
        report.add_unfinished(f"{' '.join(command[:4])} was ended after {limit:.0f} s")
        return None


def _judge_command(report: Report, name: str, command: list[str]) -> None:
    done = run_command(report, command)
    if done is None:
        return
    report.print_line(done.stdout[-6000:])
    report.add_figure(name, done.stdout.splitlines())
    problem = "" if not done.returncode else f": {done.stderr.strip()[-400:]}"
    report.add_verdict(not done.returncode, f"{name} ends with code {done.returncode}{problem}")
