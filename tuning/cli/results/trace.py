"""``python tune.py trace``: where a number of a table comes from."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from common.arguments import Parser
from common.errors import UserError, unknown_name_message
from core.training.selection import RULES
from tuning.cli.parser import add_options
from tuning.options import Options, locate_records
from tuning.records.method_records import MethodRecords
from tuning.records.open_storage import open_storage
from tuning.reporting.damage.find_damage import find_damaged_records
from tuning.reporting.damage.report_damage import report_left_out
from tuning.reporting.recorded_study import read_study
from tuning.reporting.statistics.trace_number import describe_origin, trace_number
from tuning.reporting.summary import scan_summaries

EPILOG = """\
examples:
  python tune.py trace results --method rwg
  python tune.py trace results --method rwg --dataset colored_digits --column test_average_accuracy
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = Parser(
        prog="python tune.py trace",
        description="Print where a number of a table comes from: records, selection rule, the "
        "trial chosen,\nthe value and epoch of each confirmation seed, and the command that "
        "repeats it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "folder", metavar="RESULTS", nargs="?", type=Path, default=Options.results,
        help=f"results folder (default: {Options.results})",
    )  # fmt: skip
    parser.add_argument("--method", required=True, help="the row: name of a method")
    add_options(
        parser,
        ("dataset", "storage", "select"),
        {
            "dataset": "the table's data set; needed where there are several",
            "select": "the rule of a table of export --select (default: the study's own)",
        },
    )
    parser.add_argument(
        "--column",
        help="column of table.csv or seeds.csv, such as test_worst_group_accuracy (default: the "
        "main test metric)",
    )
    return parser


def run_trace(arguments: Sequence[str]) -> int:
    """Run the command; return 0, or 1 where a damaged or foreign file is left out.

    Raises:
        UserError: If there is no such row or column, or its records are gone.
    """
    args = make_parser().parse_args(arguments)
    folder: Path = args.folder
    if not folder.is_dir():
        raise UserError(f"there is no results folder '{folder}'")
    summaries, _ = scan_summaries(folder)
    methods = dict.fromkeys(summary.method for summary in summaries)
    if args.method not in methods:
        message = unknown_name_message("method", args.method, methods)
        raise UserError(f"--method: no results in '{folder}': {message}")
    known = [summary.dataset for summary in summaries if summary.method == args.method]
    dataset: str | None = getattr(args, "dataset", None)
    if dataset is None and len(known) > 1:
        raise UserError(f"--dataset is required: {args.method} has results on {', '.join(known)}")
    if dataset is not None and dataset not in known:
        raise UserError(f"--dataset: {unknown_name_message('data set', dataset, known)}")
    name = dataset or known[0]
    select: str | None = getattr(args, "select", None)
    owner = find_owner(folder)
    if select is None and owner != folder:
        select = next(s.rule for s in summaries if (s.dataset, s.method) == (name, args.method))
    storage = locate_records(owner, getattr(args, "storage", None))
    records = MethodRecords(open_storage(storage) / name / args.method)
    study = read_study(records, select)
    if study is None:
        raise UserError(
            f"there are no records of {args.method} on {name} in '{storage}': give --storage"
        )
    origin = trace_number(study, records, getattr(args, "column", None))
    print("\n".join(describe_origin(origin)))
    return report_left_out(find_damaged_records(records))


def find_owner(folder: Path) -> Path:
    """Return the results folder of a folder that ``export --select`` wrote into it; else itself."""
    whole = folder.resolve()
    rule = whole.name.removeprefix("by_")
    return whole.parent if whole.name != rule and rule in RULES else folder
