"""Parts k and l: commands of their own: updates of reinforcement learning, and a small study."""

import importlib.util
import subprocess
import sys
import tempfile

from benchmarks.gpu.report import Report
from benchmarks.gpu.small_runs import ROOT


def time_reinforcement(report: Report) -> None:
    """Part k: updates of soft actor-critic by weighting, with and without the graph."""
    command = ["-m", "benchmarks.reinforcement", "--device", report.device, "--repeats", "1"]
    _run_command(report, "benchmarks.reinforcement", command)


def run_study(report: Report) -> None:
    """Part l: a study with four trials on the GPU at once, where Ray and Optuna are installed."""
    missing = [name for name in ("ray", "optuna") if importlib.util.find_spec(name) is None]
    if missing or not report.is_cuda:
        why = f"{' and '.join(missing)} not installed" if missing else "it needs a GPU"
        report.print_line(f"  left out: a study, {why}")
        return
    with tempfile.TemporaryDirectory() as folder:
        command = ["tune.py", "--method", "erm", "--dataset", "colored_digits", "--trials", "8"]
        command += ["--gpus-per-trial", "0.25", "--results", f"{folder}/results"]
        _run_command(report, "a study of 8 trials, 4 at once", command)


def _run_command(report: Report, name: str, command: list[str]) -> None:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT)
    report.print_line(done.stdout[-6000:])
    report.add_figure(name, done.stdout.splitlines())
    problem = "" if not done.returncode else f": {done.stderr.strip()[-400:]}"
    report.add_verdict(not done.returncode, f"{name} ends with code {done.returncode}{problem}")
