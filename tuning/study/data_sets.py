"""Commands with several data sets: a study of each, one after another."""

import time
from collections.abc import Iterator
from dataclasses import replace

from rich.console import Console

import datasets
from common.errors import UserError, ValidationErrors
from common.interrupts import EXIT_CODE
from common.text import format_count
from tuning.options import Options
from tuning.reporting.data_set_table import make_data_set_table
from tuning.reporting.layout.printed_table import TERMINAL_WIDTH, format_terminal
from tuning.reporting.summary import scan_summaries
from tuning.study.checks import check_study
from tuning.study.messages import highlight_best
from tuning.study.plan import format_hours, print_plan
from tuning.study.study import run_study
from tuning.study.study_file import StudyCommand


def run_studies(command: StudyCommand) -> int:
    """Run the study of each data set; return the highest exit code.

    All are checked before the first one starts. Where one ends with an error, the others go on, and
    the error is reported at the end. Device-hours are divided equally; a time limit is
    divided among the studies that are left, so one takes over the time that those before it leave.

    Raises:
        UserError: For a user's mistake, before anything is started or written; and, in the end, for
            the studies that ended with an error.
    """
    if len(command.datasets) == 1:
        return run_study(command.options).exit_code
    command = _refer_to_data(command)
    studies = list(list_studies(command))
    names = [check_study(study).benchmark.name for study in studies]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"--dataset: {', '.join(twice)} is given twice; the name of own data is that of their "
            "folder, which names their results"
        )
    code, start = 0, time.monotonic()
    problems: list[str] = []
    for number, (study, name) in enumerate(zip(studies, names, strict=True), start=1):
        print(f"data set {number} of {len(studies)}: {name}", flush=True)
        left = share_time(study.time_limit, time.monotonic() - start, len(studies) - number + 1)
        try:
            result = run_study(replace(study, time_limit=left), command=command)
        except UserError as error:
            problems.append(f"data set {name}: {error}")
            print(f"data set {name} ended with an error: {error}", flush=True)
            continue
        code = max(code, result.exit_code)
        if code == EXIT_CODE:
            return code
    _print_table(command.options, names)
    if problems:
        raise ValidationErrors(problems)
    return code


def print_plans(command: StudyCommand) -> int:
    """Print the plan of each data set's study, and the time of all; return 0.

    Raises:
        UserError: For any mistake that the command itself would refuse.
    """
    if len(command.datasets) == 1:
        print_plan(command.options)
        return 0
    seconds: list[float | None] = []
    for study in list_studies(command):
        print(f"data set {study.dataset}:")
        seconds.append(print_plan(study))
        print()
    known = [one for one in seconds if one is not None]
    total = f"total of {format_count(len(seconds), 'data set')}: "
    if len(known) < len(seconds):
        total += "unknown, because some are not timed here"
        total += "; the others take " if known else ""
    print(f"{total}about {format_hours(sum(known) / 3600)}" if known else total)
    return 0


def list_studies(command: StudyCommand) -> Iterator[Options]:
    """Yield the options of each data set's study, with its part of the device-hours."""
    hours = command.options.max_device_hours
    part = None if hours is None else hours / len(command.datasets)
    for dataset in command.datasets:
        yield replace(command.options, dataset=dataset, max_device_hours=part)


def share_time(limit: float | None, elapsed: float, studies: int) -> float | None:
    """Return the time limit of the next study, in seconds.

    Args:
        limit: The limit of the command; None for none.
        elapsed: The seconds since it began.
        studies: The studies that are left, the next one included.
    """
    return None if limit is None else max(1.0, (limit - elapsed) / studies)


def _refer_to_data(command: StudyCommand) -> StudyCommand:
    """Return the command with references by which its data sets are found in every folder."""
    root = str(command.options.data_root)
    for name in command.datasets:
        datasets.check_name(name, command.options.data_root, "--dataset")
    found = tuple(datasets.load_benchmark(name, root).reference for name in command.datasets)
    return StudyCommand(replace(command.options, dataset=found[0]), found)


def _print_table(options: Options, names: list[str]) -> None:
    """Print the methods by data sets."""
    summaries = [found for found in scan_summaries(options.results)[0] if found.dataset in names]
    if summaries:
        summaries.sort(key=lambda summary: names.index(summary.dataset))
        console = Console(soft_wrap=True, markup=False, highlight=False)
        width = min(TERMINAL_WIDTH, console.width)
        console.print(highlight_best(["", *format_terminal(make_data_set_table(summaries), width)]))
        console.print(f"results: {options.results} (data_sets.md, data_sets.csv)")
