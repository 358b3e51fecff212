"""The engine alone at the size of a large study: trials that sleep, on GPUs that are declared.

    python -m benchmarks.scale [--trials 2000] [--gpus 64] [--records FOLDER]

One machine poses as a cluster of so many GPUs; each trial replays a curve, of earlier records where
a folder of one method's is given, and every round sleeps --round seconds shortened by --speed. The
actors import no torch. Prints

- the time between a round's end and the next one's begin, as the actor sees it, which is what a
  slot stands idle per round, and what share of rounds of --round seconds that is;
- the same between two trials;
- what the driver computes per report, early and late, so that growth shows;
- the driver's memory per trial.
"""

import argparse
import json
import logging
import os
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from tuning import ray_environment

ray_environment.prepare()

# isort: split
import ray  # noqa: E402
from ray import tune  # noqa: E402

from tuning import engine  # noqa: E402
from tuning.recorded_run import Step  # noqa: E402
from tuning.resources import Resources  # noqa: E402
from tuning.simulate import read  # noqa: E402


class Sleeper(tune.Trainable):
    """Replays a curve; tells when each round began and ended by the machine's one clock."""

    def setup(self, config: dict[str, Any]) -> None:
        self.ended = 0.0
        self._take(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._take(new_config)
        return True

    def _take(self, config: dict[str, Any]) -> None:
        self.work = json.loads(config["work"])
        self.done = 0

    def step(self) -> dict[str, Any]:
        idle = time.monotonic() - self.ended if self.ended else None
        time.sleep(self.work["seconds"])
        self.done += 1
        value = self.work["curve"][self.done - 1]
        status = "completed" if self.done == len(self.work["curve"]) else ""
        row = {
            "round": self.done,
            "seconds": self.work["seconds"],
            "idle": idle,
            "torch": "torch" in sys.modules,
        }
        self.ended = time.monotonic()
        return {
            "rows": json.dumps([row]), "score": json.dumps([value, value]), "status": status,
            "reason": "", "done": bool(status),
        }  # fmt: skip

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        pass

    def load_checkpoint(self, checkpoint: Any) -> None:
        pass


class Trials:
    """Stands for a method's search: hands out so many trials and takes their reports in."""

    name = "sleep"

    def __init__(self, curves: list[list[float]], trials: int, seconds: float) -> None:
        self.curves, self.asked, self.seconds = curves, trials, seconds
        self.options = argparse.Namespace(seeds=0)
        self.trials: dict[int, argparse.Namespace] = {}
        self.seeds: dict[int, argparse.Namespace] = {}
        self.ended = 0
        self.between_rounds: list[float] = []
        self.between_trials: list[float] = []
        self.memory: dict[int, int] = {}

    @property
    def done(self) -> bool:
        return self.ended >= self.asked

    def next_work(self, whole_gpu: bool = False) -> Any:
        number = len(self.trials)
        if number >= self.asked:
            return None
        self.trials[number] = argparse.Namespace(finished=False, number=number)
        return self.trials[number]

    def work(self, tried: Any) -> dict[str, Any]:
        curve = self.curves[tried.number % len(self.curves)]
        return {"curve": curve, "seconds": self.seconds}

    def report(self, tried: Any, step: Step) -> bool:
        row = step.rows[0]
        assert not row["torch"], "an actor has imported torch"
        if row["idle"] is not None:
            (self.between_rounds if row["round"] > 1 else self.between_trials).append(row["idle"])
        if step.status:
            self._end(tried)
        return not step.status

    def lost(self, tried: Any) -> None:
        self._end(tried)

    def _end(self, tried: Any) -> None:
        tried.finished = True
        self.ended += 1
        self.memory[self.ended] = resident()


def resident() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Timed(engine.Queue):
    """The queue, with the processor time that the driver took up to each report."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.clock: list[float] = []

    def report(self, trial_id: str, result: dict[str, Any]) -> bool:
        goes_on = super().report(trial_id, result)
        used = resource.getrusage(resource.RUSAGE_SELF)
        self.clock.append(used.ru_utime + used.ru_stime)
        return goes_on


def curves(records: Path | None, rounds: int) -> list[list[float]]:
    """Curves of earlier records, or made-up ones of so many rounds."""
    if records is not None:
        return [[s.value for s in c.scores if s is not None] for c in read(records).curves]
    generator = np.random.default_rng(0)
    return [
        [float(peak * (1 - 0.8**i)) for i in range(1, rounds + 1)]
        for peak in generator.uniform(0.4, 0.9, 50)
    ]


def per_report(clock: list[float], first: int, last: int) -> float:
    """Processor milliseconds per report between two of them."""
    last = min(last, len(clock)) - 1
    return 1000 * (clock[last] - clock[first]) / (last - first) if last > first else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10, help="of a made-up curve (10)")
    parser.add_argument("--round", type=float, default=10.0, help="seconds of a round (10)")
    parser.add_argument("--speed", type=float, default=100.0, help="by which it is shortened (100)")
    parser.add_argument("--batch", type=int, help=f"trials per Tuner ({engine.BATCH})")
    parser.add_argument("--records", type=Path, help="one method's records of an earlier study")
    asked = parser.parse_args()
    engine.BATCH = asked.batch or engine.BATCH
    ray.init(
        address="local", num_cpus=asked.gpus, num_gpus=asked.gpus, include_dashboard=False,
        log_to_driver=False, logging_level=logging.ERROR, object_store_memory=200_000_000,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}},
    )  # fmt: skip
    trials = Trials(curves(asked.records, asked.rounds), asked.trials, asked.round / asked.speed)
    queue = Timed([trials], asked.gpus, trials.work, lambda: False, lambda search, tried: None)
    start = time.monotonic()
    engine.run(queue, Resources(1, 1.0), trainable=Sleeper)
    wall = time.monotonic() - start
    ray.shutdown()

    reports = len(queue.clock)
    tenth = reports // 10
    rounds = np.array(trials.between_rounds)
    changes = np.array(trials.between_trials)
    per_trial = reports / asked.trials
    idle = (rounds.mean() * (per_trial - 1) + changes.mean()) / per_trial
    print(f"{asked.trials} trials, {reports} reports, {asked.gpus} declared GPUs, {wall:.0f} s")
    for name, waits in (("rounds", rounds), ("trials", changes)):
        print(
            f"a slot is idle between two {name}: mean {waits.mean() * 1000:.0f} ms, "
            f"median {statistics.median(waits) * 1000:.0f} ms, "
            f"99% below {np.quantile(waits, 0.99) * 1000:.0f} ms"
        )
    early, late = (
        per_report(queue.clock, tenth, 2 * tenth),
        per_report(queue.clock, 9 * tenth, reports),
    )
    whole = per_report(queue.clock, tenth, reports)
    print(f"the driver computes per report: {early:.2f} ms early, {late:.2f} ms late")
    busy = whole / 1000 * asked.gpus / asked.round
    print(f"with rounds of {asked.round:g} s it is busy for {busy:.1%} of the time")
    print(f"idle share of slots at {asked.speed:g} times that pace, by the clock: "
          f"{idle / (idle + asked.round / asked.speed):.1%}")  # fmt: skip
    print(
        f"idle share of slots with rounds of {asked.round:g} s: {idle / (idle + asked.round):.1%}"
    )
    half = asked.trials // 2
    grown = (trials.memory[asked.trials] - trials.memory[half]) / (asked.trials - half)
    print(f"the driver's memory per trial, over the later half: {grown / 1000:.0f} kB")


if __name__ == "__main__":
    main()
