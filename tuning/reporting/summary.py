"""The summary of a method's study: the content of ``summary.json``, from which tables are made."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

from common.errors import UserError
from common.files import is_hidden
from common.hyperparameters import Hyperparameters
from core.training.selection import rank_trial
from datasets.training_config import JOINED_SPLIT
from tuning.records.decoding import decode_fields, decode_optional, require_object
from tuning.records.export_context import BaselineSource, ExportContext
from tuning.records.json_files import read_json, write_json
from tuning.records.provenance import Provenance, collect_provenance
from tuning.records.run_data import Metrics
from tuning.records.version import RECORD_VERSION, check_record_version
from tuning.reporting.damage.find_damage import LeftOutFile
from tuning.reporting.intervals import SHARE, UNBOUNDED, SeedStatistics, compute_statistics
from tuning.reporting.recorded_study import RecordedStudy
from tuning.reporting.statistics.search_spread import (
    SearchConclusion,
    SearchSpread,
    measure_search_spread,
)
from tuning.reporting.statistics.uncertainty import UncertaintyParts, split_uncertainty
from tuning.reporting.statistics.winner_values import WinnerValues, compare_winner_values

FILE_NAME = "summary.json"


@dataclass(frozen=True)
class Summary:
    """The summary of a method's study.

    Args:
        method: The method.
        dataset: The data set.
        dataset_version: Its version.
        baseline: The baseline of delta-m; None for data sets without one.
        as_percent: Whether tables show metrics in percent.
        higher_is_better: The direction of each metric.
        gradients: How per-task gradients are computed.
        rule: Name of the selection rule.
        oracle: Whether the rule reads the test split.
        averaged_epochs: Last epochs that the rule averages, as published code does; 0 if it chooses
            an epoch.
        search: Name of the search.
        scheduler: Name of the scheduler.
        search_seeds: Training seeds of a trial.
        needs: Special needs of the method, such as group labels.
        reported_metrics: The metrics of printed tables.
        complete: Whether every confirmation seed of the finished search has a result.
        trials: Trials so far.
        statuses: Number of trials with each status.
        epochs_per_trial: Epochs of a trial that selection may choose from.
        seeds: Confirmation seeds with a result.
        epochs: Epochs of search and confirmation.
        device: Name of the GPU, or ``cpu``.
        device_hours: Device-hours of search and confirmation.
        hyperparameters: The winning hyperparameters.
        metrics: Statistics over the seeds of ``validation_<metric>`` and ``test_<metric>``.
        provenance: The code, packages and machine of the export.
        worst_groups: The groups that are worst in a seed's test split, and in how many seeds, the
            most frequent first; empty for data sets of tasks.
        has_learned: Whether any trial is better than a constant prediction.
        winner: The winner's value in the search beside those of its fresh seeds.
        uncertainty: The parts of the main test metric's uncertainty; None without a result.
        search_spread: How much the trials differ beyond noise; None without trials or seeds.
        finalists: The selection metric of each further training seed of a finalist, by the trial's
            number; None of one that failed.
        keeps_default: Whether the rule preferred the default hyperparameters to a trial that is
            better.
    """

    method: str
    dataset: str
    dataset_version: str
    baseline: BaselineSource | None
    as_percent: bool
    higher_is_better: Mapping[str, bool]
    gradients: str
    rule: str
    oracle: bool
    averaged_epochs: int
    search: str
    scheduler: str
    search_seeds: int
    needs: list[str]
    reported_metrics: list[str]
    complete: bool
    trials: int
    statuses: Mapping[str, int]
    epochs_per_trial: int
    seeds: int
    epochs: int
    device: str
    device_hours: float
    hyperparameters: Hyperparameters
    training_split: str
    metrics: Mapping[str, SeedStatistics]
    provenance: Provenance
    worst_groups: Mapping[str, int] = field(default_factory=dict)
    has_learned: bool = True
    winner: WinnerValues | None = None
    uncertainty: UncertaintyParts | None = None
    search_spread: SearchSpread | None = None
    finalists: Mapping[str, list[float | None]] = field(default_factory=dict)
    keeps_default: bool = False

    @property
    def is_trained_on_all(self) -> bool:
        """Whether the validation split was trained on too, as in a published protocol."""
        return self.training_split == JOINED_SPLIT

    @property
    def selection_label(self) -> str:
        """The selection rule as tables name it."""
        return f"{self.rule}, trained on all frames" if self.is_trained_on_all else self.rule

    def as_dict(self) -> dict[str, object]:
        """Return the content of ``summary.json``."""
        return {"record_version": RECORD_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self | None:
        """Return the summary that :meth:`as_dict` encoded; None for anything else."""
        try:
            return decode_fields(
                cls,
                data,
                baseline=decode_optional(BaselineSource),
                metrics=_decode_metrics,
                provenance=partial(decode_fields, Provenance),
                winner=decode_optional(WinnerValues),
                uncertainty=_decode_uncertainty,
                search_spread=_decode_search_spread,
            )
        except (KeyError, TypeError, ValueError):
            return None


def flatten_metrics(
    split: str, metrics: Metrics, context: ExportContext
) -> dict[str, float | None]:
    """Return metrics as columns: ``<split>_<metric>``, of lists ``<split>_<metric>[<name>]``."""
    columns: dict[str, float | None] = {}
    for metric, value in metrics.items():
        if isinstance(value, list):
            names = context.name_entries(split, metric, len(value))
            columns |= {
                f"{split}_{metric}[{name}]": item for name, item in zip(names, value, strict=True)
            }
        else:
            columns[f"{split}_{metric}"] = value
    return columns


def find_worst_group(split: str, metrics: Metrics, context: ExportContext) -> str | None:
    """Return the name of the group with the lowest accuracy, the first of equals; None without."""
    found = metrics.get("group_accuracy")
    if not isinstance(found, list):
        return None
    names = context.name_entries(split, "group_accuracy", len(found))
    defined = {n: value for n, value in zip(names, found, strict=True) if value is not None}
    return min(defined, key=defined.__getitem__, default=None)


def make_summary(study: RecordedStudy) -> Summary:
    """Return the summary of a study."""
    context = study.context
    confirmed = study.confirmed_seeds
    run = study.winning_run
    statuses = [trial.status for trial in study.trials]
    metrics, worst_groups = _summarize_metrics(study), _count_worst_groups(study)
    validation, test = (metrics.get(f"{s}_{study.rule.metric}") for s in ("validation", "test"))
    finalists = {trial.number for trial in study.list_finalists(context.finalists)}
    return Summary(
        method=context.method,
        dataset=context.dataset,
        dataset_version=context.dataset_version,
        baseline=context.baseline,
        as_percent=context.as_percent,
        higher_is_better=context.higher_is_better,
        gradients=run.key.training_config.gradients if run else context.gradients,
        rule=context.rule,
        oracle=study.rule.oracle,
        averaged_epochs=study.rule.window,
        search=context.search,
        scheduler=context.scheduler,
        search_seeds=context.search_seeds,
        needs=context.needs,
        reported_metrics=context.reported_metrics,
        complete=study.is_complete,
        trials=len(study.trials),
        statuses={status: statuses.count(status) for status in dict.fromkeys(statuses)},
        epochs_per_trial=context.epochs_per_trial,
        seeds=len(confirmed),
        epochs=sum(trial.epochs for trial in study.all_trials),
        device=context.environment.device_class,
        device_hours=study.sum_device_hours(),
        hyperparameters=study.effective_hyperparameters,
        training_split=run.key.training_config.training_split if run else "",
        metrics=metrics,
        provenance=collect_provenance(),
        worst_groups=worst_groups,
        has_learned=study.has_learned,
        winner=compare_winner_values(study, validation, test),
        uncertainty=split_uncertainty(study, metrics, next(iter(worst_groups), None)),
        search_spread=measure_search_spread(study),
        finalists={
            str(number): [
                study.rule.read_metric(rank_trial(study.rule, run.scores))
                for run in runs
                if run.is_finished
            ]
            for number, runs in study.further_runs.items()
            if number in finalists
        },
        keeps_default=study.keeps_default,
    )


def _count_worst_groups(study: RecordedStudy) -> dict[str, int]:
    results = [seed.confirmation for seed in study.confirmed_seeds if seed.confirmation]
    found = [find_worst_group("test", result.test, study.context) for result in results]
    return dict(Counter(name for name in found if name is not None).most_common())


def _summarize_metrics(study: RecordedStudy) -> dict[str, SeedStatistics]:
    """Return statistics of each metric over the seeds in which it is defined."""
    columns = {
        seed.number: flatten_metrics("validation", result.validation, study.context)
        | flatten_metrics("test", result.test, study.context)
        for seed in study.confirmed_seeds
        if (result := seed.confirmation) is not None
    }
    bounds = SHARE if study.context.as_percent else UNBOUNDED
    metrics = {}
    for name in next(iter(columns.values()), {}):
        values = {
            n: float(value) for n, row in columns.items() if (value := row.get(name)) is not None
        }
        if values:
            metrics[name] = compute_statistics(list(values.values()), bounds, list(values))
    return metrics


def write_summary(folder: Path, summary: Summary) -> None:
    """Write ``summary.json``."""
    write_json(folder / FILE_NAME, summary.as_dict())


def read_summary(folder: Path) -> Summary | None:
    """Return the content of ``summary.json``; None where it is missing or damaged.

    Raises:
        UserError: If another version of the project wrote it.
    """
    found = read_json(folder / FILE_NAME)
    if not isinstance(found, dict) or "metrics" not in found:
        return None
    return Summary.from_dict(check_record_version(found, str(folder / FILE_NAME)))


def read_summaries(results: Path) -> list[Summary]:
    """Return the summaries of all methods and data sets in a results folder.

    Raises:
        UserError: If another version of the project wrote one of them.
    """
    folders = _list_method_folders(results)
    return [summary for folder in folders if (summary := read_summary(folder)) is not None]


def scan_summaries(results: Path) -> tuple[list[Summary], list[LeftOutFile]]:
    """Return the summaries of a results folder, and the files that are left out, with the reason.

    Left out are damaged files, and those of another version of the project.
    """
    summaries: list[Summary] = []
    left_out: list[LeftOutFile] = []
    for folder in _list_method_folders(results):
        file = str(folder / FILE_NAME)
        try:
            found = read_summary(folder)
        except UserError as error:
            left_out.append(LeftOutFile(file, str(error).removeprefix(f"'{file}' ")))
            continue
        if found is None:
            left_out.append(LeftOutFile(file, "not the summary of a study"))
        else:
            summaries.append(found)
    return summaries, left_out


def _list_method_folders(results: Path) -> list[Path]:
    found = [path.parent for path in results.glob(f"*/*/{FILE_NAME}")]
    return sorted(path for path in found if not (is_hidden(path) or is_hidden(path.parent)))


def _decode_metrics(data: object) -> dict[str, SeedStatistics]:
    return {
        name: decode_fields(SeedStatistics, found, seeds=tuple, values=tuple)
        for name, found in require_object(data).items()
    }


def _decode_uncertainty(data: object) -> UncertaintyParts | None:
    return None if data is None else decode_fields(UncertaintyParts, data, unknown=tuple)


def _decode_search_spread(data: object) -> SearchSpread | None:
    return None if data is None else decode_fields(SearchSpread, data, conclusion=SearchConclusion)
