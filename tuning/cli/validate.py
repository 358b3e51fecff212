"""``python tune.py validate``: checks method files."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import datasets
from common.arguments import Parser
from common.errors import UserError, ValidationErrors
from common.paths import parse_path
from common.text import format_count
from core.recipe.method_files import list_methods, load_method
from core.recipe.resolved_method import resolve_method
from datasets.own.dataset_file import NAME as DATASET_FILE


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = Parser(
        prog="python tune.py validate",
        description="Check method files, or the dataset.yaml of own data; print every mistake in "
        "them with file and key.",
        epilog="example: python tune.py validate search_spaces/my_method.yaml "
        "data/birds/dataset.yaml",
        allow_abbrev=False,
    )
    parser.add_argument(
        "files", nargs="*", type=parse_path, metavar="FILE", help="files (default: all methods)"
    )
    return parser


def run_validate(arguments: Sequence[str]) -> int:
    """Run the command; return 0.

    Raises:
        ValidationErrors: If a file is missing or malformed.
    """
    files: list[Path] = make_parser().parse_args(arguments).files
    problems: list[str] = []
    for path in files:
        is_file = path.suffix == ".yaml" and path.is_file()
        missing = [f"{path}: expected an existing file NAME.yaml"]
        problems += _find_problems(path.stem, path.parent) if is_file else missing
    if not files:
        for name in list_methods():
            problems += _find_problems(name, None)
    if problems:
        raise ValidationErrors(problems)
    kind = "valid file" if files else "valid method file"
    print(format_count(len(files) or len(list_methods()), kind))
    return 0


def _find_problems(name: str, folder: Path | None) -> list[str]:
    try:
        if folder is not None and f"{name}.yaml" == DATASET_FILE:
            resolve_method(load_method("erm"), datasets.load_benchmark(str(folder.absolute())))
            return []
        load_method(name) if folder is None else load_method(name, folder)
    except ValidationErrors as error:
        return error.problems
    except UserError as error:
        return [str(error)]
    return []
