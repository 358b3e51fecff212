"""The reference experiment on colored_digits: every method with the same budget, 20 fresh seeds.

    python -m benchmarks.colored_digits --results results-colored-digits

Runs ``python tune.py`` (resuming what is there) and prints, for each method, the paired difference
to ERM in test worst-group accuracy: seed by seed, with Student's 95% interval of its mean.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd

from core import method as methods
from tuning.statistics import summarise

SEEDS, TRIALS = 20, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, default=Path("results-colored-digits"))
    parser.add_argument("--method", nargs="+", default=methods.names())
    arguments = parser.parse_args()
    command = [
        sys.executable, "tune.py", "--method", *arguments.method, "--dataset", "colored_digits",
        "--trials", str(TRIALS), "--seeds", str(SEEDS), "--results", str(arguments.results),
        "--resume",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    values = {
        name: pd.read_csv(arguments.results / "colored_digits" / name / "seeds.csv")
        .set_index("seed")
        .test_worst_group_accuracy
        for name in arguments.method
    }
    print(f"paired difference to erm in test worst-group accuracy, points, {SEEDS} seeds")
    for name, column in values.items():
        if name != "erm":
            found = summarise((100 * (column - values["erm"])).tolist())
            print(
                f"{name:8} {found.mean:+6.1f}  95% interval [{found.low:+.1f}, {found.high:+.1f}]"
            )


if __name__ == "__main__":
    main()
