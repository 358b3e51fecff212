"""``python tune.py reproduce``: the papers' tables, run and set beside the published values."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
from common.arguments import Parser
from common.errors import UserError, unknown_name_message
from common.interrupts import EXIT_CODE
from common.project import ROOT
from common.yaml_files import read_yaml_file
from core.recipe.method_files import load_method
from datasets.published_results import read_not_compared
from tuning.cli.make_options import make_command
from tuning.cli.parser import add_options
from tuning.cli.study_file import merge_arguments, read_study_file
from tuning.options import FLAGS, Options
from tuning.publishing.reproduction import (
    compare_with_published,
    describe_deviations,
    list_row_notes,
    write_reproduction,
)
from tuning.reporting.damage.find_damage import LeftOutFile
from tuning.reporting.damage.report_damage import report_left_out
from tuning.reporting.layout.printed_table import format_markdown
from tuning.reporting.summary import Summary, scan_summaries
from tuning.search.space import make_space
from tuning.study.protocol import apply_protocol

FOLDER = ROOT / "docs" / "reproduce"
COSTS = "costs.yaml"

EPILOG = """\
examples:
  python tune.py reproduce --plan
  python tune.py reproduce civilcomments_small --gpus-per-trial 0.5
  python tune.py reproduce civilcomments_small --compare --results results

docs/reproduce has a study file for each table; all options of a study may follow and take
precedence. docs/reproduce.md says what is compared.
"""


@dataclass(frozen=True)
class TableCost:
    """The cost of a table's epochs.

    Args:
        gpu: The GPU on which they were measured.
        source: Who measured them.
        seconds: Seconds of an epoch, by method.
        other: Those of methods without a figure.
    """

    gpu: str
    source: str
    seconds: Mapping[str, float]
    other: float


def make_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(
        prog="python tune.py reproduce",
        description="Run the studies of the papers' tables with the published hyperparameters and "
        "protocol, and\nset the results beside the published ones: the difference in standard "
        "errors, its t-test and a verdict\nof each cell, in "
        "<results>/<data set>/reproduction.md.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "tables",
        metavar="TABLE",
        nargs="*",
        help=f"default: all; available: {', '.join(list_tables())}",
    )
    parser.add_argument(
        "--plan", action="store_true", help="print the studies with estimated GPU-hours, and exit"
    )
    parser.add_argument(
        "--compare", action="store_true", help="compare what --results has, without training"
    )
    add_options(parser, [name for name in FLAGS if name != "dataset"])
    return parser


def list_tables() -> list[str]:
    """Return the names of the tables, which are those of their data sets."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if path.name != COSTS)


def run_reproduce(arguments: Sequence[str]) -> int:
    """Run the command; return the highest exit code of the studies, 1 with a damaged summary.

    Raises:
        UserError: If there is no such table, a table has no result, or a study cannot be started;
            without a named table those that have results are compared.
    """
    given = make_parser().parse_args(arguments)
    named, plans, compares = (vars(given).pop(name, None) for name in ("tables", "plan", "compare"))
    tables = list(dict.fromkeys(named or list_tables()))
    for table in tables:
        if table not in list_tables():
            raise UserError(unknown_name_message("table", table, list_tables()))
    if plans:
        print("\n".join(plan_tables(tables, given)))
        return 0
    results: Path = getattr(given, "results", Options.results)
    data_root: Path = getattr(given, "data_root", Options.data_root)
    code, missing = 0, []
    for table in tables:
        if not compares:
            from tuning.study.data_sets import run_studies  # it imports Ray

            code = max(code, run_studies(make_command(read_table(table, given))))
            if code == EXIT_CODE:
                return code
        summaries, left_out = scan_summaries(results)
        code = max(code, report_left_out(_select_files(left_out, table)))
        found = [summary for summary in summaries if summary.dataset == table]
        if found:
            print("\n".join(compare_table(table, found, results, data_root)), flush=True)
        else:
            missing.append(table)
    if missing:
        message = f"no results of {', '.join(missing)} in '{results}'"
        if named or missing == tables or not compares:
            again = f"python tune.py reproduce {' '.join(missing)} --results {results}"
            raise UserError(f"--results: {message}; run {again}")
        print(message)
    return code


def _select_files(files: Sequence[LeftOutFile], table: str) -> list[LeftOutFile]:
    """Return the summaries in the folder of a table's data set."""
    return [file for file in files if Path(file.file).parents[1].name == table]


def read_table(table: str, given: argparse.Namespace) -> argparse.Namespace:
    """Return the options of a table's study file, with those of the command line, which win."""
    return merge_arguments(read_study_file(FOLDER / f"{table}.yaml"), given)


def plan_tables(tables: Sequence[str], given: argparse.Namespace) -> list[str]:
    """Return a table of the studies with estimated GPU-hours, from costs of others' epochs.

    Raises:
        UserError: If a study has a mistake; the data need not be here.
    """
    costs = read_costs()
    rows, total = [], 0.0
    for table in tables:
        options = make_command(read_table(table, given)).options
        benchmark, cost = datasets.load_benchmark(table, str(options.data_root)), costs[table]
        options, _ = apply_protocol(options, benchmark)
        hours = 0.0
        epochs: list[int] = []
        for method in options.methods:
            space = make_space(load_method(method), benchmark, options)
            count = max(space.count_epochs(options.search)).total
            hours += count * cost.seconds.get(method, cost.other) * options.seeds / 3600
            epochs.append(count)
        total += hours
        rows.append(
            {
                "table": table,
                "methods": str(len(epochs)),
                "epochs": "-".join(map(str, dict.fromkeys((min(epochs), max(epochs))))),
                "seeds": str(options.seeds),
                "GPU-hours, up to": f"{hours:,.0f}",
                "on one": cost.gpu,
                "seconds of an epoch": cost.source,
            }
        )
    uncompared = [(table, reason) for table in tables if (reason := read_not_compared(table))]
    return [
        *format_markdown(rows),
        "",
        f"about {total:,.0f} GPU-hours in all; patience ends many runs earlier, and trials that "
        "share a GPU take less of it",
        *(f"{table}: nothing will be compared: {reason}" for table, reason in uncompared),
        *(f"python tune.py --config docs/reproduce/{table}.yaml --plan" for table in tables),
        "nothing was started; the commands above print each study in full",
    ]


def read_costs() -> dict[str, TableCost]:
    """Return the cost of each table."""
    found = read_yaml_file(FOLDER / COSTS)
    return {table: TableCost(**cost) for table, cost in found.items()}


def compare_table(
    table: str, summaries: Sequence[Summary], results: Path, data_root: Path
) -> list[str]:
    """Write the comparison of a table's results with the published ones; return its lines.

    Without a published value of its methods nothing is written, and the line says why.

    Args:
        table: The table.
        summaries: Its results.
        results: The results folder, where it is written.
        data_root: The folder of the data, which need not be here.
    """
    benchmark = datasets.load_benchmark(table, str(data_root))
    cells = compare_with_published(table, summaries)
    if not cells:
        reason = read_not_compared(table) or "no published values of these methods are known"
        return [f"{table}: nothing is compared: {reason}"]
    notes = list_row_notes(table, [summary.method for summary in summaries])
    for summary in summaries:
        notes += describe_deviations(summary, benchmark)
    return write_reproduction(results, table, cells, notes)
