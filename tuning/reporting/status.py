"""The state of studies as their records show it, from any machine that can read them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from common.text import format_count
from tuning.records.lock import describe_holder
from tuning.records.method_records import MethodRecords
from tuning.records.storage import Storage
from tuning.reporting.layout.printed_table import format_markdown
from tuning.reporting.recorded_study import RecordedStudy, RecordedTrial, read_study
from tuning.search.finalist_race import count_finalist_runs, count_runs_left
from tuning.search.time_left import (
    MethodTimes,
    PlannedWork,
    describe_work,
    estimate_seconds_left,
)

MAX_FAILURES = 3  # failed trials of a method that are named


@dataclass(frozen=True)
class StudyStatus:
    """The state of a method's study.

    Args:
        study: The study.
        holder: The command that runs it; None where none does.
    """

    study: RecordedStudy
    holder: str | None

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to train."""
        return self.study.is_complete

    @property
    def phase(self) -> str:
        """The state in one word or two."""
        if self.is_complete:
            return "complete"
        phase = "confirming" if self.study.is_search_finished else "searching"
        return phase if self.holder else f"stopped while {phase}"


def read_statuses(root: Storage) -> list[StudyStatus]:
    """Return the state of every study below a storage, by data set and method.

    Raises:
        StorageError: If the records cannot be read.
        UserError: If another version of the project wrote them.
    """
    return list(_read_statuses(root))


def _read_statuses(root: Storage) -> Iterator[StudyStatus]:
    for dataset in sorted(root.list_names()):
        for method in sorted((root / dataset).list_names()):
            storage = root / dataset / method
            study = read_study(MethodRecords(storage))
            if study is not None:
                yield StudyStatus(study, describe_holder(storage))


def format_statuses(statuses: list[StudyStatus]) -> list[str]:
    """Return a table of all studies, then running trials and failures, a line each."""
    lines = format_table(statuses)
    for status in statuses:
        lines += _describe_trials(status)
    return lines


def format_table(statuses: list[StudyStatus]) -> list[str]:
    """Return a table with a row per study."""
    times = _estimate_times_left(statuses)
    return format_markdown(
        [
            _format_row(status) | {"time left": left}
            for status, left in zip(statuses, times, strict=True)
        ]
    )


def _format_row(status: StudyStatus) -> dict[str, str]:
    study, context = status.study, status.study.context
    best = study.rule.read_metric(study.winner.best if study.winner else None)
    finished = sum(trial.is_finished for trial in study.trials)
    return {
        "data set": context.dataset,
        "method": context.method,
        "state": status.phase,
        "trials": f"{finished}/{context.trials}",
        "failed": str(sum(trial.status == "failed" for trial in study.trials)),
        "best": "-" if best is None else f"{best:.4f}",
        "seeds": f"{len(study.confirmed_seeds)}/{context.seeds}",
        "device-hours": f"{study.sum_device_hours():.2g}",
    }


def _estimate_times_left(statuses: Sequence[StudyStatus]) -> list[str]:
    """Return the training time left of the command that runs each study; ``-`` without one."""
    commands: dict[str, list[StudyStatus]] = {}
    for status in statuses:
        if status.holder is not None and not status.is_complete:
            commands.setdefault(_name_process(status.holder), []).append(status)
    left = {process: _estimate_time_left(found) for process, found in commands.items()}
    return [
        "-" if one.is_complete else left.get(_name_process(one.holder or ""), "-")
        for one in statuses
    ]


def _name_process(holder: str) -> str:
    """Return process and host of a command, which locks one study after another."""
    return holder.partition(", since")[0]


def _estimate_time_left(statuses: Sequence[StudyStatus]) -> str:
    """Return the training time left of the studies that one command runs."""
    studies = [status.study for status in statuses]
    trials = [trial for study in studies for trial in study.all_trials]
    running = sum(not trial.is_finished for trial in trials)
    slots = max(study.context.slots or running for study in studies)
    seconds = estimate_seconds_left([describe_times(study) for study in studies], slots)
    if seconds is None:
        return "-"
    minutes = seconds / 60
    return f"about {minutes:.0f} min" if minutes < 90 else f"about {minutes / 60:.1f} h"


def describe_times(study: RecordedStudy) -> MethodTimes:
    """Return the times of a study's recorded epochs, and the number of trials still to start."""
    context, further = study.context, study.list_further_runs()
    known = [*study.trials, *study.seeds]
    if study.are_trials_finished:
        race = study.find_race(context.finalists)
        further_runs = len(further) + count_runs_left(race, study.further_runs)
    else:
        further_runs = count_finalist_runs(min(context.finalists, context.trials))
    planned = PlannedWork(
        stages=known[0].key.list_stage_epochs() if known else (),
        trials=context.trials,
        further_runs=further_runs,
        seeds=context.seeds,
        search_seeds=context.search_seeds,
        scheduler=context.scheduler,
        epochs=context.epochs_per_trial,
    )
    return describe_work(planned, study.trials, [*further, *study.seeds], study.rule)


def _describe_trials(status: StudyStatus) -> list[str]:
    study, name = status.study, status.study.context.method
    running = [
        f"{name} {kind} {trial.number}: epoch {trial.epochs // len(trial.keys)}, "
        f"best {_format_best(study, trial)}"
        for kind, trials in (
            ("trial", study.trials),
            ("finalist", study.list_further_runs()),
            ("seed", study.seeds),
        )
        for trial in trials
        if not trial.is_finished and status.holder
    ]
    failed = [trial for trial in study.trials if trial.status == "failed"]
    failures = [f"{name} trial {t.number} failed: {t.reason}" for t in failed[:MAX_FAILURES]]
    if len(failed) > MAX_FAILURES:
        failures.append(f"{name}: {format_count(len(failed) - MAX_FAILURES, 'more failed trial')}")
    holder = [f"{name}: run by {status.holder}"] if status.holder else []
    return [*holder, *running, *failures]


def _format_best(study: RecordedStudy, trial: RecordedTrial) -> str:
    value = study.rule.read_metric(trial.best)
    return "-" if value is None else f"{value:.4f}"
