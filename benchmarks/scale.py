"""The real driver at the size of a large study: trials that sleep, on GPUs that are declared.

    python -m benchmarks.scale [--trials 2000] [--gpus 64] [--records FOLDER]

One machine poses as a cluster of so many GPUs. The queue, the method's search with its searcher and
ASHA, its records, in a temporary folder, and the loggers that are always on (--no-logs: none) are
those of a study; only the actors train nothing and import no torch: each trial replays a curve, of
earlier records where a folder of one method's is given, and every epoch sleeps --epoch-seconds
shortened by --speed. Prints three verdicts:

- slots are idle for at most 5% of the time with epochs of --epoch-seconds: between an epoch's end
  and the next one's begin as the actors see it, while one Tuner follows another, and at the end of
  a Tuner's trials, where slots wait for the longest in proportion to the length of epochs;
- the driver's memory grows by at most 50 kB per trial;
- the driver's computing time per report, proposals included, does not grow with the study (by at
  most a tenth). TPE reads up to 300 trials (--search auto and tpe), --search random none.

The defaults, 2,000 trials of up to 10 epochs of 1 second on 64 GPUs, take 5 to 10 minutes of two
quiet cores. A --speed at which the driver is busy all the time measures its queue instead.
"""

import argparse
import contextlib
import json
import logging
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.paths import parse_path
from tuning.cluster import ray_environment

ray_environment.configure_ray()

# isort: split
import ray  # noqa: E402
from ray import tune  # noqa: E402

import datasets  # noqa: E402
from core.environment import detect_environment  # noqa: E402
from core.recipe.method_files import load_method  # noqa: E402
from core.training.epoch_row import EpochRow  # noqa: E402
from tuning.cluster.capacity import Capacity  # noqa: E402
from tuning.cluster.queue import BATCH_TRIALS, Next, Queue  # noqa: E402
from tuning.cluster.tuner import run_queue  # noqa: E402
from tuning.loggers.optuna_journal import OptunaLogger  # noqa: E402
from tuning.loggers.study_logs import StudyLogs  # noqa: E402
from tuning.loggers.tensorboard import TensorBoardLogger  # noqa: E402
from tuning.options import Options  # noqa: E402
from tuning.records.method_records import MethodRecords  # noqa: E402
from tuning.records.run_data import RunEnd, TrialStatus  # noqa: E402
from tuning.records.run_record import RunRecord  # noqa: E402
from tuning.resources import Resources  # noqa: E402
from tuning.search.method_search import MethodSearch  # noqa: E402
from tuning.search.recorded_curves import read_curves  # noqa: E402
from tuning.search.space import make_space  # noqa: E402
from tuning.search.trial import Trial  # noqa: E402
from tuning.study.checks import choose_rule  # noqa: E402
from tuning.study.make_export_context import make_export_context  # noqa: E402
from tuning.worker.trial_work import EpochReport  # noqa: E402

MAX_IDLE_SHARE = 0.05  # share of the slots' time
MAX_KB_PER_TRIAL = 50  # kB per trial
MAX_GROWTH = 1.1  # late reports' time by early ones'


