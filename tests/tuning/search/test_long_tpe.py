"""TPE in a long search: it reads the best trials, a sample of the others, and running ones."""

from collections import Counter

import numpy as np
import pytest
from optuna.trial import TrialState

from common.hyperparameters import Hyperparameter
from core.training.selection import Score
from tuning.records.run_data import TrialStatus
from tuning.search.searchers import tpe
from tuning.search.searchers.tpe import BEST_READ, TPESearcher

DOMAINS = {
    "lr": Hyperparameter("log_uniform", (1e-4, 1.0), 0.01),
    "batch_size": Hyperparameter("choice", (16, 32, 64), 32),
}
SLOTS = 8
MAX_READ, MIN_READ = 60, 50  # a fifth of those of a study, so that the tests are short
EPOCHS = 9


@pytest.fixture(autouse=True)
def read_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tpe.MAX_READ / tpe.MIN_READ == MAX_READ / MIN_READ
    monkeypatch.setattr(tpe, "MAX_READ", MAX_READ)
    monkeypatch.setattr(tpe, "MIN_READ", MIN_READ)


def run_search(trials: int, seed: int) -> tuple[TPESearcher, list[float], set[int]]:
    """Report all but the last trials of each 8 in any order; return also the best values so far."""
    searcher = TPESearcher(DOMAINS, seed)
    generator = np.random.default_rng(seed)
    running: set[int] = set()
    completed: list[float] = []
    for number in range(trials):
        values = searcher.propose_hyperparameters(number)
        assert values is not None
        running.add(number)
        if len(running) < SLOTS:
            continue
        ended = int(generator.choice(sorted(running)))
        running.remove(ended)
        value = 1 - abs(np.log10(float(searcher.values[ended]["lr"])) + 1.5) / 4
        epochs = EPOCHS if generator.random() < 0.2 else int(generator.choice([1, 3]))
        scores = [Score(value - (EPOCHS - e) / 100, 0.0, -e) for e in range(1, epochs + 1)]
        status = TrialStatus.COMPLETED if epochs == EPOCHS else TrialStatus.PRUNED
        if status == TrialStatus.COMPLETED:
            completed.append(value)
        searcher.report_trial(ended, scores, status)
    return searcher, completed, running


@pytest.mark.parametrize("trials", [MAX_READ + 30, 4 * MAX_READ])
def test_a_long_search_reads_the_best_some_others_and_all_that_run(trials: int) -> None:
    searcher, completed, running = run_search(trials, 0)
    read = searcher.study.get_trials(deepcopy=False)
    states = Counter(trial.state for trial in read)
    assert states[TrialState.COMPLETE] + states[TrialState.PRUNED] <= MAX_READ + 1
    assert states[TrialState.RUNNING] == len(running) == SLOTS - 1
    sampled = sorted(trial.params["lr"] for trial in read if trial.state == TrialState.RUNNING)
    assert sampled == pytest.approx(
        sorted(searcher.values[number]["lr"] for number in running), rel=1e-5
    )
    best = sorted(
        (t.value for t in read if t.state == TrialState.COMPLETE and t.value), reverse=True
    )
    assert best[:BEST_READ] == pytest.approx(sorted(completed, reverse=True)[:BEST_READ])
    numbers = [trial.number for trial in read]
    assert numbers == sorted(numbers)


def test_a_trial_that_runs_while_others_are_dropped_is_read_once_it_has_ended() -> None:
    searcher = TPESearcher(DOMAINS, 1)
    slow = [searcher.propose_hyperparameters(number) for number in range(3)]
    assert None not in slow
    for number in range(3, MAX_READ + 40):
        searcher.propose_hyperparameters(number)
        searcher.report_trial(number, [Score(0.5, 0.0, -1)], TrialStatus.PRUNED)
    for number, value in enumerate((0.9, 0.8, 0.7)):
        searcher.report_trial(number, [Score(value, 0.0, -1)], TrialStatus.COMPLETED)
    complete = searcher.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    assert [trial.value for trial in complete] == [0.9, 0.8, 0.7]
    assert [trial.params["lr"] for trial in complete] == pytest.approx(
        [values["lr"] for values in slow if values], rel=1e-5
    )
    assert not searcher.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))


def test_proposals_of_a_long_search_repeat_and_stay_near_the_best() -> None:
    searcher, _, _ = run_search(MAX_READ + 100, 2)
    again, _, _ = run_search(MAX_READ + 100, 2)
    assert searcher.values == again.values
    late = [
        abs(np.log10(float(searcher.values[n]["lr"])) + 1.5)
        for n in range(MAX_READ, MAX_READ + 100)
    ]
    drawn = abs(np.random.default_rng(0).uniform(-4, 0, 1000) + 1.5)
    assert np.median(late) < 0.75 * np.median(drawn)
