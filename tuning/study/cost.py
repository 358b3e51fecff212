"""The cost of a method's study: trials, epochs, time and disk space."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor
from torch.utils._pytree import tree_leaves

from common.progress import ProgressBar
from core.environment import detect_environment
from core.make_run import AnyRun, make_run
from core.recipe.component import make_weighting
from core.recipe.trial_key import TrialKey
from core.reinforcement.run import ReinforcementRun
from core.training.profiling import measure_stage_seconds
from core.weighting import GramWeighting
from core.weighting.base import AlphaFairWeighting, LossWeighting
from tuning.options import Options
from tuning.records.method_records import MethodRecords
from tuning.records.run_data import Phase, RunDescription
from tuning.records.run_record import RunRecord
from tuning.resources import Resources
from tuning.search.proposal import count_trials
from tuning.search.pruning import make_pruner
from tuning.search.space import Space
from tuning.search.successive_halving import make_successive_halving
from tuning.search.time_left import MethodTimes, StageRates, list_work
from tuning.study.steps import EpochSteps, count_epoch_steps

TIMING_SECONDS = 25.0  # for all methods of a plan
SHORT_TIMING_SECONDS = 1.0  # methods that take no longer are all timed, the others once per kind
# Fields of the training config on which the time of a step does not depend.
WITHOUT_COST = frozenset(
    """
    lr weight_decay epochs momentum schedule warmup warmup_steps clip_norm clip times_losses
    weighted_heads patience epochs_cover decay_target
    """.split()  # noqa: SIM905
)


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
        times: The trials left with the seconds of an epoch of each stage; None where these can be
            neither read nor measured.
        source: How these seconds were found.
        disk: Bytes of the states of a trial or seed while it runs; None where unknown.
    """

    method: str
    trials: int
    seeds: int
    trial_epochs: tuple[int, int]
    expected_epochs: float
    steps: EpochSteps
    times: MethodTimes | None
    source: str
    disk: int | None

    @property
    def seconds(self) -> float | None:
        """The seconds of training, on one slot; None where unknown."""
        if self.times is None:
            return None
        return sum(map(sum, list_work(self.times, StageRates(self.times))))


@dataclass(frozen=True)
class _Timing:
    """The timing of a method's run: seconds of an epoch of each stage, and bytes of its state."""

    method: str
    seconds: tuple[float, ...]
    disk: int
    is_short: bool


def estimate_costs(
    options: Options, spaces: Sequence[Space], resources: Resources, can_run: bool = True
) -> list[CostEstimate]:
    """Return the cost of each method's study; epochs are timed here unless some are recorded.

    Methods whose steps cost the same are timed once, where that takes long.

    Args:
        options: The command.
        spaces: The search space of each method.
        resources: The resources of a trial.
        can_run: Whether data and weights are on this machine; if not, only recorded epochs say
            how long one takes.
    """
    gpu = None if resources.gpus else False
    environment = detect_environment(gpu, resources.cpus, options.deterministic, options.precision)
    keys = [
        space.resolved.make_key(space.find_common_values(options.search), 0, environment)
        for space in spaces
    ]
    kinds = [_describe_step(key) for key in keys]
    timings: dict[str, _Timing] = {}
    deadline = time.monotonic() + TIMING_SECONDS
    found: list[CostEstimate] = []
    with ProgressBar("methods timed by a few steps", len(spaces)) as progress:
        for index, (space, key, kind) in enumerate(zip(spaces, keys, kinds, strict=True)):
            run = make_run(key, space.benchmark) if can_run else None
            if run is not None and (kind not in timings or timings[kind].is_short):
                left = len({other for other in kinds[index:] if other not in timings})
                share = (deadline - time.monotonic()) / max(1, left)
                timings[kind] = _time_run(space.resolved.name, run, share)
            found.append(_estimate_cost(options, space, key, run, timings.get(kind)))
            progress.advance()
    return found


def _describe_step(key: TrialKey) -> str:
    """Return a text that is the same for keys whose steps cost about the same."""
    weighting = make_weighting(key.recipe.weighting)
    kinds = (LossWeighting, AlphaFairWeighting, GramWeighting)
    kind = next((k.__name__ for k in kinds if isinstance(weighting, k)), type(weighting).__name__)
    config = {n: v for n, v in key.training_config.as_dict().items() if n not in WITHOUT_COST}
    recipe = key.recipe
    stages = [part.name for part in recipe.stages]
    return repr((kind, recipe.sampler, [o.name for o in recipe.objectives], stages, config))


