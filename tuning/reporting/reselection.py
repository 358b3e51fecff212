"""Selection by other rules from the records of one sweep: ``tune.py export --select RULE``."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from common.errors import UserError
from common.files import write_text
from core.training.selection import RULES
from tuning.records.method_records import MethodRecords
from tuning.records.open_storage import open_storage
from tuning.reporting.export_method import export_method
from tuning.reporting.intervals import compute_statistics
from tuning.reporting.layout.columns import choose_format, name_metric
from tuning.reporting.layout.escaping import escape_markdown
from tuning.reporting.layout.printed_table import format_markdown
from tuning.reporting.recorded_study import RecordedStudy, read_study
from tuning.reporting.repeat_commands import make_repeat_commands
from tuning.reporting.summary import scan_summaries
from tuning.reporting.tables import write_tables

FILE_NAME = "selection.md"


def reselect_results(results: Path, storage: str, rule: str, dataset: str = "") -> list[str]:
    """Export all methods of a results folder by another rule, into a folder of its own.

    Args:
        results: The results folder.
        storage: The records.
        rule: The rule.
        dataset: The data set; empty for all.

    Returns:
        Lines that name the tables, and the seeds that have to be trained for them.

    Raises:
        UserError: If no method has records, or none has a metric that the rule reads.
    """
    found = [
        MethodRecords(open_storage(storage) / summary.dataset / summary.method)
        for summary in scan_summaries(results)[0]
        if dataset in ("", summary.dataset)
    ]
    target = results / f"by_{rule}"
    studies = [(records, export_method(records, target, rule)) for records in found]
    recorded = [(records, study) for records, study in studies if study is not None]
    if not recorded:
        asked = f" of {dataset}" if dataset else ""
        raise UserError(f"--select: no study{asked} of '{results}' has records in '{storage}'")
    if all(study.winning_hyperparameters is None for _, study in recorded):
        raise UserError(f"--select: {_explain_missing_metric(rule, recorded[0][1])}")
    write_tables(target)
    lines = [f"tables: {target}"]
    for name in dict.fromkeys(study.context.dataset for _, study in recorded):
        chosen = [records for records, study in recorded if study.context.dataset == name]
        path = results / name / FILE_NAME
        write_text(path, format_selection(name, chosen))
        lines.append(f"all rules: {path}")
    for _, study in recorded:
        lines += _describe_missing(study, f"{results}-{rule}")
    return lines


def _explain_missing_metric(rule: str, study: RecordedStudy) -> str:
    if RULES[rule].oracle and not study.context.command.audit_test:
        return f"{rule} reads the test metrics of every epoch, which --audit-test records"
    return f"no finished trial of {study.context.dataset} has the metric of {rule}"


def _describe_missing(study: RecordedStudy, results: str) -> list[str]:
    """Return a line about the seeds of a winner that have no result, and their command."""
    run, missing = study.winning_run, study.missing_seeds
    if run is None or not missing:
        return []
    context = study.context
    command, single = make_repeat_commands(context, run.key, run.hyperparameters)
    command = command.replace("--results results-repeated", f"--results {shlex.quote(results)}")
    commands = [command]
    if len(missing) < context.seeds:
        commands = [single.replace("--seed 0 ", f"--seed {seed} ") for seed in missing]
    seeds = f"seed{'s' * (len(missing) > 1)} {', '.join(map(str, missing))}"
    return [
        f"{context.dataset}, {context.method}: no test metrics of confirmation {seeds} at "
        f"the epochs that {context.rule} chooses; train them by:",
        *(f"  {command}" for command in commands),
    ]


def format_selection(dataset: str, methods: Sequence[MethodRecords]) -> str:
    """Return the content of ``selection.md``: the winner of each method by each rule.

    Args:
        dataset: The data set.
        methods: The records of its methods.
    """
    rows = []
    own = set()
    for records in methods:
        for rule in RULES:
            study = read_study(records, rule)
            if study is not None and study.winner is not None:
                rows.append(_make_row(study))
        context = records.read_context()
        own |= set() if context is None else {context.rule}
    notes = (
        f"The searches proposed and pruned trials by {', '.join(sorted(own))}; each rule selects "
        "among the epochs and trials of the same records. Test metrics are mean ± standard "
        "deviation over the winner's confirmation seeds; where their epochs by a rule were not "
        "measured, `python tune.py export --select RULE` prints the command that trains them. "
        "Rules that read the test split are optimistically biased."
    )
    return "\n".join(
        [
            f"# {escape_markdown(dataset)}: selection rules",
            "",
            *format_markdown(rows),
            "",
            notes,
            "",
        ]
    )


def _make_row(study: RecordedStudy) -> dict[str, str]:
    context, winner = study.context, study.winner
    assert winner is not None
    rule, best = study.rule, winner.best
    value = compute_statistics([found]) if (found := rule.read_metric(best)) is not None else None
    main = context.reported_metrics[0]
    results = [seed.confirmation for seed in study.confirmed_seeds if seed.confirmation]
    values = [float(v) for r in results if isinstance(v := r.test.get(main), int | float)]
    test = compute_statistics(values) if values else None
    selected = choose_format(rule.metric, context.as_percent, [value])
    form = choose_format(main, context.as_percent, [test])
    return {
        "method": escape_markdown(context.method),
        "rule": rule.name,
        "trial": str(winner.number),
        "epoch": str(best.epoch) if best else "-",
        "its value": selected.format_mean(value),
        f"test {name_metric(main)}": form.format_mean(test),
        "seeds": f"{len(results)} of {context.seeds}",
    }
