"""The reference experiments on the embedded task data sets: equal budgets, five confirmation seeds.

    python -m benchmarks.two_digits --results results-tasks

Runs ``python tune.py`` (resuming an earlier run) and prints paired differences to ``ls``: in
delta-m, in percent of the single-task baseline, and on ``imbalanced_tasks`` the worst task's error.
"""

import argparse
from pathlib import Path

import pandas as pd

from benchmarks.paired import print_differences, run_study
from common.paths import parse_path

METHODS = ("ls", "fairgrad", "nashmtl", "cagrad")
SEEDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=parse_path, default=Path("results-tasks"))
    given = parser.parse_args()
    run_study("two_digits", METHODS, 12, SEEDS, given.results)
    for column in ("test_delta_m", "test_worst_task_delta"):
        print_differences(given.results, "two_digits", METHODS, "ls", column)
    run_study("imbalanced_tasks", METHODS[:2], 8, SEEDS, given.results)
    print_differences(given.results, "imbalanced_tasks", METHODS[:2], "ls", "test_delta_m")
    for method in METHODS[:2]:
        seeds = pd.read_csv(given.results / "imbalanced_tasks" / method / "seeds.csv")
        errors = seeds.filter(regex=r"^test_.*_relative_rmse$").max(axis=1)
        print(f"{method}: worst task's relative error {errors.mean():.3f} (mean of {len(errors)})")


if __name__ == "__main__":
    main()
