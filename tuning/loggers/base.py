"""The contract of loggers, and the run that they are given."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from common.hyperparameters import Hyperparameters
from core.training.selection import get_rule, score_curves, select_epoch
from tuning.records.export_context import ExportContext
from tuning.records.run_data import Phase, RunDescription, RunEnd, TrialStatus
from tuning.records.run_record import RunRecord
from tuning.reporting.curves import flatten_epoch
from tuning.reporting.summary import flatten_metrics
from tuning.search.recorded_scores import read_selection_rows

MAX_TEXT = 250  # characters of a value: MLflow's older servers take no more


@dataclass(frozen=True)
class LoggedEpoch:
    """An epoch of a logged run.

    Args:
        number: Its number, from 1.
        seconds: Seconds from the start of the run to its end.
        metrics: All that was measured, by name; what is undefined is left out.
    """

    number: int
    seconds: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class LoggedRun:
    """A run that has ended, as loggers are given it.

    Args:
        context: The study.
        description: Its role and hyperparameters.
        digest: The digest of its key, which identifies it.
        status: How it ended.
        reason: Why it failed.
        epochs: Its epochs.
        results: The metric by which the selection rule chose its epoch, and the metrics of a
            confirmation seed at that epoch.
    """

    context: ExportContext
    description: RunDescription
    digest: str
    status: TrialStatus
    reason: str
    epochs: tuple[LoggedEpoch, ...]
    results: Mapping[str, float]

    @property
    def is_search(self) -> bool:
        """Whether it is a trial of the search, not a further or a confirmation seed."""
        return self.description.phase == Phase.SEARCH

    @property
    def is_confirmation(self) -> bool:
        """Whether it is a confirmation seed."""
        return self.description.phase == Phase.CONFIRM

    @property
    def may_continue(self) -> bool:
        """Whether a longer search may promote it, and so write it again with more epochs."""
        pauses = self.context.scheduler == "asha_promotion"
        return pauses and self.status == TrialStatus.PRUNED

    @property
    def seed(self) -> int:
        """The training seed."""
        return self.description.key.seed

    @property
    def name(self) -> str:
        """The method, and the trial and its training seed, or the confirmation seed."""
        number = self.description.number
        trial = f"trial {number}, seed {self.seed}"
        where = f"confirmation {number}" if self.is_confirmation else trial
        return f"{self.context.method}, {where}"

    @property
    def hyperparameters(self) -> Hyperparameters:
        """All active hyperparameters, and all else that the run was given; long texts cut."""
        return {
            name: value[:MAX_TEXT] if isinstance(value, str) else value
            for name, value in self.description.effective.items()
        }

    @property
    def tags(self) -> dict[str, str]:
        """What identifies the run, besides its hyperparameters."""
        return {
            "dataset": self.context.dataset,
            "method": self.context.method,
            "phase": self.description.phase,
            "number": str(self.description.number),
            "seed": str(self.seed),
            "key": self.digest,
            "commit": self.description.commit or "",
            "status": self.status,
            "epochs": str(len(self.epochs)),
            "reason": self.reason[:MAX_TEXT],
        }


class RunLogger(ABC):
    """Writes ended runs for another tool."""

    @abstractmethod
    def log_run(self, run: LoggedRun) -> None:
        """Write a run, once: one that an earlier command wrote is left as it is.

        One that was pruned then, and was promoted in a longer search since, is written again.
        """

    def close(self) -> None:  # noqa: B027  # most have nothing to close
        """Finish writing."""


def read_logged_run(context: ExportContext, record: RunRecord) -> LoggedRun | None:
    """Return a run for loggers from its record; None where it has not ended.

    Args:
        context: The study.
        record: The record.

    Raises:
        UserError: If the record cannot be read.
    """
    description, end = record.read_description(), record.read_end()
    if description is None or end is None:
        return None
    return LoggedRun(
        context,
        description,
        record.name,
        end.status,
        end.reason,
        _list_epochs(context, record, end),
        _list_results(context, record, end),
    )


def _list_epochs(context: ExportContext, record: RunRecord, end: RunEnd) -> tuple[LoggedEpoch, ...]:
    audit = record.read_audit() if context.command.audit_test else []
    found, seconds = [], 0.0
    for index, row in enumerate(end.rows):
        test = audit[index] if index < len(audit) else {}
        seconds += row.seconds
        metrics = _list_defined(flatten_epoch(row, test, context))
        found.append(LoggedEpoch(row.epoch, seconds, metrics))
    return tuple(found)


def _list_results(context: ExportContext, record: RunRecord, end: RunEnd) -> dict[str, float]:
    rule = get_rule(context.rule)
    may_score = context.command.audit_test or not rule.oracle
    scores = score_curves(rule, [read_selection_rows(rule, record, end.rows)]) if may_score else []
    best = select_epoch(scores)
    results: dict[str, object] = {}
    if best is not None:
        results = {f"best_{rule.name}": rule.read_metric(best), "best_epoch": best.epoch}
    if end.confirmation is not None:
        for split, metrics in (
            ("validation", end.confirmation.validation),
            ("test", end.confirmation.test),
        ):
            named = flatten_metrics(split, metrics, context)
            results |= {f"selected_{name}": value for name, value in named.items()}
    return _list_defined(results)


def _list_defined(columns: Mapping[str, object]) -> dict[str, float]:
    return {n: float(v) for n, v in columns.items() if isinstance(v, int | float)}
