"""The cost of a method's study: trials, epochs, time and disk space."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch

from core.environment import detect_environment
from core.make_run import AnyRun, make_run
from core.reinforcement.run import ReinforcementRun
from core.training.profiling import measure_step_seconds
from tuning.options import Options
from tuning.records.method_records import MethodRecords
from tuning.records.run_data import Phase, RunDescription
from tuning.records.run_record import RunRecord
from tuning.resources import Resources
from tuning.search.proposal import count_trials
from tuning.search.space import Space
from tuning.search.successive_halving import make_successive_halving
from tuning.study.steps import EpochSteps, count_epoch_steps

TIMED_STEPS = 30  # of an epoch that has more than twice as many
FORWARD_COST = 1 / 3  # a forward pass, in optimization steps


@dataclass(frozen=True)
class CostEstimate:
    """The cost of a method's study from now on.

    Args:
        method: The method.
        trials: Trials of the search left to run.
        seeds: Confirmation seeds left to run, if the winner stays.
        trial_epochs: Lowest and highest number of epochs of a trial that is not pruned, all stages.
        expected_epochs: Expected epochs of search and confirmation together.
        steps: Steps of an epoch; by the data card's sizes where the data are absent.
        seconds: Seconds of an epoch; None where they can be neither read nor measured.
        source: How these seconds were found.
        disk: Bytes of the states of a trial or seed while it runs; None where unknown.
    """

    method: str
    trials: int
    seeds: int
    trial_epochs: tuple[int, int]
    expected_epochs: float
    steps: EpochSteps
    seconds: float | None
    source: str
    disk: int | None


def estimate_cost(
    options: Options, space: Space, resources: Resources, can_run: bool = True
) -> CostEstimate:
    """Return the cost of a method's study; an epoch is timed here unless some are recorded.

    Args:
        options: The command.
        space: The search space of the method.
        resources: The resources of a trial.
        can_run: Whether data and weights are on this machine; if not, only recorded epochs say
            how long one takes.
    """
    gpu = None if resources.gpus else False
    environment = detect_environment(gpu, resources.cpus, options.deterministic, options.precision)
    values = space.find_common_values(options.search)
    key = space.resolved.make_key(values, 0, environment)
    counts = space.count_epochs(options.search)
    runs = MethodRecords(options.records_of(space.resolved.name)).read_runs()
    seconds, source = _average_recorded_seconds([run for run, _ in runs]) or (None, "not timed")
    run = make_run(key, space.benchmark) if can_run else None
    steps = count_epoch_steps(space, options.search, key, run)
    disk = None
    if run is not None:
        if seconds is None:
            seconds, source = _measure_epoch_seconds(run)
        disk = _measure_state_bytes(run) * (options.search_seeds + 2)
    trials = max(0, count_trials(space, options) - _count_finished(runs, Phase.SEARCH))
    seeds = max(0, options.seeds - _count_finished(runs, Phase.CONFIRM))
    totals = [count.total for count in counts]
    search_epochs = fmean(
        count.total - count.eligible + estimate_epochs(count.eligible, options.scheduler)
        for count in counts
    )
    return CostEstimate(
        method=space.resolved.name,
        trials=trials,
        seeds=seeds,
        trial_epochs=(min(totals), max(totals)),
        expected_epochs=trials * options.search_seeds * search_epochs + seeds * fmean(totals),
        steps=steps,
        seconds=seconds,
        source=source,
        disk=disk,
    )


def estimate_epochs(epochs: int, scheduler: str) -> float:
    """Return the expected eligible epochs of a trial of the search."""
    if scheduler != "asha" or epochs < 2:
        return epochs
    return make_successive_halving(epochs).expected_epochs()


def _measure_epoch_seconds(run: AnyRun) -> tuple[float, str]:
    """Return the seconds of an epoch and their source; a long one is timed by its first steps."""
    if isinstance(run, ReinforcementRun):
        return run.measure_epoch_seconds(), "steps timed here"
    steps = run.steps_per_epoch
    if steps <= 2 * TIMED_STEPS:
        start = time.perf_counter()
        run.train_epoch()
        return time.perf_counter() - start, "a first epoch timed here"
    seconds, timed = measure_step_seconds(run, 0, TIMED_STEPS)
    batches = len(run.context.validation) / run.key.training_config.batch_size
    return seconds * (steps + batches * FORWARD_COST), f"{timed} steps timed here"


def _measure_state_bytes(run: AnyRun) -> int:
    with tempfile.TemporaryFile() as file:
        torch.save(run.make_state().as_dict(), file)
        full = run.count_state_bytes() if isinstance(run, ReinforcementRun) else 0
        return file.tell() + full


def _average_recorded_seconds(runs: Sequence[RunRecord]) -> tuple[float, str] | None:
    """Return the mean seconds of recorded epochs and their source; None without any."""
    seconds = [row.seconds for run in runs for row in run.read_rows()]
    if not seconds:
        return None
    return sum(seconds) / len(seconds), f"{len(seconds)} recorded epochs"


def _count_finished(runs: Sequence[tuple[RunRecord, RunDescription]], phase: Phase) -> int:
    """Return the number of trials of a phase that have ended."""
    chosen = [(run, description) for run, description in runs if description.phase == phase]
    return len({description.number for run, description in chosen if run.read_end() is not None})
