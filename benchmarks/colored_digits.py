"""The reference experiment on colored_digits: equal budgets, 20 confirmation seeds per method.

    python -m benchmarks.colored_digits --results results-colored-digits

Runs ``python tune.py`` (resuming an earlier run) and prints, for each method, the paired
difference to ERM in test worst-group accuracy, in points.
"""

import argparse
from pathlib import Path

from benchmarks.paired import print_differences, run_study
from common.paths import parse_path

METHODS = ("erm", "erm_l1", "suby", "subg", "rwy", "rwg", "dro", "jtt")
SEEDS, TRIALS = 20, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=parse_path, default=Path("results-colored-digits"))
    parser.add_argument("--method", nargs="+", default=METHODS)
    given = parser.parse_args()
    run_study("colored_digits", given.method, TRIALS, SEEDS, given.results)
    column = "test_worst_group_accuracy"
    print_differences(given.results, "colored_digits", given.method, "erm", column, 100)


if __name__ == "__main__":
    main()
