"""``python tune.py status``: the state of studies, from their records."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

from common.arguments import Parser
from common.errors import UserError
from tuning.cli.parser import add_options
from tuning.options import Options
from tuning.records.open_storage import open_storage
from tuning.records.storage import storage_errors
from tuning.reporting.status import StudyStatus, format_statuses, read_statuses

SECONDS_BETWEEN = 10.0

EPILOG = """\
examples:
  python tune.py status --results results
  python tune.py status --storage s3://BUCKET/records --follow
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = Parser(
        prog="python tune.py status",
        description="Print the state of the studies in a storage: finished and running trials, the "
        "best\nvalidation value, seeds, device-hours, failures. Reads records only, while a study "
        "runs and after.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    add_options(parser, ("results", "storage"))
    parser.add_argument(
        "--follow",
        action="store_true",
        help=f"print it again every {SECONDS_BETWEEN:g} s, until all studies are complete",
    )
    return parser


def run_status(arguments: Sequence[str]) -> int:
    """Run the command; return 0.

    Raises:
        UserError: If there are no studies, or they cannot be read.
    """
    given = vars(make_parser().parse_args(arguments))
    follow = given.pop("follow", False)
    options = Options(**{"methods": (), "dataset": "", **given})
    while True:
        statuses = list_statuses(options)
        print("\n".join(format_statuses(statuses)), flush=True)
        if not follow or all(status.is_complete for status in statuses):
            return 0
        time.sleep(SECONDS_BETWEEN)
        print()


def list_statuses(options: Options) -> list[StudyStatus]:
    """Return the state of the studies in a storage.

    Raises:
        UserError: If there are none, or they cannot be read.
    """
    if options.storage is None and options.results.suffix == ".records":
        options = replace(options, storage=str(options.results))  # given in place of the results
    root = open_storage(options.records)
    with storage_errors(root):
        statuses = read_statuses(root)
    if not statuses:
        raise UserError(f"no study found in '{options.records}'; check --results or --storage")
    return statuses
