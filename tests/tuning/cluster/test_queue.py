"""A study's queue, driven without Ray: whose turn it is, batches, errors."""

from pathlib import Path

from common.errors import UserError
from tests.support.real_searches import search_of
from tests.tuning.search.test_method_search import work_of
from tuning.cluster.queue import Next, Queue
from tuning.search.method_search import MethodSearch
from tuning.search.trial import Trial
from tuning.worker.trial_runner import TrialRunner
from tuning.worker.trial_work import EpochReport, TrialWork


class TwoSlots:
    def count_slots(self) -> int:
        return 2

    def count_lost_nodes(self) -> int:
        return 0


def ignore_change(search: MethodSearch, trial: Trial) -> None:
    pass


def queue_of(search: MethodSearch, batch_trials: int = 1000) -> Queue:
    def encode_work(trial: Trial) -> str:
        return work_of(search, trial).to_json()

    return Queue([search], TwoSlots(), encode_work, lambda: False, ignore_change, batch_trials)


def run_batch(queue: Queue) -> int:
    """Train a batch's trials as Tune would, two at a time; return their number."""
    queue.begin_batch()
    runners: dict[str, TrialRunner] = {}
    started = 0
    while True:
        work = queue.next_work(str(started))
        if isinstance(work, str):
            runners[str(started)] = TrialRunner(TrialWork.from_json(work))
            started += 1
        elif runners:
            for name, runner in list(runners.items()):
                report = EpochReport.from_json(runner.train_epoch().to_json())
                if not queue.report_epoch(name, report):
                    del runners[name]
        else:
            assert work is Next.END_BATCH
            return started


def test_a_study_runs_to_its_end_in_batches(tmp_path: Path) -> None:
    whole = search_of(tmp_path / "whole", trials=3, epochs=2)
    queue = queue_of(whole)
    run_batch(queue)
    assert queue.done
    parts = search_of(tmp_path / "parts", trials=3, epochs=2)
    queue = queue_of(parts, batch_trials=2)
    counts = []
    while not queue.done:
        counts.append(run_batch(queue))
    assert max(counts) == 2
    for number, trial in whole.trials.items():
        assert parts.trials[number].scores == trial.scores


def test_no_more_trials_than_slots(tmp_path: Path) -> None:
    queue = queue_of(search_of(tmp_path, trials=5))
    queue.begin_batch()
    given = [queue.next_work(str(number)) for number in range(4)]
    assert [isinstance(work, str) for work in given] == [True, True, False, False]
    assert given[2] is given[3] is Next.WAIT


def test_an_error_that_a_user_can_fix_ends_the_batch(tmp_path: Path) -> None:
    def fail(trial: Trial) -> str:
        raise UserError("no space left")

    queue = Queue([search_of(tmp_path, trials=1)], TwoSlots(), fail, lambda: False, ignore_change)
    assert queue.next_work("0") is Next.END_BATCH
    assert str(queue.error) == "no space left"
    assert queue.next_work("1") is Next.END_BATCH


def test_a_report_of_a_trial_that_does_not_run_changes_nothing(tmp_path: Path) -> None:
    search = search_of(tmp_path, trials=1)
    assert not queue_of(search).report_epoch("unknown", EpochReport(status="completed"))
    assert not search.trials
