"""``python tune.py clean``: remove what nothing needs any more."""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from common.arguments import Parser
from common.errors import UserError
from tuning.cli.parser import add_options
from tuning.doctor.leftovers import Leftover, are_caches_inside, find_leftovers
from tuning.options import Options
from tuning.records.storage import describe_error, is_url, refuse_misspelled_url
from tuning.reporting.layout.printed_table import format_markdown

SHOWN = 20  # of each kind

EPILOG = """\
examples:
  python tune.py clean --results results --data-root data
  python tune.py clean --results results --data-root data --yes

Records and results are never removed, nor anything of a running study.
"""


def make_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(
        prog="python tune.py clean",
        description="List what could be removed, with sizes: states of runs that have ended, files "
        "that were never\nfinished, caches of data that have changed, temporary folders and Ray "
        "sessions of studies that\nhave ended on this machine. --yes removes it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    add_options(parser, ("results", "storage", "data_root"))
    parser.add_argument("--yes", action="store_true", help="remove what is listed")
    return parser


def run_clean(arguments: Sequence[str]) -> int:
    """Run the command; return 0, or 1 if something could not be removed.

    Raises:
        UserError: If the records cannot be read, --storage is malformed, or a given folder is
            missing.
    """
    given = vars(make_parser().parse_args(arguments))
    removes = given.pop("yes", False)
    options = Options(**{"methods": (), "dataset": "", **given})
    refuse_misspelled_url(options.records)
    if is_url(options.records):
        print(f"{options.records}: not looked at; only records in a folder are")
    if "results" in given and not any(
        path.is_dir() for path in (options.results, Path(options.records))
    ):
        raise UserError(f"--results: '{options.results}' is missing; expected a results folder")
    if "data_root" in given and not options.data_root.is_dir():
        raise UserError(f"--data-root: '{options.data_root}' is missing; expected a folder")
    if not are_caches_inside(options.data_root):
        print("EVENHAND_CACHE: not looked at; other data roots may use its caches")
    found = list(find_leftovers(options.records, options.results, options.data_root))
    if not found:
        print("nothing to remove")
        return 0
    print("\n".join(_format_leftovers(found)))
    if not removes:
        print("nothing was removed; --yes removes it")
        return 0
    problems = [problem for leftover in found if (problem := _remove(leftover))]
    print(f"removed {len(found) - len(problems)} of {len(found)}")
    for problem in problems:
        print(f"kept: {problem}")
    return int(bool(problems))


def _remove(leftover: Leftover) -> str:
    """Remove a leftover; return why not, or an empty text."""
    try:
        leftover.remove()
    except (OSError, UserError) as error:
        return f"{leftover.path}: {describe_error(error)}"
    return ""


def _format_leftovers(found: Sequence[Leftover]) -> list[str]:
    kinds: dict[str, list[Leftover]] = defaultdict(list)
    for leftover in found:
        kinds[leftover.kind].append(leftover)
    rows = []
    for kind, members in kinds.items():
        members.sort(key=lambda leftover: -leftover.size)
        rows += [
            {"size": _format_size(one.size), "kind": kind, "path": str(one.path)}
            for one in members[:SHOWN]
        ]
        if rest := members[SHOWN:]:
            total = _format_size(sum(one.size for one in rest))
            rows.append({"size": total, "kind": kind, "path": f"{len(rest)} more"})
    total = _format_size(sum(leftover.size for leftover in found))
    return [*format_markdown(rows), f"{len(found)} in all, {total}"]


def _format_size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
