"""The content of a report: a section per data set, with tables, figures and messages."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from common.text import format_count
from tuning.records.run_data import TrialStatus
from tuning.reporting.intervals import SeedStatistics
from tuning.reporting.layout.columns import Column, choose_format, name_metric, split_words
from tuning.reporting.repeat_commands import make_repeat_commands
from tuning.reporting.report.chart import Chart
from tuning.reporting.report.comparisons import describe_pairs, make_pairs_table
from tuning.reporting.report.figures.cost import draw_busy_slots, draw_device_hours
from tuning.reporting.report.figures.group_bars import draw_group_bars, draw_task_deltas
from tuning.reporting.report.figures.group_epochs import draw_group_epochs
from tuning.reporting.report.figures.importance import (
    compute_importances,
    draw_importances,
    draw_slices,
)
from tuning.reporting.report.figures.learning_curves import draw_learning_curves
from tuning.reporting.report.figures.parallel_coordinates import draw_parallel_coordinates
from tuning.reporting.report.figures.pareto_front import draw_pareto_front
from tuning.reporting.report.figures.progress import (
    DEVICE_HOURS,
    EPOCHS,
    draw_all_progress,
    draw_progress,
)
from tuning.reporting.report.figures.training_signals import draw_training_signals
from tuning.reporting.report.figures.winners_curse import draw_winners_curse
from tuning.reporting.report.html_table import HtmlTable, make_column_table, make_row_table
from tuning.reporting.report.read_studies import ReportedStudy
from tuning.reporting.statistics.method_comparison import compare_methods
from tuning.reporting.summary import Summary
from tuning.reporting.table_rows import describe_best
from tuning.reporting.tables import make_printed_table

MAX_FAILURES = 20  # reasons of a data set that are listed


@dataclass(frozen=True)
class Part:
    """A part of a section.

    Args:
        title: Its title.
        charts: Its figures.
        tables: Its tables.
        messages: Sentences before them.
    """

    title: str
    charts: tuple[Chart, ...] = ()
    tables: tuple[HtmlTable, ...] = ()
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class MethodPart:
    """The part of a section about one method.

    Args:
        id: Its id in the page.
        name: The method.
        summary: A line about it.
        facts: Facts about its winner, by name.
        commands: Titles and commands.
        charts: Its figures.
    """

    id: str
    name: str
    summary: str
    facts: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, str], ...]
    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class Section:
    """The section of a data set.

    Args:
        id: Its id in the page.
        name: The data set.
        messages: Sentences at its start.
        overview: The table over methods.
        notes: Paragraphs below it.
        parts: Comparisons of the methods.
        methods: A part per method.
    """

    id: str
    name: str
    messages: tuple[str, ...]
    overview: HtmlTable
    notes: tuple[str, ...]
    parts: tuple[Part, ...]
    methods: tuple[MethodPart, ...]


def make_section(number: int, dataset: str, studies: Sequence[ReportedStudy]) -> Section:
    """Return the section of a data set.

    Args:
        number: The number of the section, for its ids.
        dataset: The data set.
        studies: The studies of its methods; at least one.
    """
    summaries = [one.summary for one in studies]
    printed = make_printed_table(summaries)
    details = [column for part in printed.details for column in part.columns]
    overview = make_column_table(
        f"overview-{number}",
        f"Methods on {dataset}. Bold: the best; italic: not distinguishable from it.",
        "method", printed.names, [*_make_search_columns(studies), *printed.columns,
                                  *_make_cost_columns(studies)], details,
    )  # fmt: skip
    parts = [
        Part("Comparison", _keep_charts(
            draw_all_progress(studies, EPOCHS), draw_all_progress(studies, DEVICE_HOURS),
            draw_pareto_front(studies), draw_winners_curse(studies, summaries),
            draw_group_bars(studies, summaries), draw_task_deltas(studies, summaries),
        )),
        _compare_methods(number, summaries),
        Part("Cost", _keep_charts(draw_device_hours(studies), draw_busy_slots(studies))),
        _list_failures(number, studies),
    ]  # fmt: skip
    return Section(
        id=f"data-set-{number}",
        name=dataset,
        messages=tuple(_write_messages(studies, summaries)),
        overview=overview,
        notes=printed.notes,
        parts=tuple(part for part in parts if part.charts or part.tables or part.messages),
        methods=tuple(
            _make_method_part(f"method-{number}-{i}", one) for i, one in enumerate(studies)
        ),
    )


def _compare_methods(number: int, summaries: Sequence[Summary]) -> Part:
    compared = compare_methods(summaries)
    table = make_pairs_table(f"pairs-{number}", compared)
    tables = () if table is None else (table,)
    return Part("Pairs of methods", tables=tables, messages=describe_pairs(compared))


def _keep_charts(*charts: Chart | None) -> tuple[Chart, ...]:
    return tuple(chart for chart in charts if chart is not None)


def _make_search_columns(studies: Sequence[ReportedStudy]) -> Iterator[Column]:
    """Yield the winner's value in the search, which the confirmation follows."""
    first = studies[0]
    found = [
        None if winner is None or (value := one.study.rule.read_metric(winner.best)) is None
        else SeedStatistics(value, None, None, None, 1)
        for one in studies
        for winner in [one.study.winner]
    ]  # fmt: skip
    form = choose_format(first.metric, first.study.context.as_percent, found)
    head = split_words(f"search {name_metric(first.metric)}")
    yield Column(head, tuple(map(form.format_mean, found)), first.higher_is_better)