class Sleeper(tune.Trainable):
    """Replays and records a curve; tells when each epoch began and ended by one clock."""

    def setup(self, config: dict[str, Any]) -> None:
        self.actor = f"{os.getpid()} {time.monotonic()}"
        self._take_work(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._take_work(new_config)
        return True

    def _take_work(self, config: dict[str, Any]) -> None:
        self.work = json.loads(config["work"])
        self.done = 0

    def step(self) -> dict[str, Any]:
        begin = time.monotonic()
        time.sleep(self.work["seconds"])
        self.done += 1
        value = self.work["curve"][self.done - 1]
        status = "completed" if self.done == len(self.work["curve"]) else ""
        record = Path(self.work["record"])
        (record / "rows.json").write_text(json.dumps(self.work["end"]["rows"][: self.done]))
        if status:
            (record / "end.json").write_text(json.dumps(self.work["end"]))
        times = {"actor": self.actor, "begin": begin, "end": time.monotonic(),
                 "torch": "torch" in sys.modules}  # fmt: skip
        report = {
            "epoch": self.done,
            "seconds": self.work["seconds"],
            "score": {"value": value, "tie_breaker": value, "negated_epoch": -self.done},
            "status": status,
            "reason": json.dumps(times),
        }  # an EpochReport, whose module imports torch
        return {"report": json.dumps(report), "done": bool(status)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        pass

    def load_checkpoint(self, checkpoint: Any) -> None:
        pass


class TimedLogs(StudyLogs):
    """Logs, with the processor seconds of their thread for each trial."""

    def __init__(self, results: Path) -> None:
        makers = {
            "TensorBoard": lambda: TensorBoardLogger(results),
            "Optuna": lambda: OptunaLogger(results),
        }
        super().__init__(makers, print)
        self.seconds: list[float] = []

    def _log_runs(self, records: MethodRecords, runs: Sequence[RunRecord]) -> None:
        begin = time.thread_time()
        super()._log_runs(records, runs)
        self.seconds.append(time.thread_time() - begin)


class TimedQueue(Queue):
    """The queue, with what the driver and the slots did up to each report of the search."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.tuners: list[dict[str, tuple[float, float]]] = []  # each actor's first begin, last end
        self.between_epochs: list[float] = []
        self.between_trials: list[float] = []
        self.proposals: list[float] = []  # seconds of each
        self.ended: list[tuple[int, float, int]] = []  # of each trial: reports, seconds, memory
        self.reports = 0

    def next_work(self, trial_id: str) -> str | Next:
        begin, started = measure_cpu_seconds(), self.started
        found = super().next_work(trial_id)
        if self.started > started and self.running[trial_id][1].phase == "search":
            self.proposals.append(measure_cpu_seconds() - begin)
            if not started:  # the first of this Tuner
                self.tuners.append({})
        return found

    def report_epoch(self, trial_id: str, report: EpochReport) -> bool:
        if trial_id not in self.running or self.running[trial_id][1].phase != "search":
            return super().report_epoch(trial_id, report)
        times = json.loads(report.reason)
        assert not times["torch"], "an actor has imported torch"
        first, last = self.tuners[-1].get(times["actor"], (times["begin"], None))
        if last is not None:
            waits = self.between_epochs if report.epoch > 1 else self.between_trials
            waits.append(times["begin"] - last)
        self.tuners[-1][times["actor"]] = (first, times["end"])
        goes_on = super().report_epoch(trial_id, report)
        self.reports += 1
        if not goes_on:
            self.ended.append((self.reports, measure_cpu_seconds(), measure_resident_bytes()))
        return goes_on

    def measure_tuner_changes(self) -> tuple[float, float]:
        """Seconds of slots between one Tuner's end and the next, and at the ends of all but the
        last."""
        ends = [max(last for _, last in actors.values()) for actors in self.tuners]
        later = zip(ends, self.tuners[1:], strict=False)
        starts = sum(first - end for end, actors in later for first, _ in actors.values())
        earlier = zip(ends[:-1], self.tuners, strict=False)
        return starts, sum(end - last for end, actors in earlier for _, last in actors.values())

    def measure_per_report(self, first: int, last: int) -> float:
        """Processor milliseconds per report between the ends of two trials."""
        (before, begin, _), (after, end, _) = self.ended[first - 1], self.ended[last - 1]
        return 1000 * (end - begin) / (after - before)


def measure_cpu_seconds() -> float:
    """Processor seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure_resident_bytes() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf(
        "SC_PAGE_SIZE"
    )


def load_curves(records: Path | None, epochs: int) -> list[list[float]]:
    """Curves of earlier records, or made-up ones of so many epochs."""
    if records is not None:
        return [[s.value for s in c.scores if s is not None] for c in read_curves(records).curves]
    generator = np.random.default_rng(0)
    return [
        [float(peak * (1 - 0.8**i)) for i in range(1, epochs + 1)]
        for peak in generator.uniform(0.4, 0.9, 50)
    ]


def make_end(curve: Sequence[float]) -> dict[str, object]:
    """Return the record of a trial that completes a curve."""
    rows = [
        EpochRow(
            epoch=epoch, stage=0, stage_epoch=epoch - 1, eligible=True, final=epoch == len(curve),
            losses={"end_task": 1 / epoch}, lr=0.1, steps=1, seconds=1.0,
            validation={
                "worst_group_accuracy": value, "average_accuracy": value,
                "group_accuracy": [value] * 4, "group_count": [100] * 4,
            },
        )
        for epoch, value in enumerate(curve, start=1)
    ]  # fmt: skip
    return RunEnd(TrialStatus.COMPLETED, "", rows).as_dict()


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--gpus", type=int, default=64)
    parser.add_argument("--search", choices=("auto", "tpe", "random"), default="auto")
    parser.add_argument("--scheduler", choices=("asha", "none"), default="asha")
    parser.add_argument("--logs", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--epochs", type=int, default=10, help="of a made-up curve (10)")
    parser.add_argument("--epoch-seconds", type=float, default=10.0, help="of one epoch (10)")
    parser.add_argument("--speed", type=float, default=10.0, help="by which it is shortened (10)")
    parser.add_argument(
        "--batch", type=int, default=BATCH_TRIALS, help=f"trials per Tuner ({BATCH_TRIALS})"
    )
    parser.add_argument(
        "--records", type=parse_path, help="one method's records of an earlier study"
    )
    return parser.parse_args()


def make_search(asked: argparse.Namespace, epochs: int, folder: str) -> MethodSearch:
    """The search of a small method, which could as well be of any other."""
    options = Options(
        methods=("erm",), dataset="colored_digits", trials=asked.trials, seeds=1, epochs=epochs,
        search=asked.search, scheduler=asked.scheduler,
    )  # fmt: skip
    space = make_space(load_method("erm"), datasets.load_benchmark(options.dataset), options)
    rule = choose_rule(options, space.benchmark)
    environment = detect_environment(gpu=False)
    return MethodSearch(space, options, environment, MethodRecords(folder), rule)


def run_search(asked: argparse.Namespace) -> tuple[TimedQueue, list[float]]:
    """Run the search; return its queue, and the processor seconds of logging each trial."""
    replayed = load_curves(asked.records, asked.epochs)
    ends = [make_end(curve) for curve in replayed]

    def encode_work(trial: Trial) -> str:
        number = trial.number % len(replayed)
        seconds = asked.epoch_seconds / asked.speed
        work = {"curve": replayed[number], "seconds": seconds, "end": ends[number]}
        return json.dumps({**work, "record": trial.runs[0].location})

    ray.init(
        address="local", num_cpus=asked.gpus, num_gpus=asked.gpus, include_dashboard=False,
        log_to_driver=False, logging_level=logging.ERROR, object_store_memory=200_000_000,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}},
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.callback(ray.shutdown)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="evenhand-"))
        search = make_search(asked, max(map(len, replayed)), folder)
        search.records.write_context(make_export_context(search, search.options))
        logs = stack.enter_context(TimedLogs(Path(folder, "results")))
        resources = Resources(1, 1.0)
        capacity = Capacity(resources, lambda: search.count_unfinished())

        def handle_change(search: MethodSearch, trial: Trial) -> None:
            if asked.logs and trial.is_finished:
                logs.add_runs(search.records, trial.runs)

        queue = TimedQueue(
            [search], capacity, encode_work, lambda: False, handle_change, asked.batch
        )
        run_queue(queue, capacity, resources, trainable=Sleeper)
        begin = time.monotonic()
        logs.close()
        if asked.logs:
            print(f"logs were written {time.monotonic() - begin:.1f} s after the last trial")
        return queue, logs.seconds


