"""``--simulate``: compare searchers and schedulers on the records of an earlier study.

Nothing is trained, and the answer takes seconds. A proposed trial trains as the nearest recorded
one did, epoch by epoch, in the recorded time; slots work in parallel, and successive halving prunes
as in a study. That is a surrogate: it shows how searchers and schedulers spend time on such curves,
not the results that a new search would find between them.
"""

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from core.training.selection import Rule, Score, select_epoch
from tuning.records.run_data import TrialStatus
from tuning.search.recorded_curves import Curve, RecordedCurves, read_curves
from tuning.search.schedulers.promotion import make_promoter
from tuning.search.schedulers.pruning import make_pruner
from tuning.search.searchers.base import Searcher
from tuning.search.searchers.random import RandomSearcher
from tuning.search.searchers.tpe import TPESearcher
from tuning.selection import select_trial

SEARCHES = ("random", "tpe")
SCHEDULERS = ("none", "asha", "asha_promotion")


@dataclass(frozen=True)
class Outcome:
    """The outcome of a simulated search.

    Args:
        value: The winner's value.
        true_value: Its value on a training seed that the search did not see; None without one.
        device_hours: The time of all epochs, multiplied by the devices that each took.
        hours: The time of the search.
        pruned: The number of trials that were pruned.
    """

    value: float
    device_hours: float
    hours: float
    pruned: int
    true_value: float | None = None


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
    def is_default(self) -> bool:
        """Whether it is the search's trial of the default hyperparameters, which is the first."""
        return self.number == 0


class SimulatedSearch:
    """A search in which every epoch ends at its recorded time.

    Args:
        recorded: The trials of an earlier study.
        searcher: The searcher.
        scheduler: The ``--scheduler`` option.
        trials: Trials of the search.
        slots: Trials that run at once.
        budget: Seconds of devices after which no trial starts or continues from a pause.
    """

    def __init__(
        self,
        recorded: RecordedCurves,
        searcher: Searcher,
        scheduler: str,
        trials: int,
        slots: int,
        budget: float = math.inf,
    ) -> None:
        self.recorded = recorded
        self.searcher = searcher
        self.pruner = make_pruner(scheduler, recorded.eligible_epochs)
        self.promoter = make_promoter(scheduler, recorded.rule, recorded.eligible_epochs)
        self.trials = trials
        self.slots = slots
        self.budget = budget
        self.ended: list[SimulatedTrial] = []
        self._now = 0.0
        self._spent = 0.0
        self._curves: dict[int, Curve] = {}  # of each trial
        self._paused: dict[int, int] = {}  # epochs of each paused trial
        self._promoted = deque[int]()  # paused trials that may continue
        self._events: list[tuple[float, int, int]] = []  # time, trial, and epoch that ends then

    def run(self) -> Outcome:
        """Run the search; return its outcome."""
        self._fill_slots()
        while self._events:
            self._now, number, index = heapq.heappop(self._events)
            curve = self._curves[number]
            self._spent += curve.device_seconds[index]
            self._end_epoch(number, curve.scores[: index + 1])
            self._fill_slots()
        for number, epochs in self._paused.items():
            self._add_ended(number, self._curves[number].scores[:epochs], TrialStatus.PRUNED)
        winner = select_trial(self.ended, self.recorded.rule)
        best = None if winner is None else select_epoch(winner.scores)
        pruned = sum(trial.status == TrialStatus.PRUNED for trial in self.ended)
        value = -math.inf if best is None else best.value
        true_value = None if winner is None else winner.curve.true_value
        return Outcome(value, self._spent / 3600, self._now / 3600, pruned, true_value)

    def _end_epoch(self, number: int, scores: Sequence[Score | None]) -> None:
        """Report a trial's epoch; end the trial, pause it, or start its next epoch."""
        is_pruned = self.pruner.report_epoch(number, scores)
        is_last = len(scores) == len(self._curves[number].scores)
        status = TrialStatus.COMPLETED if is_last else TrialStatus.PRUNED if is_pruned else None
        if self.promoter is not None:
            promoted = self.promoter.report_epochs(number, scores, status)
            self._promoted += [other for other in promoted if other != number]
        if status is not None:
            self.searcher.report_trial(number, scores, status)
            self._add_ended(number, scores, status)
        elif self.promoter is None or self.promoter.may_train(number, scores):
            self._start_epoch(number, len(scores))
        else:
            self._paused[number] = len(scores)
            self.searcher.report_trial(number, scores, TrialStatus.PRUNED)

    def _add_ended(self, number: int, scores: Sequence[Score | None], status: TrialStatus) -> None:
        self.ended.append(SimulatedTrial(number, self._curves[number], scores, status))

    def _start_epoch(self, number: int, index: int) -> None:
        ends = self._now + self._curves[number].seconds[index]
        heapq.heappush(self._events, (ends, number, index))

    def _fill_slots(self) -> None:
        """Continue promoted trials, then start new ones, while a slot is free."""
        while len(self._events) < self.slots and self._spent < self.budget:
            if self._promoted:
                number = self._promoted.popleft()
                if number in self._paused:  # else it was promoted while it ran
                    self._start_epoch(number, self._paused.pop(number))
            elif not self._start_trial(len(self._curves)):
                return

    def _start_trial(self, number: int) -> bool:
        """Start a new trial; return whether there is one."""
        values = self.searcher.propose_hyperparameters(number) if number < self.trials else None
        if values is not None:
            self._curves[number] = self.recorded.find_nearest(values)
            self._start_epoch(number, 0)
        return values is not None


