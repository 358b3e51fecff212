"""Time, memory and size of a report over a large study.

    python -m benchmarks.report_size [--methods 16] [--trials 125] [--epochs 20]

Writes records of so many methods with so many trials each and five seeds into a temporary folder,
without training, a third of the trials pruned; then runs ``python tune.py report`` on them in a
process of its own, imports included.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.study_records import StudyNames, write_studies

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Write the records, make the report and print its figures; return the report's exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--methods", type=int, default=16, help="(16)")
    add("--trials", type=int, default=125, help="trials of a method (125)")
    add("--epochs", type=int, default=20, help="epochs of a trial (20)")
    args = parser.parse_args()
    names = StudyNames(
        methods=[f"method_{number}" for number in range(args.methods)],
        parts=("land bird, land", "land bird, water", "water bird, land", "water bird, water"),
    )
    with tempfile.TemporaryDirectory(prefix="evenhand-") as folder:
        records, page = Path(folder) / "records", Path(folder) / "report.html"
        write_studies(records, names, args.trials, args.epochs, seeds=5)
        start = time.perf_counter()
        command = [sys.executable, "tune.py", "report", str(records), "--out", str(page)]
        code = subprocess.run(command, cwd=ROOT).returncode
        wall = time.perf_counter() - start
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        if not code:
            print(
                f"{args.methods * args.trials:,} trials of {args.methods} methods: "
                f"{page.stat().st_size / 1e6:.1f} MB in {wall:.1f} s, "
                f"{used.ru_utime + used.ru_stime:.1f} s of them computed, "
                f"{used.ru_maxrss / 1024:.0f} MiB of memory"
            )
        return code


if __name__ == "__main__":
    sys.exit(main())
