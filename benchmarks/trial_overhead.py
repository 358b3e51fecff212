"""What a trial costs besides its training: reused processes against a fresh one per trial.

    python -m benchmarks.trial_overhead [--trials 100]

Runs the same study of one-epoch trials on the embedded data set twice, once each way, and prints
seconds of overhead per trial, (wall time x slots - seconds in epochs) / trials, and their ratio.
"""

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path
from unittest import mock

import pandas as pd

from tuning.cluster import tuner
from tuning.cluster.capacity import Capacity
from tuning.cluster.queue import Queue
from tuning.options import Options
from tuning.resources import Resources
from tuning.study import study


def measure_overhead(trials: int, reuse: bool) -> tuple[float, float]:
    """Return seconds of overhead per trial, and the wall seconds of all trials."""
    wall = [0.0]
    slots = [1]
    original = tuner.run_queue

    def timed(queue: Queue, capacity: Capacity, resources: Resources, reuse_actors: bool) -> None:
        slots[0] = capacity.count_slots()
        start = time.perf_counter()
        original(queue, capacity, resources, reuse_actors)
        wall[0] = time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        options = Options(
            methods=("erm",), dataset="colored_digits", trials=trials, epochs=1, seeds=1,
            search="random", scheduler="none", results=Path(folder, "results"),
        )  # fmt: skip
        patched = mock.patch("tuning.study.study.run_queue", timed)
        with patched, contextlib.redirect_stdout(io.StringIO()):
            assert study.run_study(options, reuse).exit_code == 0
        rows = pd.concat(
            pd.read_csv(path) for path in Path(folder, "results").glob("*/erm/[ts]*s.csv")
        )
    return (wall[0] * slots[0] - rows.seconds.sum()) / len(rows), wall[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=100)
    trials = parser.parse_args().trials
    reused, wall_reused = measure_overhead(trials, reuse=True)
    fresh, wall_fresh = measure_overhead(trials, reuse=False)
    print(f"{trials} one-epoch trials and a confirmation seed, start of the cluster left out")
    print(f"reused processes: {reused:.3f} s per trial ({wall_reused:.1f} s in all)")
    print(f"fresh processes:  {fresh:.3f} s per trial ({wall_fresh:.1f} s in all)")
    print(f"fresh / reused:   {fresh / reused:.1f}")


if __name__ == "__main__":
    main()