def make_simulated_searcher(name: str, recorded: RecordedCurves, seed: int) -> Searcher:
    """Return a searcher over the space of an earlier study."""
    if name == "tpe":
        return TPESearcher(recorded.space, seed)
    return RandomSearcher(recorded.space, seed, recorded.name)


def simulate_searches(
    folder: str | Path, trials: int | None = None, slots: int = 4, repeats: int = 10
) -> str:
    """Compare searchers and schedulers on the records of an earlier study; return a table.

    Where trials have several training seeds, each simulated search leaves one of them out, in turn,
    and the value of its winner on that seed is its true value: the search had no part in it.

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
    judged = ["true value"] if recorded.left_out else []
    columns = ["search", "scheduler", recorded.rule.name, *judged]
    columns += ["device-hours", "hours", "pruned"]
    lines = [
        f"{recorded.name}: {len(recorded.curves)} recorded trials"
        + (f" ({recorded.skipped} pruned, failed or unfinished ones skipped)"
           if recorded.skipped else "")
        + f"; {count} trials, {slots} at once, mean ± standard deviation of {repeats} searches",
        "",
        "| " + " | ".join(columns) + " |",
        "| " + " | ".join("---" for _ in columns) + " |",
    ]  # fmt: skip
    for name in SEARCHES:
        for scheduler in SCHEDULERS:
            outcomes = [
                SimulatedSearch(
                    recorded.leave_out(seed),
                    make_simulated_searcher(name, recorded, seed),
                    scheduler,
                    count,
                    slots,
                ).run()
                for seed in range(repeats)
            ]
            cells = _format_outcomes(recorded.rule, outcomes, count)
            lines.append(f"| {name} | {scheduler} | {cells} |")
    best = max(curve.best for curve in recorded.curves)
    lines += ["", f"best recorded: {recorded.rule.read_metric(best):.4f}"]
    if recorded.left_out:
        blind = fmean(
            curve.true_value for curves in recorded.left_out for curve in curves
            if curve.true_value is not None
        )  # fmt: skip
        lines.append(
            "true value: that of the winner on a training seed that its search left out, each of "
            f"{len(recorded.left_out)} in turn; of a trial drawn blindly: "
            f"{recorded.rule.rank_metric(blind):.4f}"
        )
    return "\n".join(lines)


def _format_outcomes(rule: Rule, outcomes: Sequence[Outcome], trials: int) -> str:
    true_values = [found.true_value for found in outcomes if found.true_value is not None]
    return (
        f"{_format_values(rule, [outcome.value for outcome in outcomes])} "
        + (f"| {_format_values(rule, true_values)} " if true_values else "")
        + f"| {fmean(outcome.device_hours for outcome in outcomes):.3g} "
        f"| {fmean(outcome.hours for outcome in outcomes):.3g} "
        f"| {fmean(outcome.pruned for outcome in outcomes) / trials:.0%}"
    )


def _format_values(rule: Rule, values: Sequence[float]) -> str:
    metrics = [rule.rank_metric(value) for value in values]  # its own inverse
    deviation = stdev(metrics) if len(metrics) > 1 else 0.0
    return f"{fmean(metrics):.4f} ± {deviation:.4f}"
