"""A race with the defaults in studies that are extended, closed, and exported by other rules."""

from pathlib import Path

import pytest

import tests.support.made_searches as made
from core.training.epoch_row import EpochRow
from core.training.selection import RULES
from tests.support.made_searches import EPOCHS, make_search, train_epoch
from tuning.records.run_data import Phase
from tuning.reporting.recorded_study import RecordedStudy, read_study
from tuning.reporting.summary import make_summary
from tuning.search.method_search import MethodSearch
from tuning.study.make_export_context import make_export_context

RULE = RULES["validation_worst_group_accuracy_or_default"]
SEARCHED = {0: 0.5, 2: 0.8}  # by the seed of the search; the others have 0.3
FURTHER = {0: 0.6, 2: 0.55, 3: 0.9}  # by further seeds


@pytest.fixture(autouse=True)
def values(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Let the defaults, trial 0, win their race with trial 2, which is lucky in the search."""
    further = dict(FURTHER)

    def make_row(number: int, epoch: int, seed: int = 1000) -> EpochRow:
        value = 0.5 if seed < 1000 else SEARCHED.get(number, 0.3)
        if seed > 1000:
            value = further[number]
        return EpochRow(
            epoch=epoch, stage=0, stage_epoch=epoch - 1, eligible=True, final=epoch == EPOCHS,
            losses={}, lr=0.1, steps=1, seconds=1.0,
            validation={"worst_group_accuracy": value, "average_accuracy": value,
                        "group_accuracy": [value, 0.99], "group_count": [100, 100]},
        )  # fmt: skip

    monkeypatch.setattr(made, "make_row", make_row)
    monkeypatch.setattr(made, "RULE", RULE)
    return further


def search(folder: Path, trials: int) -> MethodSearch:
    return make_search(folder, trials, finalists=2)


def run_to(found: MethodSearch, phase: Phase | None = None) -> None:
    """Train until a run of a phase would begin, or to the end."""
    while (trial := found.next_trial()) is not None and trial.phase != phase:
        for epoch in range(1, EPOCHS + 1):
            train_epoch(found, trial, epoch)


def read(found: MethodSearch) -> RecordedStudy:
    found.records.write_context(make_export_context(found, found.options))
    study = read_study(found.records)
    assert study is not None
    return study


def find_winner(found: MethodSearch) -> int:
    chosen = found.select_hyperparameters()
    return next(n for n, t in found.trials.items() if t.hyperparameters == chosen)


@pytest.mark.parametrize(("further", "winner"), [(0.55, 0), (0.9, 2)])
def test_an_extension_that_a_budget_closes_confirms_the_winner_of_the_race(
    further: float, winner: int, tmp_path: Path, values: dict[int, float]
) -> None:
    values[2] = further
    run_to(search(tmp_path, 3), Phase.CONFIRM)  # killed before the winner is confirmed
    extended = search(tmp_path, 6)
    trial = extended.next_trial()
    assert trial is not None
    assert train_epoch(extended, trial, 1)
    extended.close()
    assert not train_epoch(extended, trial, 2)
    run_to(extended)
    study = read(extended)
    assert study.winner is not None
    assert find_winner(extended) == study.winner.number == winner
    assert len(study.seeds) == 1  # of that winner
    incumbent = extended.find_incumbent()
    assert incumbent is not None
    assert incumbent.number == winner


def test_another_rule_of_the_export_has_no_unfinished_race(tmp_path: Path) -> None:
    raced = search(tmp_path, 3)
    run_to(raced)
    study = read(raced)
    assert study.is_search_finished
    assert (study.winner is not None, study.keeps_default) == (True, True)
    other = read_study(raced.records, "validation_worst_group_accuracy")
    assert other is not None
    assert other.is_search_finished
    assert other.winner is not None
    assert other.winner.number == 2


def test_a_summary_names_the_finalists_of_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_to(search(tmp_path, 3))
    monkeypatch.setitem(SEARCHED, 3, 0.95)
    extended = search(tmp_path, 4)
    run_to(extended)
    assert find_winner(extended) == 3
    summary = make_summary(read(extended))
    assert summary.finalists == {"0": [0.6] * 3, "3": [0.9] * 3}
    assert summary.epochs == (4 + 7 + 1) * EPOCHS  # of trials, all further runs, and the seed


def test_without_the_defaults_the_best_trial_wins_at_once(tmp_path: Path) -> None:
    failed = search(tmp_path, 3)
    while (trial := failed.next_trial()) is not None:
        if trial is failed.trials[0]:
            failed.report_crash(trial)
        else:
            for epoch in range(1, EPOCHS + 1):
                train_epoch(failed, trial, epoch)
    assert failed.trials[0].status == "failed"
    assert not [t for t in failed.list_trials() if t.phase == Phase.FINALIST]
    assert find_winner(failed) == 2
