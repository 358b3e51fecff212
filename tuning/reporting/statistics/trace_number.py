"""Where a number of a table comes from: study, records, rule, trial, and the value of each seed."""

from dataclasses import dataclass

from common.errors import UserError, unknown_name_message
from common.text import format_count
from core.recipe.trial_key import TrialKey
from tuning.records.method_records import MethodRecords
from tuning.reporting.intervals import SeedStatistics, format_confidence
from tuning.reporting.recorded_study import RecordedStudy
from tuning.reporting.repeat_commands import make_repeat_commands
from tuning.reporting.summary import flatten_metrics, make_summary

ENDINGS = ("_mean", "_std", "_low", "_high", "_mark")  # of columns of table.csv


@dataclass(frozen=True)
class SeedValue:
    """The value of a confirmation seed.

    Args:
        seed: The seed.
        value: Its value; None where it is undefined.
        epoch: The epoch that the rule chose.
        record: The path or URL of its record.
    """

    seed: int
    value: float | None
    epoch: int
    record: str


@dataclass(frozen=True)
class FinalistValues:
    """The further seeds of a finalist.

    Args:
        trial: The trial's number.
        is_preferred: Whether it has the default hyperparameters, and the rule prefers them.
        values: The value of each further seed; None for one that failed.
    """

    trial: int
    is_preferred: bool
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class NumberOrigin:
    """The origin of a number in a table.

    Args:
        dataset: The data set.
        method: The method.
        column: The metric with its split.
        statistics: Its statistics over the seeds.
        seeds: Each seed with its value.
        records: The path or URL of the method's records.
        rule: The selection rule.
        search: The search in words.
        trial: Number of the trial that was chosen; None without a search.
        trial_epoch: Its best epoch.
        trial_value: Its value in the search.
        trial_records: The records of its runs.
        finalists: The finalists that have further seeds.
        keeps_default: Whether the rule preferred the default hyperparameters to a better trial.
        command: The command that repeats the seeds.
        command_of_one_seed: The command that repeats one of them without Ray.
    """

    dataset: str
    method: str
    column: str
    statistics: SeedStatistics
    seeds: tuple[SeedValue, ...]
    records: str
    rule: str
    search: str
    trial: int | None
    trial_epoch: int | None
    trial_value: float | None
    trial_records: tuple[str, ...]
    finalists: tuple[FinalistValues, ...]
    keeps_default: bool
    command: str
    command_of_one_seed: str


def trace_number(
    study: RecordedStudy, records: MethodRecords, column: str | None = None
) -> NumberOrigin:
    """Return the origin of a method's number.

    Args:
        study: The study of the method.
        records: Its records.
        column: A column of ``table.csv`` or ``seeds.csv``; None for the main test metric.

    Raises:
        UserError: If the method has no result, or no such column.
    """
    context = study.context
    summary = make_summary(study)
    metrics = summary.metrics
    name = f"test_{context.reported_metrics[0]}" if column is None else column
    if name not in metrics:
        for ending in ENDINGS:
            name = name.removesuffix(ending) if name.removesuffix(ending) in metrics else name
    run = study.winning_run
    if not metrics or run is None:
        raise UserError(
            f"'{records.storage}' has no finished confirmation seed of {context.method}, so that "
            "it has no row in a table yet"
        )
    if name not in metrics:
        raise UserError(f"--column: {unknown_name_message('column', name, metrics)}")
    split = name.split("_")[0]
    seeds = []
    for seed in study.confirmed_seeds:
        if (result := seed.confirmation) is not None:
            found = result.validation if split == "validation" else result.test
            value = flatten_metrics(split, found, context)[name]
            record = records.open_run(seed.keys[0]).location
            seeds.append(SeedValue(seed.number, value, result.epoch, record))
    winner = study.winner if context.search != "published" else None
    best = winner.best if winner is not None else None
    command, single = _make_commands(study, run.key)
    return NumberOrigin(
        dataset=context.dataset,
        method=context.method,
        column=name,
        statistics=metrics[name],
        seeds=tuple(seeds),
        records=str(records.storage),
        rule=context.rule,
        search=f"{len(study.trials)} of {context.trials} trials ({context.search}, "
        f"{context.scheduler}, search seeds: {context.search_seeds})",
        trial=None if winner is None else winner.number,
        trial_epoch=None if best is None else best.epoch,
        trial_value=study.rule.read_metric(best),
        trial_records=()
        if winner is None
        else tuple(records.open_run(key).location for key in winner.keys),
        finalists=tuple(
            FinalistValues(
                trial.number,
                bool(study.rule.margin) and trial.is_default,
                tuple(summary.finalists[str(trial.number)]),
            )
            for trial in study.trials
            if summary.finalists.get(str(trial.number))
        ),
        keeps_default=study.keeps_default,
        command=command,
        command_of_one_seed=single,
    )


def _make_commands(study: RecordedStudy, key: TrialKey) -> tuple[str, str]:
    return make_repeat_commands(study.context, key, study.effective_hyperparameters)


def describe_origin(origin: NumberOrigin) -> list[str]:
    """Return the origin of a number as lines."""
    found = origin.statistics
    std = "" if found.std is None else f", standard deviation {found.std:.6g}"
    interval = (
        ""
        if found.low is None or found.high is None
        else f", {format_confidence()} interval [{found.low:.6g}, {found.high:.6g}]"
    )
    chosen = (
        "published hyperparameters, nothing was searched"
        if origin.trial is None
        else f"trial {origin.trial} at epoch {origin.trial_epoch}, value {origin.trial_value:.6g}"
    )
    if origin.keeps_default:
        where = " on further seeds" if origin.finalists else ""
        chosen += (
            "; the default hyperparameters, kept because no trial was better by a standard error"
            f"{where}"
        )
    seeds = format_count(found.n, "confirmation seed")
    return [
        f"{origin.dataset}, {origin.method}, {origin.column}",
        f"number:   mean {found.mean:.6g}{std}{interval}, of {seeds}",
        f"records:  {origin.records}",
        f"rule:     {origin.rule}",
        f"search:   {origin.search}",
        *(_describe_finalist(finalist) for finalist in origin.finalists),
        f"chosen:   {chosen}",
        *(f"          {record}" for record in origin.trial_records),
        *(
            f"seed {seed.seed}:   {'undefined' if seed.value is None else f'{seed.value:.6g}'} at "
            f"epoch {seed.epoch}, {seed.record}"
            for seed in origin.seeds
        ),
        f"repeat:   {origin.command}",
        f"one seed: {origin.command_of_one_seed}",
    ]


def _describe_finalist(finalist: FinalistValues) -> str:
    values = ", ".join("failed" if v is None else f"{v:.6g}" for v in finalist.values)
    preferred = ", the default hyperparameters" if finalist.is_preferred else ""
    return f"finalist: trial {finalist.trial}{preferred}: {values} on further seeds"
