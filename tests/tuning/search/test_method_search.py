"""The search of one method, driven by hand, without Ray."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest

from core.training import selection
from core.training.selection import Score
from tests.support.real_searches import BASE, search_of
from tests.support.run_records import end_of, folder_of
from tuning.cluster.capacity import Capacity
from tuning.cluster.queue import Queue
from tuning.records.run_data import RunEnd, TrialStatus
from tuning.records.storage import StorageError
from tuning.reporting.recorded_study import read_study
from tuning.resources import Resources
from tuning.search.method_search import MethodSearch
from tuning.search.searchers.tpe import TPESearcher
from tuning.search.trial import Trial
from tuning.study.make_export_context import make_export_context
from tuning.study.messages import describe_study
from tuning.study.study import make_run_options, make_work
from tuning.worker.trial_runner import TrialRunner
from tuning.worker.trial_work import STORAGE_FAILED, EpochReport, TrialWork


def work_of(search: MethodSearch, trial: Trial) -> TrialWork:
    """Return the work of a trial of a search on a CPU."""
    return make_work(trial, make_run_options(search.options, search.rule, ""), Resources(1, 0))


def train(search: MethodSearch, trial: Trial, epochs: int = 1000, gpu_share: float = 0.0) -> None:
    """Train a trial to its end, or for some epochs, as an actor does."""
    runner = TrialRunner(replace(work_of(search, trial), gpu_share=gpu_share))
    for _ in range(epochs):
        if not search.report_epoch(trial, runner.train_epoch()):
            return


def drive(search: MethodSearch, trials: int = 1000) -> None:
    """Run the search of a method to its end, or some of its trials."""
    for _ in range(trials):
        trial = search.next_trial()
        if trial is None:
            return
        train(search, trial)


def rungs(search: MethodSearch) -> list[dict[int, float]]:
    assert search.pruner.halving is not None
    return [rung.values for rung in search.pruner.halving.rungs]


@pytest.mark.slow
def test_resumed_search_has_the_asked_trials_and_knows_all(tmp_path: Path) -> None:
    first = search_of(tmp_path)
    drive(first, 4)
    unfinished = first.next_trial()
    assert unfinished is not None
    train(first, unfinished, epochs=1)
    (ended,) = first.trials[0].runs
    for name in ("rows.json", "last.pt"):  # as if it had been killed before it dropped them
        ended.storage.write_bytes(name, b"[]")

    second = search_of(tmp_path)
    assert ended.storage.list_names() == ["end.json", "run.json"]
    assert [t.status for t in second.trials.values()][:4] == [
        t.status for t in first.trials.values()
    ][:4]
    assert second.trials[4].status == "waiting"
    assert isinstance(second.searcher, TPESearcher)
    finished = optuna.trial.TrialState
    states = [trial.state for trial in second.searcher.study.trials]
    assert len(states) == 4
    assert set(states) <= {finished.COMPLETE, finished.PRUNED}
    for mine, theirs in zip(rungs(second), rungs(first), strict=True):
        assert mine == {number: v for number, v in theirs.items() if number < 4}

    drive(second)
    assert sorted(second.trials) == list(range(6))
    assert second.is_done
    assert len({str(trial.hyperparameters) for trial in second.trials.values()}) == 6
    assert [seed.status for seed in second.seeds.values()] == ["completed", "completed"]


def test_a_stop_restores_trials_that_ended_without_a_report(tmp_path: Path) -> None:
    search = search_of(tmp_path)
    trial = search.next_trial()
    assert trial is not None
    train(search, trial, epochs=1)
    (folder,) = trial.runs
    folder.write_end(RunEnd(TrialStatus.COMPLETED, "", folder.read_rows()))
    assert not trial.is_finished
    search.restore_ended_trials()
    assert trial.status == "completed"
    assert search.find_incumbent() is trial


@pytest.mark.deviation("pruning")
@pytest.mark.slow
def test_asha_prunes_by_eligible_epochs_alone(tmp_path: Path) -> None:
    search = search_of(tmp_path, "jtt", trials=8, pinned={"T": 3, "up": 6})
    drive(search)
    pruned = [trial for trial in search.trials.values() if trial.status == "pruned"]
    assert pruned
    for trial in pruned:
        eligible = sum(score is not None for score in trial.scores)
        assert eligible in (1, 3, 9)
        assert len(trial.scores) == eligible + 3
        (folder,) = trial.runs
        assert end_of(folder).status == "pruned"
        assert len(folder.read_rows()) == len(trial.scores)


@pytest.mark.medium
def test_replayed_epochs_are_not_pruned(tmp_path: Path) -> None:
    first = search_of(tmp_path, trials=2)
    slow = first.next_trial()
    assert slow is not None
    train(first, slow, epochs=5)
    other = first.next_trial()
    assert other is not None
    train(first, other)

    second = search_of(tmp_path, trials=2)
    assert second.pruner.halving is not None
    for rung in second.pruner.halving.rungs:
        rung.values.update({100 + i: 1.0 for i in range(9)})  # what would stop it now
    again = second.next_trial()
    assert again is not None
    assert (again.number, again.recorded_epochs) == (0, 5)
    train(second, again, epochs=5)
    assert again.status == "running"
    train(second, again)
    assert again.status in ("pruned", "completed")
    (folder,) = again.runs
    assert len(folder.read_rows()) == len(again.scores) > 5


def test_a_record_that_cannot_be_kept_ends_the_study_and_fails_nothing(tmp_path: Path) -> None:
    search = search_of(tmp_path)
    lost = EpochReport(status=STORAGE_FAILED, reason="no room")
    for _ in range(3):
        trial = search.next_trial()
        assert trial is not None
        assert not search.report_epoch(trial, lost)
        assert trial.status == "waiting"
    again = search.next_trial()
    assert again is not None
    assert again is trial
    with pytest.raises(StorageError, match="no room"):
        search.report_epoch(again, lost)
    assert again.runs[0].read_end() is None


def test_a_damaged_description_frees_its_number(tmp_path: Path) -> None:
    first = search_of(tmp_path, trials=3, search="random", epochs=1)
    drive(first)
    (folder,) = first.trials[1].runs
    (folder_of(folder) / "run.json").write_text("{")
    second = search_of(tmp_path, trials=3, search="random", epochs=1)
    assert sorted(second.trials) == [0, 2]
    drive(second)
    assert second.is_done
    assert [t.hyperparameters for _, t in sorted(second.trials.items())] == [
        t.hyperparameters for _, t in sorted(first.trials.items())
    ]


@pytest.mark.deviation("seeds", "task-seeds")
def test_search_and_confirmation_seeds_are_disjoint(tmp_path: Path) -> None:
    search = search_of(tmp_path, trials=2, search_seeds=2, epochs=1, seeds=3)
    drive(search)

    def seeds_of(trials: list[Trial]) -> set[int]:
        return {key.seed for t in trials for key in t.keys}

    assert seeds_of(list(search.seeds.values())) == {0, 1, 2}
    assert seeds_of(list(search.trials.values())) == {1000, 1001}


def test_the_winner_is_confirmed(tmp_path: Path) -> None:
    search = search_of(tmp_path, trials=3, epochs=2, scheduler="none", search="tpe")
    drive(search)
    best = max(
        search.trials.values(),
        key=lambda t: (t.best.value, t.best.tie_breaker) if t.best else (0, 0),
    )
    assert search.find_incumbent() is best
    assert all(seed.hyperparameters == best.hyperparameters for seed in search.seeds.values())
    assert search.rule is selection.RULES["validation_worst_group_accuracy"]


@pytest.mark.parametrize("seed", range(3))
def test_dropping_losers_changes_neither_winner_nor_progress(seed: int, tmp_path: Path) -> None:
    search = search_of(tmp_path, trials=20, epochs=4, search="random")
    generator = np.random.default_rng(seed)
    running: list[Trial] = []
    while not search.is_done:
        while len(running) < 5 and (trial := search.next_trial()) is not None:
            running.append(trial)
        trial = running[generator.integers(len(running))]
        number = len(trial.scores) + 1
        value = float(generator.integers(4))  # many are equal
        status = ["", "failed"][generator.random() < 0.05] if number < 4 else "completed"
        if generator.random() < 0.1:
            search.report_crash(trial)
        else:
            score = Score(value, 0.5, -number)
            search.report_epoch(
                trial, EpochReport(epoch=number, seconds=1.0, score=score, status=status)
            )
        running = [t for t in running if t.status == "running"]
        trials = search.trials.values()
        good = [t for t in trials if t.status != "failed" and t.best]
        expected = max(good, key=lambda t: (t.best, -t.number), default=None)
        assert search.find_incumbent() is expected
        assert search.is_search_done == (len(trials) == 20 and all(t.is_finished for t in trials))
        assert bool(search.seeds) <= search.is_search_done
    assert sorted(search.trials) == list(range(20))


def test_a_trial_whose_process_crashes_repeatedly_fails(tmp_path: Path) -> None:
    search = search_of(tmp_path, trials=1)
    for _ in range(4):
        trial = search.next_trial()
        assert trial is not None
        train(search, trial, epochs=1)
        search.report_crash(trial, cause="its machine was low on memory")
    assert search.trials[0].status == "failed"
    assert "crashed 4 times" in search.trials[0].reason
    assert search.trials[0].reason.endswith("; the last time its machine was low on memory")
    assert search.is_done
    assert search.select_hyperparameters() is None


def test_a_trial_whose_machines_are_taken_away_has_not_failed(tmp_path: Path) -> None:
    def dies(search: MethodSearch, gone: int) -> Trial:
        trial = search.next_trial()
        assert trial is not None
        search.report_crash(trial, gone)
        return trial

    search = search_of(tmp_path, trials=1)
    for gone in (2, 3, 4, 5, 5, 5):  # nodes that the cluster has lost, as far as it knows
        assert dies(search, gone).status == "waiting"
    (trial,) = search.trials.values()
    search.report_epoch(
        trial, EpochReport(status=STORAGE_FAILED, reason="the network")
    )  # no death, and forgiven
    assert trial.status == "waiting"
    assert dies(search, 5).status == "failed"
    search = search_of(tmp_path / "other", trials=1)
    for gone in range(20):
        dies(search, gone)
    assert search.next_trial() is None
    assert "crashed 20 times" in search.trials[0].reason


def test_the_count_of_lost_nodes_reaches_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = {"NodeID": "another", "NodeManagerHostname": "a", "Resources": {"CPU": 1}}
    nodes = [{**node, "Alive": alive} for alive in (True, False, False)]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(get_node_id=str))
    search = search_of(tmp_path, trials=1)
    capacity = Capacity(Resources(1, 0), lambda: 1)
    queue = Queue([search], capacity, lambda trial: "", lambda: False, lambda search, trial: None)
    queue.next_work("t")
    queue.report_crash("t")
    assert search.trials[0].retries.lost_nodes == 2


def test_a_trial_with_progress_may_crash_any_number_of_times(tmp_path: Path) -> None:
    search = search_of(tmp_path, trials=1, epochs=8)
    for epochs in range(1, 7):
        trial = search.next_trial()
        assert trial is not None
        train(search, trial, epochs=epochs)
        search.report_crash(trial)
    assert search.trials[0].status == "waiting"
    assert len(search.trials[0].scores) == 6


def test_a_crash_after_the_end_of_a_trial_costs_nothing(tmp_path: Path) -> None:
    search = search_of(tmp_path, trials=1, epochs=2)
    trial = search.next_trial()
    assert trial is not None
    runner = TrialRunner(work_of(search, trial))
    search.report_epoch(trial, runner.train_epoch())
    runner.train_epoch()  # ends, and dies before the study hears of it
    search.report_crash(trial)
    assert trial.status == "completed"
    assert len(trial.scores) == 2


def test_epochs_that_a_new_process_replays_are_counted_once(tmp_path: Path) -> None:
    search = search_of(tmp_path, trials=1, epochs=3, scheduler="none")
    trial = search.next_trial()
    assert trial is not None
    train(search, trial, epochs=2)
    search.report_crash(trial)
    seconds = trial.seconds
    again = search.next_trial()
    assert again is trial
    train(search, trial, epochs=2)
    assert (len(trial.scores), trial.seconds) == (2, seconds)
    train(search, trial)
    assert len(trial.scores) == 3


def test_device_hours_count_each_epoch_by_the_share_that_it_had(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"trials": 2, "epochs": 2, "seeds": 1, "scheduler": "none"}
    first = search_of(tmp_path, **chosen)
    for epochs in (2, 1):
        trial = first.next_trial()
        assert trial is not None
        train(first, trial, epochs, gpu_share=1.0)
    second = search_of(tmp_path, **chosen)  # resumed with --gpus-per-trial 0.5
    assert second.sum_device_seconds() == second.trials[0].seconds > 0
    while (trial := second.next_trial()) is not None:
        train(second, trial, gpu_share=0.5)
    expected = 0.0
    for trial, shares in zip(second.list_trials(), ([1, 1], [1, 0.5], [0.5, 0.5]), strict=True):
        rows = trial.runs[0].read_rows()
        assert [row.devices for row in rows] == shares
        expected += sum(share * row.seconds for share, row in zip(shares, rows, strict=True))
    assert second.sum_device_seconds() == pytest.approx(expected)
    second.records.write_context(make_export_context(second, second.options))
    study = read_study(second.records)
    assert study is not None
    assert study.sum_device_hours() == pytest.approx(expected / 3600)


def test_repeated_configurations_are_not_run_twice(tmp_path: Path) -> None:
    pinned = {"lr": 0.05, "weight_decay": 0.001}
    search = search_of(tmp_path, trials=10, epochs=1, pinned=pinned)
    drive(search)
    assert sorted(trial.hyperparameters["batch_size"] for trial in search.trials.values()) == [
        16,
        32,
        64,
    ]
    assert search.is_done


@pytest.mark.medium
@pytest.mark.parametrize("changed", [{"trials": 8}, {"seeds": 3}])
def test_extension_keeps_finished_trials(changed: dict[str, int], tmp_path: Path) -> None:
    drive(search_of(tmp_path, trials=4, epochs=3))
    ends = {path: path.read_text() for path in tmp_path.rglob("end.json")}
    again: dict[str, Any] = {"trials": 4, "epochs": 3, **changed}
    drive(search_of(tmp_path, **again))
    assert all(path.read_text() == text for path, text in ends.items())
    assert len(list(tmp_path.rglob("end.json"))) > len(ends)


def test_a_resumed_study_says_that_it_keeps_its_trials(tmp_path: Path) -> None:
    drive(search_of(tmp_path, trials=3, search="random", epochs=1))
    fewer = search_of(tmp_path, trials=2, search="random", epochs=1)
    told = describe_study([fewer], fewer.options, [], Resources(1, 0))
    assert told.endswith("5 finished already; --trials 2 takes none of the 3 trials away")
    assert "away" not in describe_study([search_of(tmp_path, trials=3)], BASE, [], Resources(1, 0))
