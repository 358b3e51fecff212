"""``--simulate``: compare searchers and schedulers on the records of an earlier study.

Nothing is trained, and the answer takes seconds. A proposed trial trains as the nearest recorded
one did, epoch by epoch, in the recorded time; slots work in parallel, and successive halving prunes
as in a study. That is a surrogate: it shows how searchers and schedulers spend time on such curves,
not the results that a new search would find between them.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from core.training.selection import Rule, Score, select_epoch
from tuning.records.run_data import TrialStatus
from tuning.search.pruning import make_pruner
from tuning.search.recorded_curves import Curve, RecordedCurves, read_curves
from tuning.search.searchers.base import Searcher
from tuning.search.searchers.random import RandomSearcher
from tuning.search.searchers.tpe import TPESearcher
from tuning.selection import select_trial

SEARCHES = ("random", "tpe")
SCHEDULERS = ("none", "asha")


@dataclass(frozen=True)
class Outcome:
    """The outcome of a simulated search.

    Args:
        value: The winner's value.
        device_hours: The time of all epochs, multiplied by the devices that each took.
        hours: The time of the search.
        pruned: The number of trials that were pruned.
    """

    value: float
    device_hours: float
    hours: float
    pruned: int


@dataclass(frozen=True)
class SimulatedTrial:
    """A trial that has ended, which a rule may select.

    Args:
        number: The trial's number.
        curve: The recorded trial that it repeated.
        scores: The score of each of its epochs.
        status: How it ended.
    """

    number: int
    curve: Curve
    scores: Sequence[Score | None]
    status: TrialStatus

    @property
    def is_finished(self) -> bool:
        """Whether it has ended."""
        return self.status.has_ended


class SimulatedSearch:
    """A search in which every epoch ends at its recorded time.

    Args:
        recorded: The trials of an earlier study.
        searcher: The searcher.
        scheduler: ``asha`` or ``none``.
        trials: Trials of the search.
        slots: Trials that run at once.
    """

    def __init__(
        self,
        recorded: RecordedCurves,
        searcher: Searcher,
        scheduler: str,
        trials: int,
        slots: int,
    ) -> None:
        self.recorded = recorded
        self.searcher = searcher
        self.pruner = make_pruner(scheduler, recorded.eligible_epochs)
        self.trials = trials
        self.slots = slots
        self.ended: list[SimulatedTrial] = []
        self._now = 0.0
        self._curves: dict[int, Curve] = {}  # of each trial
        self._events: list[tuple[float, int, int]] = []  # time, trial, and epoch that ends then

    def run(self) -> Outcome:
        """Run the search; return its outcome."""
        spent = 0.0
        for number in range(self.slots):
            self._start_trial(number)
        while self._events:
            self._now, number, index = heapq.heappop(self._events)
            curve = self._curves[number]
            spent += curve.device_seconds[index]
            scores = curve.scores[: index + 1]
            prune = self.pruner.report_epoch(number, scores)
            is_last = len(scores) == len(curve.scores)
            if not is_last and not prune:
                ends = self._now + curve.seconds[index + 1]
                heapq.heappush(self._events, (ends, number, index + 1))
                continue
            status = TrialStatus.COMPLETED if is_last else TrialStatus.PRUNED
            self.searcher.report_trial(number, scores, status)
            self.ended.append(SimulatedTrial(number, curve, scores, status))
            self._start_trial(len(self._curves))
        winner = select_trial(self.ended, self.recorded.rule)
        best = None if winner is None else select_epoch(winner.scores)
        pruned = sum(trial.status == TrialStatus.PRUNED for trial in self.ended)
        value = -math.inf if best is None else best.value
        return Outcome(value, spent / 3600, self._now / 3600, pruned)

    def _start_trial(self, number: int) -> None:
        if number >= self.trials:
            return
        values = self.searcher.propose_hyperparameters(number)
        if values is not None:
            curve = self._curves[number] = self.recorded.find_nearest(values)
            heapq.heappush(self._events, (self._now + curve.seconds[0], number, 0))


def make_simulated_searcher(name: str, recorded: RecordedCurves, seed: int) -> Searcher:
    """Return a searcher over the space of an earlier study."""
    if name == "tpe":
        return TPESearcher(recorded.space, seed)
    return RandomSearcher(recorded.space, seed, recorded.name)


def simulate_searches(
    folder: str | Path, trials: int | None = None, slots: int = 4, repeats: int = 10
) -> str:
    """Compare searchers and schedulers on the records of an earlier study; return a table.

    Args:
        folder: One method's records.
        trials: Trials of each simulated search; None for as many as are recorded.
        slots: Trials that run at once.
        repeats: Simulated searches of each kind, which differ in the seed.

    Raises:
        UserError: If the folder holds no study, or too few trials.
    """
    recorded = read_curves(folder)
    count = trials or len(recorded.curves)
    lines = [
        f"{recorded.name}: {len(recorded.curves)} recorded trials"
        + (f" ({recorded.skipped} pruned, failed or unfinished ones skipped)"
           if recorded.skipped else "")
        + f"; {count} trials, {slots} at once, mean ± standard deviation of {repeats} searches",
        "",
        f"| search | scheduler | {recorded.rule.name} | device-hours | hours | pruned |",
        "| --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for name in SEARCHES:
        for scheduler in SCHEDULERS:
            outcomes = [
                SimulatedSearch(
                    recorded, make_simulated_searcher(name, recorded, seed), scheduler, count, slots
                ).run()
                for seed in range(repeats)
            ]
            cells = _format_outcomes(recorded.rule, outcomes, count)
            lines.append(f"| {name} | {scheduler} | {cells} |")
    best = max(curve.best for curve in recorded.curves)
    lines += ["", f"best recorded: {recorded.rule.read_metric(best):.4f}"]
    return "\n".join(lines)


def _format_outcomes(rule: Rule, outcomes: Sequence[Outcome], trials: int) -> str:
    values = [-outcome.value if rule.lower_is_better else outcome.value for outcome in outcomes]
    deviation = stdev(values) if len(values) > 1 else 0.0
    return (
        f"{fmean(values):.4f} ± {deviation:.4f} "
        f"| {fmean(outcome.device_hours for outcome in outcomes):.3g} "
        f"| {fmean(outcome.hours for outcome in outcomes):.3g} "
        f"| {fmean(outcome.pruned for outcome in outcomes) / trials:.0%}"
    )
