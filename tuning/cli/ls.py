"""``python tune.py ls``: methods, data sets, or studies, a row each."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import datasets
from common.arguments import Parser
from common.errors import UserError, ValidationErrors
from core.recipe.method_files import list_methods, load_method
from datasets.own.references import list_own_data
from tuning.cli.parser import add_options
from tuning.cli.status import list_statuses
from tuning.options import Options
from tuning.reporting.layout.printed_table import format_markdown
from tuning.reporting.status import format_table

EPILOG = """\
examples:
  python tune.py ls methods
  python tune.py ls methods --dataset waterbirds
  python tune.py ls datasets
  python tune.py ls studies --results results
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = Parser(
        prog="python tune.py ls",
        description="List the methods, the data sets, or the studies in a storage.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("kind", choices=("methods", "datasets", "studies"), help="what to list")
    add_options(
        parser,
        ("dataset", "data_root", "results", "storage"),
        {"dataset": "list the methods that run on this data set"},
    )
    return parser


def run_ls(arguments: Sequence[str]) -> int:
    """Run the command; return 0.

    Raises:
        UserError: If there is no such data set or no study.
    """
    given = vars(make_parser().parse_args(arguments))
    kind = given.pop("kind")
    options = Options(**{"methods": (), "dataset": "", **given})
    mistakes: list[str] = []
    if kind == "methods":
        lines, mistakes = _list_methods(options.dataset, options.data_root)
    elif kind == "datasets":
        lines = _list_datasets(options.data_root)
    else:
        lines = format_table(list_statuses(options))
    print("\n".join(lines), flush=True)
    for mistake in mistakes:
        print(f"error: {mistake}", file=sys.stderr)
    return 0


def _list_methods(dataset: str, data_root: Path) -> tuple[list[str], list[str]]:
    """Return the table of the methods, and the mistakes in their files.

    A method whose file has a mistake keeps its row: which data sets it runs on is unknown.
    """
    provides = datasets.load_benchmark(dataset, str(data_root)).provides if dataset else None
    mistakes: list[str] = []
    rows = []
    for name in list_methods():
        try:
            method = load_method(name)
        except ValidationErrors as error:
            mistakes += error.problems
            rows.append({"method": name})
            continue
        needs = ", ".join(sorted(method.needs))
        if provides is None or method.needs <= provides:
            rows.append({"method": name, "description": method.description, "needs": needs})
    return format_markdown(rows), mistakes


def _list_datasets(data_root: Path) -> list[str]:
    known = datasets.list_benchmarks()
    names = dict.fromkeys([*known, *list_own_data(data_root, known)])
    return format_markdown([_describe_dataset(name, data_root) for name in names])


def _describe_dataset(name: str, data_root: Path) -> dict[str, str]:
    try:
        benchmark = datasets.load_benchmark(name, str(data_root))
        provides, config = sorted(benchmark.provides), benchmark.training_config
    except UserError:  # a data set of the user's own, whose properties are in its files
        return {"data set": name}
    return {
        "data set": name,
        "provides": ", ".join(provides),
        "model": config.model,
        "epochs": str(config.epochs),
        "selection rule": benchmark.default_selection_rule,
    }
