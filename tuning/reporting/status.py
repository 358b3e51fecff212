"""The state of studies as their records show it, from any machine that can read them."""

from collections.abc import Iterator
from dataclasses import dataclass

from common.text import format_count
from tuning.records.lock import describe_holder
from tuning.records.method_records import MethodRecords
from tuning.records.storage import Storage
from tuning.reporting.layout.printed_table import format_markdown
from tuning.reporting.recorded_study import RecordedStudy, RecordedTrial, read_study

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
    return format_markdown([_format_row(status) for status in statuses])


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
        "time left": _estimate_time_left(status),
    }


def _estimate_time_left(status: StudyStatus) -> str:
    """Return the training time left, if as many trials run as now and none is pruned."""
    study, context = status.study, status.study.context
    running = sum(not trial.is_finished for trial in (*study.trials, *study.seeds))
    done = [trial for trial in (*study.trials, *study.seeds) if trial.epochs]
    if status.is_complete or status.holder is None or not running or not done:
        return "-"
    per_epoch = sum(trial.seconds for trial in done) / sum(trial.epochs for trial in done)
    length = context.epochs_per_trial * context.search_seeds
    trials = max(0, context.trials - len(study.trials)) * length
    seeds = max(0, context.seeds - len(study.confirmed_seeds)) * context.epochs_per_trial
    minutes = (trials + seeds) * per_epoch / running / 60
    return f"at most {minutes:.0f} min" if minutes < 90 else f"at most {minutes / 60:.1f} h"


def _describe_trials(status: StudyStatus) -> list[str]:
    study, name = status.study, status.study.context.method
    running = [
        f"{name} {kind} {trial.number}: epoch {trial.epochs // len(trial.keys)}, "
        f"best {_format_best(study, trial)}"
        for kind, trials in (("trial", study.trials), ("seed", study.seeds))
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
