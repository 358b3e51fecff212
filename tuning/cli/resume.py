"""``python tune.py resume``: continue a study with all options that it was started with."""

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from common.arguments import Parser
from common.errors import UserError, suggest_name
from common.files import read_text
from common.interrupts import EXIT_CODE
from common.paths import parse_location
from common.yaml_files import parse_yaml
from tuning.cli.make_options import make_command, make_options
from tuning.cli.parser import add_options
from tuning.cli.study_file import list_study_arguments, merge_arguments, parse_study
from tuning.options import FLAGS
from tuning.records.open_storage import open_storage
from tuning.records.storage import Storage, is_url, storage_errors
from tuning.study.study_file import FILE_NAME

EPILOG = """\
examples:
  python tune.py resume results
  python tune.py resume results --trials 32 --time-limit 2h
  python tune.py resume s3://BUCKET/records
"""


def make_parser() -> Parser:
    """Return the parser of the command."""
    parser = Parser(
        prog="python tune.py resume",
        description="Continue the study in a folder of results or records with all options that\n"
        "it was started with. More --trials, --seeds or --finalists extend it; other options may\n"
        "follow too.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "location",
        metavar="RESULTS|RECORDS",
        type=parse_location,
        help="folder of the results, or folder or URL of the records",
    )
    names = [name for name in FLAGS if name != "resume"]
    add_options(parser, names, several_data_sets=True)
    return parser


def run_resume(arguments: Sequence[str]) -> int:
    """Run the command; return the highest exit code of the studies that it continues.

    Raises:
        UserError: If there is no study, or a study cannot be continued.
    """
    given = make_parser().parse_args(arguments)
    code = 0
    for found in find_studies(given.location):
        args = merge_arguments(found, given)
        args.resume = True
        command = make_command(args)
        print(f"resuming: python tune.py {shlex.join(list_study_arguments(command))}", flush=True)
        from tuning.study.data_sets import run_studies  # after the checks: it imports Ray

        code = max(code, run_studies(command))
        if code == EXIT_CODE:
            break
    return code


def find_studies(location: str) -> list[argparse.Namespace]:
    """Return the options of the studies in a folder or URL of results or records.

    Commands of the same options are one study. One that was resumed with others for some methods
    is several.

    Raises:
        UserError: If there are none.
    """
    texts = read_study_files(open_storage(location))
    if texts:
        return [parse_study_text(text, location) for text in texts]
    summary = Path(location, FILE_NAME)
    if is_url(location) or not summary.is_file():
        raise UserError(_describe_absence(location))
    last = parse_study_text(read_text(summary), location)
    last.results = Path(location)  # the folder may have moved
    records = make_options(last).records
    found = [parse_study_text(text, records) for text in read_study_files(open_storage(records))]
    for study in found:
        study.results = last.results
    return found or [last]


def read_study_files(root: Storage) -> list[str]:
    """Return the different study files of all methods and data sets in a storage.

    Raises:
        UserError: If one is not UTF-8.
    """
    with storage_errors(root):
        files = [
            (root / dataset / method).read_bytes(FILE_NAME)
            for dataset in root.list_names()
            for method in (root / dataset).list_names()
        ]
    try:
        return list(dict.fromkeys(file.decode("utf-8") for file in files if file is not None))
    except UnicodeDecodeError as error:
        raise UserError(f"'{root}': {FILE_NAME} of a method: not UTF-8 text: {error}") from None


def parse_study_text(text: str, location: str) -> argparse.Namespace:
    """Return the options in the text of a study file.

    Args:
        text: The text.
        location: The folder or URL, as error messages name it.

    Raises:
        UserError: If it is malformed, or names an option that does not exist.
    """
    where = f"'{location}': {FILE_NAME}"
    try:
        content: object = parse_yaml(text)
    except UserError as error:
        raise UserError(f"{where}: malformed YAML: {error}") from None
    return parse_study(content, where)


def _describe_absence(location: str) -> str:
    """Return the message for a location without a study, with the studies near it."""
    if is_url(location):
        return f"no study found in '{location}'"
    folder = Path(os.path.abspath(location))
    above = [parent for parent in folder.parents if (parent / FILE_NAME).is_file()]
    beside = sorted(path.parent for path in folder.parent.glob(f"*/{FILE_NAME}"))
    shown = {os.path.relpath(path): path.name for path in (*above[:1], *beside)}
    if not shown:
        return f"no study found in '{location}', and none beside it: expected a results folder"
    guess = suggest_name(os.path.relpath(folder), shown)
    return f"no study found in '{location}'{guess}; known: {', '.join(shown)}"
