"""The estimate of the time left, in simulated studies of every kind of method."""

import heapq
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import datasets
from core.environment import detect_environment
from core.recipe.method_files import load_method
from core.recipe.recipe import StageEpochs
from core.training.selection import Score
from tests.support.real_searches import search_of
from tests.tuning.cluster.test_queue import ignore_change
from tests.tuning.search.test_method_search import train
from tuning.cluster.queue import Queue
from tuning.options import Options
from tuning.records.method_records import MethodRecords
from tuning.records.run_data import Phase, TrialStatus
from tuning.reporting.recorded_study import read_study
from tuning.reporting.status import describe_times
from tuning.search.method_search import MethodSearch
from tuning.search.space import make_space
from tuning.search.time_left import MethodTimes, TrialTimes, estimate_seconds_left
from tuning.search.trial import Trial
from tuning.study.checks import choose_rule
from tuning.study.make_export_context import make_export_context
from tuning.worker.trial_work import EpochReport

STUDIES = 4  # of each kind, which differ in times and curves
EXAMPLES = 1000.0  # of a training split


@dataclass
class SimulatedStudy:
    """A study in which epochs take the time of a simple model, and nothing is trained."""

    folder: Path
    methods: Sequence[str]
    dataset: str
    slots: int
    seed: int
    options: Options
    patience: int = 0
    now: float = 0.0
    events: int = 0
    log: list[tuple[float, float | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        benchmark = datasets.load_benchmark(self.dataset)
        self.options = replace(self.options, methods=tuple(self.methods), dataset=self.dataset)
        rule = choose_rule(self.options, benchmark)
        self.searches = [
            MethodSearch(
                make_space(load_method(name), benchmark, self.options),
                replace(self.options, study_seed=self.seed),
                detect_environment(gpu=False),
                MethodRecords(self.folder / name),
                rule,
            )
            for name in self.methods
        ]
        # Seconds of a step, of an epoch's evaluation, and how many times more a stage takes.
        self.steps = {m: self.random.uniform(0.5, 3) for m in self.methods}
        self.later = {m: 3 ** self.random.uniform(-1, 1) for m in self.methods}
        self.errors = {m: self.random.uniform(0.02, 0.1) for m in self.methods}
        self.curves: dict[tuple[str, Phase, int], tuple[float, float]] = {}

    def count_slots(self) -> int:
        return self.slots

    def count_lost_nodes(self) -> int:
        return 0

    def time_epoch(self, search: MethodSearch, trial: Trial, epoch: int) -> float:
        values = search.space.resolved.complete_values(trial.hyperparameters)
        size = float(values["batch_size"])
        step = self.steps[search.name] * (0.3 + 0.7 * size / 64)
        steps = EXAMPLES / size
        if epoch > trial.stages[0].epochs:
            steps *= self.later[search.name]
            if "up" in values:
                up = float(values["up"])
                steps = EXAMPLES / size * (1 + (up - 1) * self.errors[search.name])
        return (steps * step + 3) * self.random.lognormvariate(0, 0.15)

    def report(self, search: MethodSearch, trial: Trial, epoch: int, seconds: float) -> EpochReport:
        key = (search.name, trial.phase, trial.number)
        if key not in self.curves:
            self.curves[key] = (self.random.uniform(0.3, 0.9), self.random.uniform(0.5, 6))
        best, speed = self.curves[key]
        value = best * (1 - 2 ** (-epoch / speed)) + self.random.gauss(0, 0.03)
        ineligible = sum(stage.epochs for stage in trial.stages if not stage.is_eligible)
        score = Score(value, value, -epoch) if epoch > ineligible else None
        status = ""
        if epoch == sum(stage.epochs for stage in trial.stages):
            status = "completed"
        elif self.patience and trial.best and epoch - trial.best.epoch >= self.patience:
            status = "stopped_early"
        return EpochReport(
            epoch=epoch, seconds=seconds * len(trial.runs), score=score, status=status
        )

    def run(self, on_change: Callable[[MethodSearch, Trial], None] = ignore_change) -> None:
        queue = Queue(self.searches, self, lambda trial: "work", lambda: False, on_change)
        queue.begin_batch()
        events: list[tuple[float, str, int, float]] = []
        number = 0
        while True:
            while isinstance(queue.next_work(str(number)), str):
                search, trial = queue.running[str(number)]
                seconds = self.time_epoch(search, trial, 1)
                ends = self.now + seconds * len(trial.runs)
                heapq.heappush(events, (ends, str(number), 1, seconds))
                number += 1
            if not events:
                break
            self.now, name, epoch, seconds = heapq.heappop(events)
            search, trial = queue.running[name]
            if queue.report_epoch(name, self.report(search, trial, epoch, seconds)):
                seconds = self.time_epoch(search, trial, epoch + 1)
                ends = self.now + seconds * len(trial.runs)
                heapq.heappush(events, (ends, name, epoch + 1, seconds))
            self.events += 1
            if self.events % 8 == 0 and not queue.done:
                times = [search.describe_times() for search in self.searches]
                self.log.append((self.now, estimate_seconds_left(times, self.slots)))

    def compare(self) -> list[float]:
        """Return the estimate over the truth from the first quarter to the last tenth."""
        return [
            left / (self.now - time)
            for time, left in self.log
            if left is not None and 0.25 * self.now <= time <= 0.9 * self.now
        ]


@pytest.mark.parametrize(
    ("methods", "dataset", "slots", "patience", "given"),
    [
        (["erm"], "colored_digits", 1, 0, {}),
        (["erm"], "colored_digits", 4, 4, {"scheduler": "none"}),
        (["fairgrad"], "imbalanced_tasks", 4, 0, {"search_seeds": 2}),
        (["jtt"], "colored_digits", 2, 0, {}),
        (["jtt"], "colored_digits", 4, 0, {"search": "published"}),
        (["dfr"], "colored_digits", 2, 0, {}),
        (["tapt"], "colored_digits", 4, 0, {}),
        (["erm", "jtt", "rwg"], "colored_digits", 4, 0, {"trials": 8}),
        (["stl", "ls", "uw"], "two_digits", 2, 0, {"trials": 8}),
    ],
)
def test_the_estimate_is_within_a_factor_of_two_after_a_quarter(
    methods: list[str], dataset: str, slots: int, patience: int, given: dict[str, Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    firsts, shares = [], []
    for seed in range(STUDIES):
        options = Options((), "", **{"search": "random", **given})
        study = SimulatedStudy(
            tmp_path / str(seed), methods, dataset, slots, seed, options, patience
        )
        study.run()
        ratios = study.compare()
        firsts.append(ratios[0])
        shares.append(statistics.fmean(0.5 <= ratio <= 2 for ratio in ratios))
    assert 0.7 <= statistics.median(firsts) <= 1.4, firsts
    assert statistics.fmean(shares) >= 0.9, shares


def test_the_records_of_a_running_study_give_the_same_estimate(tmp_path: Path) -> None:
    search = search_of(tmp_path, "dfr")
    for epochs in (1000, 3):
        trial = search.next_trial()
        assert trial is not None
        train(search, trial, epochs)
    search.records.write_context(make_export_context(search, search.options, slots=2))
    study = read_study(search.records)
    assert study is not None
    assert study.context.slots == 2
    known = estimate_seconds_left([search.describe_times()], 2)
    assert known is not None
    assert known > 0
    assert estimate_seconds_left([describe_times(study)], 2) == pytest.approx(known)


def test_methods_take_turns(tmp_path: Path) -> None:
    options = Options((), "", trials=3)
    study = SimulatedStudy(tmp_path, ["erm", "rwg", "suby"], "colored_digits", 1, 0, options)
    started: list[str] = []
    study.run(lambda search, trial: started.append(search.name) if not trial.scores else None)
    assert started[:9] == ["erm", "rwg", "suby"] * 3


def test_stages_count_with_their_own_times() -> None:
    stages = (StageEpochs(5, is_eligible=False), StageEpochs(20, is_eligible=True))
    whole = TrialTimes(stages, (68.0,) * 5 + (402.0,) * 20, TrialStatus.COMPLETED)
    begun = TrialTimes(stages, (68.0,) * 3, TrialStatus.RUNNING)
    method = MethodTimes(stages, [whole, begun], new_trials=2, new_seeds=5, leader=whole)
    full = 5 * 68 + 20 * 402
    assert estimate_seconds_left([method], 1) == pytest.approx(8 * full - 3 * 68)
    unknown = MethodTimes(stages, new_trials=1, assumed=(1.0, 10.0))
    assert estimate_seconds_left([unknown], 4) == pytest.approx(205)
    assert estimate_seconds_left([MethodTimes(stages, new_trials=1)], 4) is None


def test_seeds_take_the_time_of_a_leader_that_still_runs(tmp_path: Path) -> None:
    """Epochs of jtt's second stage last as recorded: 402 s where many errors are repeated."""
    search = search_of(tmp_path, "jtt", trials=2, scheduler="none", seeds=5)
    for value, later in ((0.5, 68.0), (0.9, 402.0)):
        trial = search.next_trial()
        assert trial is not None
        first, second = (stage.epochs for stage in trial.stages)
        is_last = value == 0.9
        for epoch in range(1, first + second + (not is_last)):
            search.report_epoch(
                trial,
                EpochReport(
                    epoch=epoch,
                    seconds=68.0 if epoch <= first else later,
                    score=Score(value, value, -epoch) if epoch > first else None,
                    status="completed" if epoch == first + second else "",
                ),
            )
    whole = first * 68 + second * 402
    left = estimate_seconds_left([search.describe_times()], 1)
    assert left is not None
    assert 5 * whole * 0.5 <= left <= 5 * whole * 2
    leader = search.describe_times().leader
    assert leader is not None
    assert not leader.is_finished