def _time_run(method: str, run: AnyRun, max_seconds: float) -> _Timing:
    """Return the seconds of an epoch of each stage of a new run, from a few steps."""
    disk, start = _measure_state_bytes(run), time.monotonic()
    if isinstance(run, ReinforcementRun):
        seconds: tuple[float, ...] = (run.measure_epoch_seconds(),)
    else:
        seconds = measure_stage_seconds(run, max_seconds)
    return _Timing(method, seconds, disk, time.monotonic() - start <= SHORT_TIMING_SECONDS)


def _estimate_cost(
    options: Options, space: Space, key: TrialKey, run: AnyRun | None, timing: _Timing | None
) -> CostEstimate:
    """Return the cost of a method's study.

    Args:
        options: The command.
        space: The search space of the method.
        key: The key of a trial with the values that all trials have.
        run: The run of that key; None where the data are absent.
        timing: The timing of it, or of a run whose steps cost the same.
    """
    counts = space.count_epochs(options.search)
    runs = MethodRecords(options.records_of(space.resolved.name)).read_runs()
    recorded = _average_recorded_seconds([record for record, _ in runs])
    stages = key.list_stage_epochs()
    seconds = [
        recorded.get(index, timing.seconds[index] if timing else None)
        for index in range(len(stages))
    ]
    known = tuple(one for one in seconds if one is not None)
    trials, seeds = _count_left(options, space, runs)
    times = MethodTimes(
        stages=stages,
        new_trials=trials,
        new_seeds=seeds,
        search_seeds=options.search_seeds,
        rungs=make_pruner(options.scheduler, max(counts).eligible).rungs,
        assumed=known,
    )
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
        steps=count_epoch_steps(space, options.search, key, run),
        times=times if len(known) == len(stages) else None,
        source=_describe_source(space.resolved.name, recorded, timing),
        disk=None if timing is None else timing.disk * (options.search_seeds + 2),
    )


def _describe_source(method: str, recorded: Mapping[int, float], timing: _Timing | None) -> str:
    if recorded:
        return "recorded epochs"
    if timing is None:
        return "not timed"
    return "steps timed here" if timing.method == method else f"as {timing.method}"


def estimate_epochs(epochs: int, scheduler: str) -> float:
    """Return the expected eligible epochs of a trial of the search."""
    if scheduler != "asha" or epochs < 2:
        return epochs
    return make_successive_halving(epochs).expected_epochs()


def _measure_state_bytes(run: AnyRun) -> int:
    """Return the bytes of the tensors in a run's state, which are nearly all of it."""
    tensors = [leaf for leaf in tree_leaves(run.make_state().as_dict()) if isinstance(leaf, Tensor)]
    full = run.count_state_bytes() if isinstance(run, ReinforcementRun) else 0
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) + full


def _average_recorded_seconds(runs: Sequence[RunRecord]) -> dict[int, float]:
    """Return the mean seconds of the recorded epochs of each stage."""
    found: dict[int, list[float]] = {}
    for run in runs:
        for row in run.read_rows():
            found.setdefault(row.stage, []).append(row.seconds)
    return {stage: fmean(seconds) for stage, seconds in found.items()}


def is_finished_on_record(options: Options, space: Space, records: MethodRecords) -> bool:
    """Return whether a method's records hold all trials and seeds that a command asks for."""
    return not any(_count_left(options, space, records.read_runs()))


def _count_left(
    options: Options, space: Space, runs: Sequence[tuple[RunRecord, RunDescription]]
) -> tuple[int, int]:
    """Return the trials of the search and the confirmation seeds that are left to run."""
    trials = count_trials(space, options) - _count_finished(runs, Phase.SEARCH)
    seeds = options.seeds - _count_finished(runs, Phase.CONFIRM)
    return max(0, trials), max(0, seeds)


def _count_finished(runs: Sequence[tuple[RunRecord, RunDescription]], phase: Phase) -> int:
    """Return the number of trials of a phase that have ended."""
    chosen = [(run, description) for run, description in runs if description.phase == phase]
    return len({description.number for run, description in chosen if run.read_end() is not None})
