"""The studies of a report, read from records; those that cannot be read are named."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from common.errors import UserError
from core.training.epoch_row import EpochRow
from tuning.records.lock import describe_holder
from tuning.records.method_records import MethodRecords
from tuning.records.storage import Storage, storage_errors
from tuning.reporting.damage.find_damage import find_damaged_records
from tuning.reporting.layout.columns import DELTAS
from tuning.reporting.recorded_study import RecordedStudy, RecordedTrial, read_study
from tuning.reporting.report.chart import shorten_name
from tuning.reporting.status import StudyStatus
from tuning.reporting.summary import Summary, make_summary

MAX_NAMED = 5  # damaged files of a method


@dataclass(frozen=True)
class RecordSource:
    """A place with records of studies.

    Args:
        name: Its name in the report: the results folder.
        storage: The records.
    """

    name: str
    storage: Storage


@dataclass(frozen=True)
class BusyTime:
    """The time in which a trial was trained, by the time stamps of its files.

    Args:
        start: Its start, in seconds since 1970.
        end: Its end.
    """

    start: float
    end: float


@dataclass(frozen=True)
class ReportedStudy:
    """A method's study as the report shows it.

    Args:
        study: The study.
        label: The method, and its source where two have the same.
        source: The name of its source.
        state: Where it stands, in words.
        busy: When its trials were trained; empty where the storage keeps no times.
    """

    study: RecordedStudy
    label: str
    source: str
    state: str
    busy: tuple[BusyTime, ...] = ()

    @property
    def short_label(self) -> str:
        """The label as figures show it."""
        return shorten_name(self.label)

    @property
    def metric(self) -> str:
        """The metric that selects."""
        return self.study.rule.metric

    @property
    def higher_is_better(self) -> bool:
        """The direction of that metric."""
        return not self.study.rule.lower_is_better

    def scale(self, value: float) -> float:
        """Return a metric's value as tables show it: shares in percent."""
        return 100 * value if self.study.context.as_percent else value

    def name_axis(self, metric: str, split: str = "") -> str:
        """Return the label of an axis: the metric with its split and unit."""
        percent = self.study.context.as_percent or metric in DELTAS
        words = f"{split} {metric.replace('_', ' ')}".strip()
        return f"{words} (%)" if percent else words

    def get_value(self, trial: RecordedTrial) -> float | None:
        """Return the selection metric of a trial's best epoch, scaled; None without one."""
        return self._values.get(trial.number)

    @cached_property
    def _values(self) -> dict[int, float]:
        """The selection metric of each trial of the search that has one, scaled."""
        found = [(t.number, self.study.rule.read_metric(t.best)) for t in self.study.trials]
        return {number: self.scale(value) for number, value in found if value is not None}

    def list_values(self) -> list[tuple[RecordedTrial, float]]:
        """Return the trials that have a value, with it."""
        found = [(trial, self.get_value(trial)) for trial in self.study.trials]
        return [(trial, value) for trial, value in found if value is not None]

    @cached_property
    def summary(self) -> Summary:
        """The summary of the study under its label."""
        return replace(make_summary(self.study), method=self.label)


@dataclass(frozen=True)
class LeftOut:
    """Records that are not in the report.

    Args:
        where: The method, and the run where it is one.
        reason: Why.
    """

    where: str
    reason: str


@dataclass(frozen=True)
class ReportData:
    """The content of a report.

    Args:
        studies: The studies, by data set.
        left_out: The records that could not be read.
    """

    studies: dict[str, list[ReportedStudy]]
    left_out: list[LeftOut]


def read_studies(sources: Sequence[RecordSource]) -> ReportData:
    """Return the studies in some records, by data set.

    Args:
        sources: The records.

    Raises:
        StorageError: If a storage cannot be listed.
    """
    found: list[ReportedStudy] = []
    left_out: list[LeftOut] = []
    for source in sources:
        for storage in _list_methods(source.storage):
            _read_method(source, storage, found, left_out)
    names = Counter((one.study.context.dataset, one.label) for one in found)
    studies: dict[str, list[ReportedStudy]] = {}
    for one in found:
        dataset = one.study.context.dataset
        if names[dataset, one.label] > 1:
            one = replace(one, label=f"{one.label} ({one.source})")
        studies.setdefault(dataset, []).append(one)
    return ReportData(dict(sorted(studies.items())), left_out)


def _list_methods(root: Storage) -> Iterator[Storage]:
    with storage_errors(root):
        yield from (
            root / dataset / method
            for dataset in root.list_names()
            for method in (root / dataset).list_names()
        )


def _read_method(
    source: RecordSource, storage: Storage, found: list[ReportedStudy], left_out: list[LeftOut]
) -> None:
    """Read one method's study into one list, and its damaged files into the other."""
    records = MethodRecords(storage)
    try:
        one = _read_study(source, records)
        damaged = find_damaged_records(records, () if one is None else _list_ended_runs(one.study))
    except UserError as error:  # of another version of the project, or not readable
        left_out.append(LeftOut(f"{source.name}: {storage}", str(error)))
        return
    except Exception as error:  # of values that no check knows: the other studies are shown
        reason = f"cannot be read: {type(error).__name__}: {error}"
        left_out.append(LeftOut(f"{source.name}: {storage}", reason))
        return
    left_out += [LeftOut(f"{source.name}: {one.file}", one.reason) for one in damaged[:MAX_NAMED]]
    if (rest := len(damaged) - MAX_NAMED) > 0:
        left_out.append(LeftOut(f"{source.name}: {storage}", f"{rest:,} more damaged files"))
    if one is not None:
        found.append(one)


def _list_ended_runs(study: RecordedStudy) -> set[str]:
    """Return the names of the runs of ended trials, of which every file could be read."""
    trials = (*study.trials, *study.recorded_seeds)
    return {key for trial in trials if trial.is_finished for key in trial.keys}


def _read_study(source: RecordSource, records: MethodRecords) -> ReportedStudy | None:
    study = read_study(records)
    if study is None:
        return None
    storage = records.storage
    state = StudyStatus(study, describe_holder(storage)).phase
    busy = tuple(
        _list_busy_times(
            storage, (*study.trials, *study.list_further_runs(), *study.recorded_seeds)
        )
    )
    return ReportedStudy(study, study.context.method, source.name, state, busy)


def _list_busy_times(storage: Storage, trials: Sequence[RecordedTrial]) -> Iterator[BusyTime]:
    """Yield the time of each trial: its last time stamp less the seconds of its epochs.

    The runs of its training seeds take turns in its slot.
    """
    times = (storage / "runs").list_modification_times()
    for trial in trials:
        ends = [times.get(f"{key}/end.json", times.get(f"{key}/rows.json")) for key in trial.keys]
        known = [end for end in ends if end is not None]
        if known and trial.epochs:
            yield BusyTime(max(known) - trial.seconds, max(known))


def list_rows(trial: RecordedTrial | None) -> tuple[EpochRow, ...]:
    """Return the epochs of a trial's first run; none without a trial."""
    return trial.curves[0] if trial is not None and trial.curves else ()
