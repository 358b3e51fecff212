"""Estimate the time that a study still takes, from the epochs that it has trained.

The seconds of an epoch are a mean per stage, because stages differ: the second one of Just Train
Twice repeats examples, that of deep feature reweighting takes no steps. How many epochs a trial
trains follows from the trials before it, by the estimator of Kaplan and Meier (1958): trials that
run are censored. Trials and seeds are then placed on the slots, each on the one that is free first.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Protocol

from core.recipe.recipe import StageEpochs
from core.training.selection import Rule
from tuning.records.run_data import TrialStatus
from tuning.search.schedulers.pruning import list_rungs
from tuning.search.schedulers.successive_halving import REDUCTION_FACTOR
from tuning.selection import Candidate, select_trial

PRIOR_TRIALS = 2.0  # weight of the expected share of pruned trials, before any is seen


@dataclass(frozen=True)
class TrialTimes:
    """The epochs of a trial and their times.

    Args:
        stages: The epochs of each stage.
        seconds: The time of each epoch so far, summed over the training seeds.
        status: Where the trial stands, or how it ended.
        runs: Training seeds.
    """

    stages: tuple[StageEpochs, ...]
    seconds: tuple[float, ...]
    status: TrialStatus
    runs: int = 1

    @property
    def is_finished(self) -> bool:
        """Whether it has ended."""
        return self.status.has_ended

    @property
    def progress(self) -> float:
        """The share of its epochs that are trained."""
        return len(self.seconds) / sum(stage.epochs for stage in self.stages)


@dataclass(frozen=True)
class MethodTimes:
    """The trials of a method, and those that it still has to start.

    Args:
        stages: The epochs of each stage of a new trial.
        trials: The trials of the search so far.
        seeds: The confirmation seeds so far.
        new_trials: Trials that the search will start.
        new_seeds: Confirmation seeds that do not exist yet.
        search_seeds: Training seeds of a trial of the search.
        rungs: Eligible epochs at which trials are pruned.
        leader: The best trial so far, running ones too, which the seeds would repeat.
        assumed: Seconds of an epoch of each stage, where they are known without any trained epoch.
    """

    stages: tuple[StageEpochs, ...]
    trials: Sequence[TrialTimes] = ()
    seeds: Sequence[TrialTimes] = ()
    new_trials: int = 0
    new_seeds: int = 0
    search_seeds: int = 1
    rungs: Collection[int] = ()
    leader: TrialTimes | None = None
    assumed: tuple[float, ...] = ()


class TimedTrial(Candidate, Protocol):
    """A trial, running or recorded, that a rule may select, and the times of its epochs."""

    @property
    def times(self) -> TrialTimes:
        """The times of its epochs."""


@dataclass(frozen=True)
class PlannedWork:
    """The work that a method's study has in all.

    Args:
        stages: The epochs of each stage of a new trial.
        trials: Trials of the search.
        further_runs: Further training seeds of finalists.
        seeds: Confirmation seeds.
        search_seeds: Training seeds of a trial of the search.
        scheduler: The scheduler's name.
        epochs: Eligible epochs of a trial.
    """

    stages: tuple[StageEpochs, ...]
    trials: int
    further_runs: int
    seeds: int
    search_seeds: int
    scheduler: str
    epochs: int


def describe_work(
    planned: PlannedWork, trials: Sequence[TimedTrial], seeds: Sequence[TimedTrial], rule: Rule
) -> MethodTimes:
    """Return the times of a study's epochs, and the number of trials and seeds still to start.

    Args:
        planned: All work of the study.
        trials: The trials of the search so far.
        seeds: The further runs of finalists and the confirmation seeds so far.
        rule: The rule that ranks the trials.
    """
    leader = select_trial(trials, rule)
    return MethodTimes(
        stages=planned.stages,
        trials=[trial.times for trial in trials],
        seeds=[seed.times for seed in seeds],
        new_trials=max(0, planned.trials - len(trials)),
        new_seeds=max(0, planned.further_runs + planned.seeds - len(seeds)),
        search_seeds=planned.search_seeds,
        rungs=list_rungs(planned.scheduler, planned.epochs),
        leader=None if leader is None else leader.times,
    )


def estimate_seconds_left(methods: Sequence[MethodTimes], slots: int) -> float | None:
    """Return the seconds that are left on all slots; None while no epoch's time is known.

    Args:
        methods: The methods.
        slots: Trials that run at once.
    """
    rates = [StageRates(method) for method in methods]
    means = [rate.mean for rate in rates if rate.mean is not None]
    if not means:
        return None
    searching: list[float] = []
    confirming: list[float] = []
    longest = 0.0
    for method, rate in zip(methods, rates, strict=True):
        trials, seeds = list_work(method, rate, fmean(means))
        searching += trials
        confirming += seeds
        longest = max(longest, _place(trials, slots) + _place(seeds, slots))
    return max(longest, _place([*searching, *confirming], slots))


def list_work(
    method: MethodTimes, rates: "StageRates", assumed: float = 0.0
) -> tuple[list[float], list[float]]:
    """Return the expected seconds of each unfinished trial, and of each unfinished seed.

    Args:
        method: The method.
        rates: Its seconds per epoch.
        assumed: The seconds of an epoch of a method that has trained none.
    """
    known = [*method.trials, *method.seeds]
    stops = _count_stops(known, (TrialStatus.STOPPED_EARLY, TrialStatus.FAILED))
    pruned = _count_stops(method.trials, (TrialStatus.PRUNED, TrialStatus.PAUSED))
    stopping = _estimate_hazards(known, stops, {})
    expected = dict.fromkeys(method.rungs, 1 - 1 / REDUCTION_FACTOR)
    pruning = _estimate_hazards(method.trials, pruned, expected)

    def expect(
        trial: TrialTimes, hazards: Sequence[Mapping[int, float]], like: TrialTimes
    ) -> float:
        return trial.runs * _expect_seconds(trial, hazards, rates.list_rates(like, assumed))

    new = TrialTimes(method.stages, (), TrialStatus.WAITING, method.search_seeds)
    best = method.leader or new
    seed = TrialTimes(best.stages, (), TrialStatus.WAITING)
    trials = [
        expect(trial, (stopping, pruning), trial)
        for trial in method.trials
        if not trial.is_finished
    ]
    trials += [expect(new, (stopping, pruning), new)] * method.new_trials
    seeds = [
        expect(one, (stopping,), one if one.seconds else best)
        for one in method.seeds
        if not one.is_finished
    ]
    # The more epochs are trained, the more likely is the best trial so far to win.
    trained = sum(1.0 if trial.is_finished else trial.progress for trial in method.trials)
    share = trained / max(1, len(method.trials) + method.new_trials)
    repeated, other = (
        expect(seed, (stopping,), best),
        expect(replace(new, runs=1), (stopping,), new),
    )
    seeds += [share * repeated + (1 - share) * other] * method.new_seeds
    return trials, seeds


class StageRates:
    """The seconds of an epoch of each stage, of one training seed: of trials, and their mean.

    Args:
        method: The method.
    """

    def __init__(self, method: MethodTimes) -> None:
        found: dict[int, list[float]] = {}
        for trial in (*method.trials, *method.seeds):
            for stage, rate in _measure_stages(trial).items():
                found.setdefault(stage, []).append(rate)
        # A mean over trials: over epochs, fast trials would count more.
        self.measured = {stage: fmean(rates) for stage, rates in found.items()}
        self.assumed = method.assumed
        self.stages = method.stages

    @property
    def mean(self) -> float | None:
        """The mean seconds of an epoch of a whole trial; None where none is known."""
        if not self.measured and not self.assumed:
            return None
        epochs = _list_stages(self.stages)
        return fmean(self.find_mean(stage, 0.0) for stage in epochs)

    def find_mean(self, stage: int, default: float) -> float:
        """Return the mean of a stage, else of the nearest stage, else a default."""
        if stage in self.measured:
            return self.measured[stage]
        if stage < len(self.assumed):
            return self.assumed[stage]
        nearest = min(self.measured, key=lambda other: abs(other - stage), default=None)
        return default if nearest is None else self.measured[nearest]

    def list_rates(self, trial: TrialTimes, default: float) -> list[float]:
        """Return the seconds of an epoch of each stage of a trial.

        A stage that it has not reached takes as much longer than the mean as those before.

        Args:
            trial: The trial.
            default: The seconds of an epoch where none is known.
        """
        own = _measure_stages(trial)
        expected = sum(self.find_mean(stage, default) for stage in own)
        pace = sum(own.values()) / expected if expected else 1.0
        means = [self.find_mean(stage, default) for stage in range(len(trial.stages))]
        return [own.get(stage, pace * mean) for stage, mean in enumerate(means)]


def _measure_stages(trial: TrialTimes) -> dict[int, float]:
    """Return the mean seconds of a trial's epochs of each stage, of one training seed."""
    found: dict[int, list[float]] = {}
    for stage, seconds in zip(_list_stages(trial.stages), trial.seconds, strict=False):
        found.setdefault(stage, []).append(seconds / trial.runs)
    return {stage: fmean(values) for stage, values in found.items()}


