"""``python tune.py report``: one HTML page about studies, from their records."""

import argparse
import gc
import os
from collections.abc import Sequence
from pathlib import Path

from common.arguments import Parser
from common.errors import UserError
from common.files import read_text, wrap_os_errors
from common.paths import parse_location, parse_path
from tuning.cli.make_options import make_options
from tuning.cli.parser import add_options
from tuning.cli.resume import parse_study_text
from tuning.options import Options, locate_records
from tuning.records.open_storage import open_storage
from tuning.records.storage import is_url
from tuning.reporting.report.read_studies import RecordSource
from tuning.study.study_file import FILE_NAME as STUDY_FILE

FILE_NAME = "report.html"

EPILOG = """\
examples:
  python tune.py report
  python tune.py report results results-tasks --out comparison.html
  python tune.py report --serve
  python tune.py report --figures figures

Only records are read, so the report can be made while a study runs. It is one file without any
connection to a network.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = Parser(
        prog="python tune.py report",
        description="Write an HTML page about the studies of one or several results folders: "
        "table, progress,\nlearning curves, hyperparameters, groups and tasks, cost, failures, "
        "commands.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "locations",
        nargs="*",
        default=[],
        type=parse_location,
        metavar="RESULTS",
        help=f"results folders, or folders or URLs of records (default: {Options.results})",
    )
    add_options(parser, ("storage",), {"storage": "the records of a single results folder"})
    parser.add_argument(
        "--out",
        type=parse_path,
        metavar="FILE",
        help=f"the page (default: {FILE_NAME} in the results folder; of several, in this one)",
    )
    parser.add_argument(
        "--figures",
        type=parse_path,
        metavar="DIR",
        help="also write all figures as PDF and PNG files into this folder",
    )
    parser.add_argument(
        "--serve",
        action="store_true",
        help="show the page on a free port of this machine's loopback address instead of writing "
        "it, and refresh it while the studies run; Ctrl-C ends it",
    )
    return parser


def run_report(arguments: Sequence[str]) -> int:
    """Run the command; return 0.

    Raises:
        UserError: If there are no studies, or they cannot be read.
    """
    given = make_parser().parse_args(arguments)
    locations: list[str | Path] = given.locations or [str(Options.results)]
    storage: str | Path | None = getattr(given, "storage", None)
    if storage is not None and len(locations) > 1:
        raise UserError("--storage: expected a single RESULTS folder, received several")
    out: Path | None = getattr(given, "out", None)
    figures: Path | None = getattr(given, "figures", None)
    serves: bool = getattr(given, "serve", False)
    if serves and (out is not None or figures is not None):
        raise UserError("--serve writes no files: give it without --out and --figures")
    sources = [find_source(str(location), storage) for location in locations]
    if serves:
        return _serve(sources)
    from tuning.reporting.report.write_report import save_report

    gc.freeze()  # the imported modules, which drawing would have searched for garbage many times
    path = out or choose_path([str(location) for location in locations])
    with wrap_os_errors(path.parent if figures is None else figures):
        save_report(sources, path, figures)
    print(f"report: {path}")
    if figures is not None:
        print(f"figures: {figures}")
    return 0


def choose_path(locations: Sequence[str]) -> Path:
    """Return where the page of some results is written unless a command says it."""
    is_folder = len(locations) == 1 and not is_url(locations[0]) and Path(locations[0]).is_dir()
    return Path(locations[0], FILE_NAME) if is_folder else Path(FILE_NAME)


def find_source(location: str, storage: str | Path | None) -> RecordSource:
    """Return the records of a results folder; a folder or URL of records is its own.

    Args:
        location: The folder or URL.
        storage: The records, as ``--storage`` gives them; None to find them.

    Raises:
        UserError: If the records cannot be reached.
    """
    if storage is not None:
        return RecordSource(location, open_storage(storage))
    if is_url(location):
        return RecordSource(location, open_storage(location))
    folder = Path(location)
    study_file = folder / STUDY_FILE
    records = locate_records(folder, None)
    if study_file.is_file():
        study = parse_study_text(read_text(study_file), location)
        study.results = folder  # it may have moved
        records = make_options(study).records
    elif any(folder.glob("*/*/export.json")):
        records = os.path.abspath(folder)
    elif not is_url(records) and not Path(records).is_dir():
        raise UserError(
            f"no study found in '{location}': expected a results folder with records in "
            f"'{os.path.relpath(records)}', or --storage"
        )
    return RecordSource(location, open_storage(records))


def _serve(sources: Sequence[RecordSource]) -> int:
    """Serve the page until a signal ends this process."""
    from tuning.reporting.report.serve import ReportServer

    with ReportServer(sources) as server:
        server.refresh()  # a mistake is one line here, not a page
        print(f"report: {server.url} (Ctrl-C ends it)", flush=True)
        server.serve_forever()
    return 0
