"""Searches that a budget ends early confirm the best of all recorded trials, running ones too."""

from pathlib import Path

import pytest

from tests.support.made_searches import drive_search, make_scores, make_search, train_epoch
from tuning.records.run_data import Phase, TrialStatus
from tuning.reporting.recorded_study import read_study
from tuning.search.method_search import MethodSearch
from tuning.search.trial import Trial
from tuning.study.make_export_context import make_export_context


def rank_recorded_epochs(search: MethodSearch) -> list[int]:
    """Return the trials by the best epoch of their records, the best one first."""
    best = {
        number: max(s.value for s in make_scores(number, len(trial.runs[0].read_rows())) if s)
        for number, trial in search.trials.items()
        if trial.runs[0].read_rows()
    }
    return sorted(best, key=lambda number: -best[number])


def end_early(search: MethodSearch) -> Trial:
    """Close a search, let its running trials end their epochs, and return its first seed."""
    search.close()
    assert search.is_closed
    for trial in [t for t in search.trials.values() if t.status == TrialStatus.RUNNING]:
        assert not search.is_search_done
        assert not train_epoch(search, trial, len(trial.scores) + 1)
    assert search.is_search_done
    seed = search.next_trial()
    assert seed is not None
    assert seed.phase == Phase.CONFIRM
    return seed


@pytest.mark.parametrize("scheduler", ["none", "asha", "asha_promotion"])
@pytest.mark.parametrize("epochs", [2, 16, 25])
@pytest.mark.parametrize("is_resumed", [False, True])
def test_the_best_recorded_trial_is_confirmed_and_exported(
    tmp_path: Path, scheduler: str, epochs: int, is_resumed: bool
) -> None:
    search = make_search(tmp_path, 12, scheduler=scheduler)
    assert not drive_search(search, 4, epochs, most_epochs=epochs)
    if is_resumed:  # the budget is used up before an epoch is replayed
        search = make_search(tmp_path, 12, scheduler=scheduler)
    seed = end_early(search)
    best = search.trials[rank_recorded_epochs(search)[0]]
    assert search.find_incumbent() is best
    assert seed.hyperparameters == best.hyperparameters
    search.records.write_context(make_export_context(search, search.options))
    study = read_study(search.records)
    assert study is not None
    assert study.winner is not None
    assert study.winner.number == best.number
    longer = make_search(tmp_path, 12, scheduler=scheduler)
    assert not longer.is_search_done
    assert drive_search(longer, 2, 1)


def test_a_trial_that_still_runs_wins_over_a_pruned_one(tmp_path: Path) -> None:
    search = make_search(tmp_path, 4)
    ranks = sorted(range(4), key=lambda n: -max(s.value for s in make_scores(n, 2) if s))
    trials = [trial for _ in range(4) if (trial := search.next_trial()) is not None]
    worst = trials[ranks[-1]]
    assert train_epoch(search, worst, 1)
    worst.write_end(TrialStatus.PRUNED)
    search.restore_ended_trials()
    assert train_epoch(search, trials[ranks[0]], 1)
    seed = end_early(search)
    assert search.find_incumbent() is trials[ranks[0]]
    assert seed.hyperparameters == trials[ranks[0]].hyperparameters
    assert trials[ranks[0]].runs[0].read_end() is None


def test_a_search_without_a_score_continues(tmp_path: Path) -> None:
    search = make_search(tmp_path, 4)
    trial = search.next_trial()
    assert trial is not None
    search.close()
    assert not search.is_closed
    assert train_epoch(search, trial, 1)
    search.close()
    assert search.is_closed
