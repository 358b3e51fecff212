"""The reference experiment on colored_digits: every method with the same budget, 20 fresh seeds.

    python -m benchmarks.colored_digits --results results-colored-digits

Runs ``python tune.py`` (going on with what is there) and prints, for each method, the paired
difference to ERM in test worst-group accuracy, in points.
"""

import argparse
from pathlib import Path

from benchmarks.paired import differences, study

METHODS = ("erm", "erm_l1", "suby", "subg", "rwy", "rwg", "dro", "jtt")
SEEDS, TRIALS = 20, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, default=Path("results-colored-digits"))
    parser.add_argument("--method", nargs="+", default=METHODS)
    given = parser.parse_args()
    study("colored_digits", given.method, TRIALS, SEEDS, given.results)
    column = "test_worst_group_accuracy"
    differences(given.results, "colored_digits", given.method, "erm", column, 100)


if __name__ == "__main__":
    main()