def _list_stages(stages: Iterable[StageEpochs]) -> list[int]:
    """Return the stage of each epoch of a trial."""
    return [index for index, stage in enumerate(stages) for _ in range(stage.epochs)]


def _count_ineligible(stages: Iterable[StageEpochs]) -> int:
    return sum(stage.epochs for stage in stages if not stage.is_eligible)


def _count_stops(trials: Iterable[TrialTimes], statuses: Collection[TrialStatus]) -> Counter[int]:
    """Return the trials that ended in a way, by their eligible epochs."""
    return Counter(
        len(trial.seconds) - _count_ineligible(trial.stages)
        for trial in trials
        if trial.status in statuses
    )


def _estimate_hazards(
    trials: Sequence[TrialTimes], stops: Mapping[int, int], expected: Mapping[int, float]
) -> dict[int, float]:
    """Return the share of trials that end after a number of eligible epochs, of those that run.

    Args:
        trials: The trials.
        stops: The trials that ended after each number of eligible epochs.
        expected: The share that is expected before any is seen.
    """
    done = [len(trial.seconds) - _count_ineligible(trial.stages) for trial in trials]
    hazards: dict[int, float] = {}
    for epoch in {*stops, *expected}:
        reached = sum(count >= epoch for count in done)
        events = stops.get(epoch, 0) + PRIOR_TRIALS * expected.get(epoch, 0.0)
        hazards[epoch] = events / (reached + PRIOR_TRIALS)
    return hazards


def _expect_seconds(
    trial: TrialTimes, hazards: Sequence[Mapping[int, float]], rates: Sequence[float]
) -> float:
    """Return the expected seconds of the epochs that a trial has left, of one training seed."""
    done, ineligible = len(trial.seconds), _count_ineligible(trial.stages)
    total, share = 0.0, 1.0
    for epoch, stage in enumerate(_list_stages(trial.stages)[done:], start=done):
        if epoch > done or trial.status == TrialStatus.PAUSED:
            for hazard in hazards:
                share *= 1 - hazard.get(epoch - ineligible, 0.0)
        total += share * rates[stage]
    return total


def _place(durations: Iterable[float], slots: int) -> float:
    """Return the time after which all are done, each on the slot that is free first."""
    ends = [0.0] * max(1, slots)
    for duration in durations:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)
