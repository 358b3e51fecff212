"""Finalists: further seeds for the best trials, in a race that records alone decide."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.made_searches import EPOCHS, drive_search, make_search, train_epoch
from tuning.records.run_data import Phase
from tuning.reporting.recorded_study import read_study
from tuning.reporting.status import StudyStatus, describe_times
from tuning.reporting.summary import make_summary
from tuning.search.finalist_race import (
    FINALIST_SEEDS,
    count_finalist_runs,
    count_runs_left,
    run_race,
)
from tuning.search.method_search import MethodSearch
from tuning.study.make_export_context import make_export_context


def test_all_get_a_seed_in_turn_and_the_hopeless_leave() -> None:
    start = run_race([4, 2, 7], {})
    assert (start.left, start.leader, start.seeds, start.is_decided) == ((4, 2, 7), 4, 0, False)
    first = run_race([4, 2, 7], {4: [0.5], 2: [0.6], 7: [0.1]})
    assert (first.left, first.leader, first.seeds) == ((4, 2, 7), 2, 1)
    waiting = run_race([4, 2, 7], {4: [0.5, 0.5], 2: [0.6, 0.6], 7: [0.1]})
    assert (waiting.leader, waiting.seeds, waiting.is_decided) == (2, 1, False)
    second = run_race([4, 2, 7], {4: [0.5, 0.6], 2: [0.6, 0.55], 7: [0.1, 0.1]})
    assert (second.left, second.seeds) == ((4, 2), 2)
    last = run_race([4, 2, 7], {4: [0.5, 0.6, 0.7], 2: [0.6, 0.55, 0.6], 7: [0.1, 0.1]})
    assert (last.leader, last.seeds, last.is_decided) == (4, FINALIST_SEEDS, True)


def test_failed_finalists_leave_and_a_single_one_wins_at_once() -> None:
    race = run_race([1, 2], {1: [-math.inf], 2: [0.1]})
    assert (race.left, race.leader, race.is_decided) == ((2,), 2, True)
    assert run_race([3], {}).is_decided
    both = run_race([1, 2], {1: [-math.inf] * 3, 2: [-math.inf] * 3})
    assert both.leader == 1


@given(
    st.lists(
        st.lists(st.floats(0, 1), min_size=FINALIST_SEEDS, max_size=FINALIST_SEEDS),
        min_size=1, max_size=5,
    )
)  # fmt: skip
def test_a_decided_race_changes_no_more(values: list[list[float]]) -> None:
    known: dict[int, list[float]] = {number: [] for number in range(len(values))}
    race = run_race(list(known), known)
    for _ in range(count_finalist_runs(len(values)) + 1):
        if race.is_decided:
            break
        for number in race.left:
            known[number] = values[number][: race.seeds + 1]
        race = run_race(list(known), known)
    assert race.is_decided
    assert race == run_race(list(known), dict(enumerate(values)))


def find_winner(search: MethodSearch) -> int:
    chosen = search.select_hyperparameters()
    return next(n for n, t in search.trials.items() if t.hyperparameters == chosen)


@pytest.mark.parametrize("scheduler", ["asha_promotion", "none"])
def test_slots_and_kills_change_no_winner(tmp_path: Path, scheduler: str) -> None:
    options = {"finalists": 3, "scheduler": scheduler}
    whole = make_search(tmp_path / "one", 8, **options)
    assert drive_search(whole, 1, 0)
    search = make_search(tmp_path / "killed", 8, **options)
    while not drive_search(search, 3, 1, most_epochs=20):
        search = make_search(tmp_path / "killed", 8, **options)
    assert find_winner(search) == find_winner(whole)
    runs = [t.name for t in whole.list_trials() if t.phase == Phase.FINALIST]
    assert sorted(runs) == sorted(t.name for t in search.list_trials() if t.phase == Phase.FINALIST)
    assert 3 * 2 <= len(runs) <= count_finalist_runs(3)
    assert {name.split(", ")[1] for name in runs} <= {"seed 1001", "seed 1002", "seed 1003"}

    again = make_search(tmp_path / "killed", 8, **options)
    assert again.is_search_done
    search.records.write_context(make_export_context(search, search.options))
    study = read_study(search.records)
    assert study is not None
    assert study.winner is not None
    assert study.winner.number == find_winner(search)
    summary = make_summary(study)
    assert sum(map(len, summary.finalists.values())) == len(runs)
    assert summary.epochs == sum(t.epochs_done for t in search.list_trials())


def test_counts_the_runs_that_a_race_can_take(tmp_path: Path) -> None:
    search = make_search(tmp_path, 2, finalists=9)
    assert search.describe_times().new_seeds == 2 * FINALIST_SEEDS + 1
    assert not drive_search(search, 1, 0, most_epochs=3 * EPOCHS)
    further = [t for t in search.list_trials() if t.phase == Phase.FINALIST]
    assert search.describe_times().new_seeds == 2 * FINALIST_SEEDS - len(further) + 1
    assert drive_search(search, 1, 0)
    assert search.describe_times().new_seeds <= 1
    race = run_race([0, 1, 2], {0: [0.9, 0.9], 1: [0.8, 0.9], 2: [0.1, 0.1]})
    assert count_runs_left(race, {0: [1, 2], 1: [1, 2, 3], 2: [1, 2]}) == 1
    assert count_runs_left(run_race([3], {}), {}) == count_runs_left(None, {}) == 0


def test_more_finalists_are_raced_from_the_same_records(tmp_path: Path) -> None:
    assert drive_search(make_search(tmp_path, 6), 2, 0)
    wider = make_search(tmp_path, 6, finalists=2)
    assert not wider.is_search_done
    assert wider.estimate_confirmation_seconds() < sum(
        trial.seconds for trial in wider.trials.values()
    )
    assert drive_search(wider, 2, 0)
    assert not any(len(trial.scores) < 9 for trial in wider.list_trials() if trial.scores)


def test_a_search_that_is_closed_takes_the_leader(tmp_path: Path) -> None:
    search = make_search(tmp_path, 4, finalists=2)
    assert not drive_search(search, 1, 0, most_epochs=4 * EPOCHS)
    further = search.next_trial()
    assert further is not None
    assert further.phase == Phase.FINALIST
    assert train_epoch(search, further, 1)
    search.records.write_context(make_export_context(search, search.options))
    recorded = read_study(search.records)
    assert recorded is not None
    assert (recorded.are_trials_finished, recorded.is_search_finished) == (True, False)
    assert StudyStatus(recorded, None).phase == "stopped while searching"
    assert describe_times(recorded).new_seeds == search.describe_times().new_seeds
    search.close()
    assert not search.is_search_done
    assert not train_epoch(search, further, 2)
    assert search.is_search_done
    seed = search.next_trial()
    assert seed is not None
    assert seed.phase == Phase.CONFIRM
    assert not make_search(tmp_path, 4, finalists=2).is_search_done
