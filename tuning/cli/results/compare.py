"""``python tune.py compare``: differences of methods over seeds, and ranks over data sets."""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common.arguments import Parser
from common.errors import UserError, unknown_name_message
from tuning.cli.parser import add_options
from tuning.options import Options
from tuning.reporting.damage.find_damage import LeftOutFile
from tuning.reporting.damage.report_damage import report_left_out
from tuning.reporting.data_set_table import group_by_data_set
from tuning.reporting.layout.printed_table import PrintedTable, format_terminal
from tuning.reporting.layout.table_files import write_table
from tuning.reporting.statistics.comparison_table import (
    list_comparison_values,
    make_comparison_table,
)
from tuning.reporting.statistics.method_comparison import compare_methods
from tuning.reporting.statistics.ranks import compare_ranks
from tuning.reporting.statistics.uncertainty_table import (
    list_told,
    list_uncertainty_values,
    make_uncertainty_table,
)
from tuning.reporting.summary import Summary, scan_summaries
from tuning.reporting.tables import lock_results

PAIRS, ERRORS = "comparison", "standard_errors"  # files
MAX_ROWS = 30  # of a table on a terminal
EPILOG = """\
examples:
  python tune.py compare results
  python tune.py compare results other-results --dataset colored_digits
  python tune.py compare results --metric average_accuracy
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = Parser(
        prog="python tune.py compare",
        description="Compare methods over the confirmation seeds that they share: paired "
        "differences with\nintervals, tests and the seeds that a decision would need, and mean "
        "ranks over several\ndata sets. Writes comparison.csv, .md and .tex into the first folder, "
        "and\nstandard_errors.csv, .md and .tex with the parts of each method's uncertainty.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "folders", metavar="RESULTS", nargs="*", type=Path, default=[Options.results],
        help=f"results folders (default: {Options.results})",
    )  # fmt: skip
    add_options(parser, ("dataset",), {"dataset": "the only data set to compare on"})
    parser.add_argument(
        "--metric", help="metric of the test split (default: the first that tables report)"
    )
    return parser


def run_compare(arguments: Sequence[str]) -> int:
    """Run the command; return 0, or 1 where a damaged or foreign file is left out.

    Raises:
        UserError: If there is nothing to compare.
    """
    args = make_parser().parse_args(arguments)
    summaries, left_out = read_folders(args.folders)
    dataset: str | None = getattr(args, "dataset", None)
    metric: str | None = getattr(args, "metric", None)
    grouped = group_by_data_set(summaries)
    if dataset is not None and dataset not in grouped:
        raise UserError(f"--dataset: {unknown_name_message('data set', dataset, grouped)}")
    chosen = {name: found for name, found in grouped.items() if dataset in (None, name)}
    for found in chosen.values():
        known = found[0].higher_is_better
        if metric is not None and metric not in known:
            raise UserError(f"--metric: {unknown_name_message('metric', metric, known)}")
    comparisons = [compare_methods(found, metric) for found in chosen.values()]
    if not any(comparison.pairs for comparison in comparisons):
        reasons = [reason for comparison in comparisons for reason in comparison.left_out]
        detail = f" ({'; '.join(reasons)})" if reasons else ""
        raise UserError(
            f"nothing to compare in {', '.join(map(str, args.folders))}: expected two methods of a "
            f"data set with confirmation seeds in common{detail}"
        )
    ranks = compare_ranks(chosen, metric)
    table = make_comparison_table(comparisons, ranks)
    told = [] if metric else list_told([one for found in chosen.values() for one in found])
    errors = make_uncertainty_table(told)
    target = args.folders[0]
    is_long = len(table.names) > MAX_ROWS
    shown = make_comparison_table(comparisons, ranks, with_best=True) if is_long else table
    _print_table(shown)
    if told and not is_long:
        _print_table(errors)
    with lock_results(target):
        write_table(target / PAIRS, list_comparison_values(comparisons), table)
        if told:
            write_table(target / ERRORS, list_uncertainty_values(told), errors)
    if is_long:
        print(f"these are the best methods' pairs; all {len(table.names)} are in the files")
    names = " and ".join([PAIRS, ERRORS] if told else [PAIRS])
    print(f"written to {target}: {names}, each as .csv, .md and .tex")
    return report_left_out(left_out)


def _print_table(table: PrintedTable) -> None:
    print("\n".join([*format_terminal(table, all_columns=True), ""]))


def read_folders(folders: Sequence[Path]) -> tuple[list[Summary], list[LeftOutFile]]:
    """Return the summaries of several results folders, and the files that are left out.

    A method that several folders have on one data set gets the name of its folder too.

    Raises:
        UserError: If a folder does not exist, or is given twice.
    """
    seen: set[Path] = set()
    found: list[tuple[Path, Summary]] = []
    left_out: list[LeftOutFile] = []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no results folder '{folder}'")
        if folder.resolve() in seen:
            raise UserError(f"results folder '{folder}' is given twice: give each folder once")
        seen.add(folder.resolve())
        summaries, damaged = scan_summaries(folder)
        found += [(folder, summary) for summary in summaries]
        left_out += damaged
    counts = Counter((summary.dataset, summary.method) for _, summary in found)
    return [
        replace(summary, method=f"{summary.method} ({folder})")
        if counts[summary.dataset, summary.method] > 1
        else summary
        for folder, summary in found
    ], left_out
