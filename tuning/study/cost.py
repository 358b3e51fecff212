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
from tuning.reporting.recorded_study import read_study
from tuning.resources import Resources
from tuning.search.finalist_race import count_finalist_runs, count_runs_left
from tuning.search.proposal import count_trials
from tuning.search.schedulers.pruning import list_rungs
from tuning.search.schedulers.successive_halving import make_successive_halving
from tuning.search.space import Space
from tuning.search.time_left import MethodTimes, StageRates, list_work
from tuning.study.steps import EpochSteps, count_epoch_steps, list_batch_sizes

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
        further_runs: Further training seeds of finalists left to run, at most.
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
    further_runs: int
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
class _Measurement:
    """The measurement of a method's run, which serves all methods whose steps cost the same.

    Args:
        method: The method.
        seconds: The seconds of an epoch of each stage; empty if it was not timed.
        disk: The bytes of its state.
        is_short: Whether timing it took little time.
        steps: The steps of its epochs.
    """

    method: str
    seconds: tuple[float, ...]
    disk: int
    is_short: bool
    steps: EpochSteps


def estimate_costs(
    options: Options, spaces: Sequence[Space], resources: Resources, can_run: bool = True
) -> list[CostEstimate]:
    """Return the cost of each method's study; stages are timed here unless epochs are recorded.

    Methods whose steps cost the same are built and timed once, where that takes long.

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
    kinds = [
        (_describe_step(key), list_batch_sizes(space, options.search))
        for space, key in zip(spaces, keys, strict=True)
    ]
    measured: dict[tuple[str, tuple[int, ...]], _Measurement] = {}
    deadline = time.monotonic() + TIMING_SECONDS
    found: list[CostEstimate] = []
    with ProgressBar("methods timed by a few steps", len(spaces)) as progress:
        for index, (space, key, kind) in enumerate(zip(spaces, keys, kinds, strict=True)):
            runs = MethodRecords(options.records_of(space.resolved.name)).read_runs()
            recorded = _average_recorded_seconds([record for record, _ in runs])
            is_timed = len(recorded) == len(key.list_stage_epochs())
            known = measured.get(kind)
            if can_run and (known is None or not (is_timed or _is_settled(known))):
                left = len({other for other in kinds[index:] if other not in measured})
                share = 0.0 if is_timed else (deadline - time.monotonic()) / max(1, left)
                known = _measure_run(options, space, key, share, is_timed)
                measured[kind] = known
            found.append(_estimate_cost(options, space, key, runs, recorded, known))
            progress.advance()
    return found


def _is_settled(measurement: _Measurement) -> bool:
    """Return whether other methods of its kind need no timing of their own."""
    return bool(measurement.seconds) and not measurement.is_short


def _describe_step(key: TrialKey) -> str:
    """Return a text that is the same for keys whose steps cost about the same."""
    weighting = make_weighting(key.recipe.weighting)
    kinds = (LossWeighting, AlphaFairWeighting, GramWeighting)
    kind = next((k.__name__ for k in kinds if isinstance(weighting, k)), type(weighting).__name__)
    config = {n: v for n, v in key.training_config.as_dict().items() if n not in WITHOUT_COST}
    recipe = key.recipe
    stages = [part.name for part in recipe.stages]
    return repr((kind, recipe.sampler, [o.name for o in recipe.objectives], stages, config))


def _measure_run(
    options: Options, space: Space, key: TrialKey, max_seconds: float, is_timed: bool
) -> _Measurement:
    """Build a method's run, and time a few of its steps unless its epochs are timed already."""
    run = make_run(key, space.benchmark)
    disk, start = _measure_state_bytes(run), time.monotonic()
    seconds: tuple[float, ...] = ()
    if isinstance(run, ReinforcementRun):
        seconds = () if is_timed else (run.measure_epoch_seconds(),)
    elif not is_timed:
        seconds = measure_stage_seconds(run, max_seconds)
    is_short = time.monotonic() - start <= SHORT_TIMING_SECONDS
    steps = count_epoch_steps(space, options.search, key, run)
    return _Measurement(space.resolved.name, seconds, disk, is_short, steps)


def _estimate_cost(
    options: Options,
    space: Space,
    key: TrialKey,
    runs: Sequence[tuple[RunRecord, RunDescription]],
    recorded: Mapping[int, float],
    measured: _Measurement | None,
) -> CostEstimate:
    """Return the cost of a method's study.

    Args:
        options: The command.
        space: The search space of the method.
        key: The key of a trial with the values that all trials have.
        runs: The recorded runs.
        recorded: The mean seconds of their epochs of each stage.
        measured: The measurement of its run, or of one whose steps cost the same; None where the
            data are absent.
    """
    counts = space.count_epochs(options.search)
    stages = key.list_stage_epochs()
    timed = measured.seconds if measured else ()
    seconds = [recorded.get(index, timed[index] if timed else None) for index in range(len(stages))]
    known = tuple(one for one in seconds if one is not None)
    trials, seeds = _count_left(options, space, runs)
    further = _count_finalist_runs_left(options, space, trials)
    times = MethodTimes(
        stages=stages,
        new_trials=trials,
        new_seeds=seeds + further,
        search_seeds=options.search_seeds,
        rungs=list_rungs(options.scheduler, max(counts).eligible),
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
        further_runs=further,
        trial_epochs=(min(totals), max(totals)),
        expected_epochs=trials * options.search_seeds * search_epochs
        + (seeds + further) * fmean(totals),
        steps=measured.steps if measured else count_epoch_steps(space, options.search, key, None),
        times=times if len(known) == len(stages) else None,
        source=_describe_source(space.resolved.name, recorded, measured),
        disk=None if measured is None else measured.disk * (options.search_seeds + 2),
    )


def _describe_source(
    method: str, recorded: Mapping[int, float], measured: _Measurement | None
) -> str:
    if recorded:
        return "recorded epochs"
    if measured is None:
        return "not timed"
    return "steps timed here" if measured.method == method else f"as {measured.method}"


def estimate_epochs(epochs: int, scheduler: str) -> float:
    """Return the expected eligible epochs of a trial of the search."""
    if scheduler == "none" or epochs < 2:
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


def _count_finalist_runs_left(options: Options, space: Space, trials: int) -> int:
    """Return the further runs of finalists that are left, at most.

    Args:
        options: The command.
        space: The search space of the method.
        trials: Trials of the search that have not ended.
    """
    if options.finalist_count == 1:
        return 0
    records = MethodRecords(options.records_of(space.resolved.name))
    study = None if trials else read_study(records, options.select)
    if study is None:
        return count_finalist_runs(min(options.finalist_count, count_trials(space, options)))
    ended = {
        number: [run for run in runs if run.is_finished]
        for number, runs in study.further_runs.items()
    }
    return count_runs_left(study.find_race(options.finalist_count), ended)


def _count_finished(runs: Sequence[tuple[RunRecord, RunDescription]], phase: Phase) -> int:
    """Return the number of trials of a phase that have ended."""
    chosen = [(run, description) for run, description in runs if description.phase == phase]
    return len({description.number for run, description in chosen if run.read_end() is not None})