def _make_cost_columns(studies: Sequence[ReportedStudy]) -> Iterator[Column]:
    done = [
        f"{sum(trial.is_finished for trial in one.study.trials)}/{one.study.context.trials}"
        for one in studies
    ]
    yield Column(("", "trials"), tuple(done))
    failed = [sum(t.status == TrialStatus.FAILED for t in one.study.trials) for one in studies]
    if any(failed):
        yield Column(("", "failed"), tuple(map(str, failed)))
    hours = tuple(f"{one.study.sum_device_hours():.3g}" for one in studies)
    yield Column(("device-", "hours"), hours)
    yield Column(("", "state"), tuple(one.state for one in studies))


def _write_messages(
    studies: Sequence[ReportedStudy], summaries: Sequence[Summary]
) -> Iterator[str]:
    """Yield sentences about the best method and about studies that run."""
    context = studies[0].study.context
    metric = context.reported_metrics[0]
    up = context.higher_is_better[metric]
    found = [
        (summary.metrics[f"test_{metric}"].mean, summary)
        for summary in summaries
        if f"test_{metric}" in summary.metrics and not summary.oracle
    ]
    if found:
        _, best = (max if up else min)(found, key=lambda item: item[0])
        yield (
            f"The best of {format_count(len(studies), 'method')} on the test split is "
            f"{best.method}: {describe_best(best)[0]}, over "
            f"{format_count(best.seeds, 'confirmation seed')}."
        )
    states = Counter(one.state for one in studies)
    if set(states) != {"complete"}:
        listed = ", ".join(f"{count} {state}" for state, count in states.items())
        yield f"Not all studies are complete: {listed}."


def _list_failures(number: int, studies: Sequence[ReportedStudy]) -> Part:
    """Return the failed trials and seeds by method and reason."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for one in studies:
        further = one.study.list_further_runs()
        for kind, trials in (
            ("search", one.study.trials),
            ("finalists", further),
            ("confirmation", one.study.seeds),
        ):
            for trial in trials:
                if trial.status == TrialStatus.FAILED:
                    counted[one.label, kind, trial.reason] += 1
    if not counted:
        return Part("Failures", messages=("No trial and no confirmation seed failed.",))
    rows = [
        {"method": method, "phase": kind, "runs": str(count), "reason": reason or "unknown"}
        for (method, kind, reason), count in counted.most_common(MAX_FAILURES)
    ]
    rest = len(counted) - len(rows)
    messages = (f"{format_count(rest, 'further reason')} not listed.",) if rest > 0 else ()
    table = make_row_table(f"failures-{number}", "Failed runs by reason", rows)
    return Part("Failures", tables=(table,), messages=messages)


def _make_method_part(part_id: str, one: ReportedStudy) -> MethodPart:
    importances = compute_importances(one)
    charts = (
        *_keep_charts(
            draw_progress(one, EPOCHS), draw_progress(one, DEVICE_HOURS),
            draw_learning_curves(one), draw_group_epochs(one),
        ),
        *draw_training_signals(one),
        *_keep_charts(draw_parallel_coordinates(one), draw_importances(one, importances)),
        *draw_slices(one, importances),
    )  # fmt: skip
    study = one.study
    run, winner = study.winning_run, study.winner
    value = None if winner is None else one.get_value(winner)
    shown = "no value yet" if value is None else f"{value:.4g} in the search"
    summary = (
        f"{one.state}, {format_count(len(study.trials), 'trial')}, "
        f"{len(study.confirmed_seeds)} of {study.context.seeds} seeds, {shown}"
    )
    if run is None:
        return MethodPart(part_id, one.label, summary, (), (), charts)
    titles = ("Train the winner's seeds again", "Train one seed without Ray")
    commands = make_repeat_commands(study.context, run.key, run.hyperparameters)
    facts = _describe_winner(one, run.hyperparameters)
    return MethodPart(
        part_id, one.label, summary, facts, tuple(zip(titles, commands, strict=True)), charts
    )


def _describe_winner(
    one: ReportedStudy, hyperparameters: Mapping[str, object]
) -> tuple[tuple[str, str], ...]:
    winner = one.study.winner
    facts = {"hyperparameters": ", ".join(f"{n}={v}" for n, v in hyperparameters.items())}
    if winner is not None and winner.best is not None:
        facts |= {
            "trial": str(winner.number),
            "epoch": str(winner.best.epoch),
            "selection rule": one.study.context.rule,
            "records": " ".join(winner.keys),
        }
    seeds = " ".join(key for seed in one.study.seeds for key in seed.keys)
    return tuple((facts | ({"records of its seeds": seeds} if seeds else {})).items())
