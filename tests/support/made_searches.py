"""Searches on made-up curves: records are written and reported as by actors, nothing trains."""

from pathlib import Path
from typing import Any

import numpy as np

import datasets
from core.environment import detect_environment
from core.recipe.method_files import load_method
from core.training.epoch_row import EpochRow
from core.training.selection import Score, SelectionRow, get_rule, score_epoch
from tuning.options import Options
from tuning.records.method_records import MethodRecords
from tuning.records.run_data import RunEnd, TrialStatus
from tuning.search.method_search import MethodSearch
from tuning.search.space import make_space
from tuning.search.trial import Trial
from tuning.worker.trial_work import EpochReport

RULE = get_rule("validation_worst_group_accuracy")
EPOCHS = 9  # rungs after epochs 1 and 3


def make_row(number: int, epoch: int, seed: int = 1000) -> EpochRow:
    """Return an epoch of a trial, whose value is a function of all three."""
    level = np.random.default_rng(number).uniform(0, 0.3)
    noise = np.random.default_rng([number, epoch, seed]).uniform(0, 0.2)
    value = float(level + noise + epoch / 20)
    return EpochRow(
        epoch=epoch, stage=0, stage_epoch=epoch - 1, eligible=True, final=epoch == EPOCHS,
        losses={}, lr=0.1, steps=1, seconds=1.0,
        validation={"worst_group_accuracy": value, "average_accuracy": value},
    )  # fmt: skip


def make_scores(number: int, epochs: int, seed: int = 1000) -> list[Score | None]:
    """Return the scores of a trial's first epochs."""
    rows = [make_row(number, epoch, seed) for epoch in range(1, epochs + 1)]
    return [score_epoch(RULE, [SelectionRow(row)]) for row in rows]


def make_search(folder: Path, trials: int, **options: Any) -> MethodSearch:
    """Return a search of ``rwg``, which continues from the records in a folder."""
    changes = {"search": "random", "scheduler": "none", "seeds": 1, **options}
    asked = Options(("rwg",), "colored_digits", trials=trials, epochs=EPOCHS, **changes)
    space = make_space(load_method("rwg"), datasets.load_benchmark("colored_digits"), asked)
    return MethodSearch(space, asked, detect_environment(False), MethodRecords(folder), RULE)


def train_epoch(search: MethodSearch, trial: Trial, epoch: int) -> bool:
    """Record and report an epoch; return whether the trial continues."""
    (run,) = trial.runs
    seed = trial.keys[0].seed
    rows = [make_row(trial.number, number, seed) for number in range(1, epoch + 1)]
    run.write_epoch(rows)
    status = TrialStatus.COMPLETED if epoch == EPOCHS else None
    if status:
        run.write_end(RunEnd(status, "", rows))
    score = make_scores(trial.number, epoch, seed)[-1]
    report = EpochReport(
        epoch=epoch, seconds=1.0, device_seconds=1.0, score=score, status=status or ""
    )
    return search.report_epoch(trial, report)


def drive_search(search: MethodSearch, slots: int, seed: int, most_epochs: int = 10**6) -> bool:
    """Train on slots whose epochs end in a random order; return whether the search ended."""
    order = np.random.default_rng(seed)
    running: list[tuple[Trial, int]] = []
    for _ in range(most_epochs):
        while len(running) < slots and (trial := search.next_trial()) is not None:
            recorded = trial.recorded_epochs  # which an actor replays at once
            if all(train_epoch(search, trial, epoch) for epoch in range(1, recorded + 1)):
                running.append((trial, recorded + 1))
        if search.is_search_done:
            return True
        trial, epoch = running.pop(int(order.integers(len(running))))
        if train_epoch(search, trial, epoch):
            running.append((trial, epoch + 1))
    return False


def summarize_trials(search: MethodSearch) -> dict[int, tuple[str, int]]:
    """Return the status and the number of epochs of each trial."""
    return {n: (str(t.status), len(t.scores)) for n, t in sorted(search.trials.items())}
