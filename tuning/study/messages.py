"""Messages at the start and the end of a study, and its exit code."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from common.interrupts import EXIT_CODE
from common.text import format_count
from tuning.options import Options
from tuning.records.run_data import TrialStatus
from tuning.reporting.damage.report_damage import report_left_out
from tuning.reporting.layout.printed_table import BEST, TERMINAL_WIDTH, format_terminal
from tuning.reporting.summary import read_summary, scan_summaries
from tuning.reporting.tables import make_printed_table
from tuning.resources import Node, Resources, count_slots
from tuning.search.method_search import MethodSearch
from tuning.selection import select_trial
from tuning.study.stopping import INTERRUPTED, StopCondition, make_resume_command

MAX_FAILURES = 3  # failed trials of a method that are named
BEST_CELL = rf"[^\s^:]+(?: ± [^\s^]+)?(?: \[[^\]]+\])?\{BEST}(?!:)"


def describe_study(
    searches: Sequence[MethodSearch],
    options: Options,
    nodes: Sequence[Node],
    resources: Resources,
) -> str:
    """Return a line about the study that starts."""
    finished = sum(trial.is_finished for search in searches for trial in search.list_trials())
    device = searches[0].environment.device_class
    return (
        f"{', '.join(search.name for search in searches)} on {options.dataset}: "
        f"{_describe_search(searches, options)} "
        f"{format_count(options.seeds, 'confirmation seed')}; up to "
        f"{format_count(count_slots(list(nodes), resources), 'trial')} in parallel on "
        f"{format_count(len(nodes), 'node')}"
        + (f", each GPU a slice ({device})" if " MIG " in device else "")
        + (f"; {finished} finished already" if finished else "")
        + _describe_fewer_trials(searches, options)
    )


def _describe_fewer_trials(searches: Sequence[MethodSearch], options: Options) -> str:
    """Return a clause where a resumed study has more trials than the command asks for."""
    most = max(search.trial_budget for search in searches)
    if options.trials is None or options.trials >= most:
        return ""
    return f"; --trials {options.trials} takes none of the {most} trials away"


def _describe_search(searches: Sequence[MethodSearch], options: Options) -> str:
    counted = [search.space.count_epochs(options.search) for search in searches]
    lengths = sorted({count.total for counts in counted for count in counts})
    epochs = "-".join(map(str, dict.fromkeys((lengths[0], lengths[-1]))))
    epochs += " epoch" if lengths == [1] else " epochs"
    if options.search == "published":
        return f"published hyperparameters for {epochs},"
    budgets = list(dict.fromkeys(search.trial_budget for search in searches))
    trials = " or ".join(map(str, budgets)) + (" trial" if budgets == [1] else " trials")
    each = " each" if len(searches) > 1 else ""
    count = options.finalist_count
    finalists = "" if count == 1 else f" up to {count} finalists on further seeds,"
    return f"{trials}{each} ({options.search}, {options.scheduler}) of {epochs},{finalists} then"


def print_summary(
    searches: Sequence[MethodSearch],
    options: Options,
    stop: StopCondition,
    console: Console,
    max_device_hours: float | None,
) -> int:
    """Print the table, failures and the command to resume; return the exit code.

    Args:
        searches: The methods.
        options: The options of the study.
        stop: Why it ended.
        console: The console.
        max_device_hours: The budget of the command, which may have several data sets.
    """
    folder = options.results / options.dataset
    found, left_out = scan_summaries(options.results)
    summaries = [summary for summary in found if summary.dataset == folder.name]
    if summaries:
        table = make_printed_table(summaries)
        lines = format_terminal(table, min(TERMINAL_WIDTH, console.width))
        console.print(highlight_best(["", *lines, ""]))
    report_left_out(left_out)
    for search in searches:
        _print_failures(search)
    console.print(f"results: {folder} (table.md has all columns, table.csv all metrics)")
    without_result = [search.name for search in searches if not _has_result(search)]
    closed = [search for search in searches if search.is_closed]
    for search in closed:
        console.print(_describe_early_end(search))
    if stop.reason and without_result:
        console.print(f"no result yet: {', '.join(without_result)}")
    if stop.reason or closed:
        end = f"stopped: {stop.reason}; resume" if stop.reason else "search on"
        console.print(f"{end} with{_describe_budget(options)}:")
        console.print(f"  {make_resume_command(max_device_hours)}")
    if stop.reason == INTERRUPTED:
        return EXIT_CODE
    unlearned = [] if stop.reason else [s for s in searches if not _has_learned(s, options)]
    if not stop.reason:
        for name in without_result:
            print(f"{name}: all search trials or all confirmation seeds failed", file=sys.stderr)
        for search in unlearned:
            print(_describe_nothing_learned(search, options), file=sys.stderr)
    return 1 if without_result or unlearned else 0


def highlight_best(lines: Sequence[str]) -> Text:
    """Return the lines of a table with the best of each column in bold, where a terminal can."""
    text = Text("\n".join(lines))
    text.highlight_regex(BEST_CELL, "bold")
    return text


def _describe_budget(options: Options) -> str:
    if options.max_device_hours is None:
        return ""
    return " (--max-device-hours counts all sessions, so it is doubled here)"


def _describe_early_end(search: MethodSearch) -> str:
    """Return the line of a search that a budget has ended: in its trials or in its race."""
    finished = sum(trial.is_finished for trial in search.trials.values())
    trials = format_count(search.trial_budget, "trial")
    ended = f"the search ended after {finished} of {trials}"
    if finished == search.trial_budget and search.options.finalist_count > 1:
        ended += ", before one of its finalists had won"
    return f"{search.name}: {ended}, to keep the rest of the budget for the confirmation seeds"


def _print_failures(search: MethodSearch) -> None:
    failed = [trial for trial in search.list_trials() if trial.status == TrialStatus.FAILED]
    for trial in failed[:MAX_FAILURES]:
        print(f"{search.name} {trial.name} failed: {trial.reason}", file=sys.stderr)
    if len(failed) > MAX_FAILURES:
        more = len(failed) - MAX_FAILURES
        print(f"{search.name}: {more} more failed (trials.csv)", file=sys.stderr)


def _has_result(search: MethodSearch) -> bool:
    """Return whether a confirmation seed has succeeded."""
    finished = (seed for seed in search.seeds.values() if seed.is_finished)
    return select_trial(finished, search.rule) is not None


def _has_learned(search: MethodSearch, options: Options) -> bool:
    """Return whether a search's summary says that a trial beats a constant prediction."""
    summary = read_summary(options.results / options.dataset / search.name)
    return summary is None or summary.has_learned


def _describe_nothing_learned(search: MethodSearch, options: Options) -> str:
    """Return a sentence about a study in which nothing learned, with what to look at."""
    searched = {} if search.searcher is None else search.space.free
    domains = ", ".join(f"{name}={domain.describe_domain()}" for name, domain in searched.items())
    patience = search.training_config.patience or "off"
    return (
        f"{search.name}: nothing learned: no trial exceeds the {search.rule.metric} of a constant "
        f"prediction on the {search.rule.split} split; check the values searched "
        f"({domains or 'none'}), the epochs ({search.epoch_counts.total}) and the patience "
        f"({patience})"
    )
