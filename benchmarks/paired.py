"""Helpers of the reference experiments: run a study, print paired differences."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tuning.reporting.intervals import compute_statistics


def run_study(dataset: str, methods: Sequence[str], trials: int, seeds: int, results: Path) -> None:
    """Run ``python tune.py``, resuming an earlier run."""
    command = [
        sys.executable, "tune.py", "--method", *methods, "--dataset", dataset,
        "--trials", str(trials), "--seeds", str(seeds), "--results", str(results), "--resume",
    ]  # fmt: skip
    subprocess.run(command, check=True)


def print_differences(
    results: Path, dataset: str, methods: Sequence[str], base: str, column: str, factor: float = 1
) -> None:
    """Print each method's paired difference to ``base`` with Student's 95% interval."""
    values = {
        name: pd.read_csv(results / dataset / name / "seeds.csv").set_index("seed")[column] * factor
        for name in methods
    }
    print(f"{dataset}: paired difference to {base} in {column}, {len(values[base])} seeds")
    for name, own in values.items():
        if name != base:
            found = compute_statistics((own - values[base]).tolist())
            has_interval = found.low is not None and found.high is not None
            interval = f"[{found.low:+.2f}, {found.high:+.2f}]" if has_interval else "-"
            print(f"{name:10} {found.mean:+7.2f}  95% interval {interval}")