def print_verdict(claim: str, held: bool) -> None:
    print(f"{'met' if held else 'NOT MET'}: {claim}")


def main() -> None:
    asked = parse_arguments()
    start = time.monotonic()
    queue, logged = run_search(asked)
    seconds = asked.epoch_seconds
    wall = time.monotonic() - start
    print(
        f"{asked.trials} trials ({asked.search}, {asked.scheduler}, "
        f"{'logs' if asked.logs else 'no logs'}), {queue.reports} reports, "
        f"{asked.gpus} declared GPUs, epochs of {seconds / asked.speed:g} s, {wall:.0f} s"
    )
    for name, waits in (("epochs", queue.between_epochs), ("trials", queue.between_trials)):
        if waits:
            print(
                f"a slot is idle between two {name}: mean {np.mean(waits) * 1000:.0f} ms, median "
                f"{np.median(waits) * 1000:.0f} ms, 99% below {np.quantile(waits, 0.99) * 1000:.0f}"
                f" ms"
            )
    starts, ends = queue.measure_tuner_changes()
    print(
        f"slots are idle between {len(queue.tuners)} Tuner(s): {starts:.0f} s, and "
        f"{ends * asked.speed:.0f} s at the ends of earlier ones with epochs of {seconds:g} s"
    )
    trials = len(queue.ended)
    part = max(1, trials // 10)
    early, late = (
        queue.measure_per_report(part, 2 * part),
        queue.measure_per_report(trials - part, trials),
    )
    first, last = (1000 * np.mean(queue.proposals[i : i + part]) for i in (part, trials - part))
    print(f"the driver computes per proposal: {first:.1f} ms early, {last:.1f} ms late")
    if logged:
        first, last = (1000 * np.mean(logged[i : i + part]) for i in (part, trials - part))
        print(f"and per logged trial, in a thread: {first:.1f} ms early, {last:.1f} ms late")
    busy = queue.measure_per_report(part, trials) / 1000 * asked.gpus / seconds
    print(f"with epochs of {seconds:g} s the driver is busy for {busy:.1%} of the time")

    idle = sum(queue.between_epochs) + sum(queue.between_trials) + starts + ends * asked.speed
    share = idle / (idle + queue.reports * seconds)
    memory = (queue.ended[trials - 1][2] - queue.ended[part - 1][2]) / (trials - part) / 1000
    print_verdict(
        f"slots idle for {share:.1%} with epochs of {seconds:g} s, at most {MAX_IDLE_SHARE:.0%}",
        share <= MAX_IDLE_SHARE,
    )
    print_verdict(
        f"the driver's memory grows by {memory:.0f} kB per trial, at most {MAX_KB_PER_TRIAL}",
        memory <= MAX_KB_PER_TRIAL,
    )
    print_verdict(
        f"the driver computes {early:.2f} ms per report from trial {part} to {2 * part}, "
        f"{late:.2f} ms from {trials - part} to {trials}, at most {MAX_GROWTH:g} times as much",
        late <= MAX_GROWTH * early,
    )


if __name__ == "__main__":
    main()
