"""``python -m core.predict``: the classes of new files by a model that a study kept."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from common.arguments import Parser
from common.errors import UserError
from common.files import write_text
from common.paths import parse_path
from common.terminal import run_command
from common.text import format_count
from core.kept_model import load_model
from core.recipe.assignments import DATA_ROOT_HELP
from datasets.own.columns import parse_columns
from datasets.own.table_files import ENDINGS

EPILOG = """\
examples:
  python tune.py --method dro --dataset folder:birds --trials 16 --keep-models
  python -m core.predict results/birds/dro/model.safetensors new/*.jpg
  python -m core.predict results/birds/dro new/*.jpg --out predictions.csv
  python -m core.predict results/birds/dro new/labels.csv --evaluate

A table names files, relative to its folder, or holds texts, in the form of own data
(docs/data_sets.md); labels, attributes and splits may be absent. New files are read like those of
the data set, which must be on this machine. From Python: core.kept_model.load_model.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m core.predict",
        description="Print the class of images or texts, and each class's probability, as csv.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        type=parse_path,
        help="a file model.safetensors that a study with --keep-models exported, or its folder",
    )
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        type=parse_path,
        help="images, or text files in UTF-8 with a text each, as the data set has; or one table "
        "of them, or a folder with one",
    )
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="print the accuracy on each group of a table with labels, on average, and in the "
        "worst group",
    )
    parser.add_argument(
        "--columns",
        action="append",
        default=[],
        metavar="COLUMN=NAME,...",
        help="meaning of a table's columns, such as kind=label,place=a; default: those of the "
        "data set, and the usual names",
    )
    parser.add_argument("--out", metavar="FILE", type=parse_path, help="write the csv there")
    parser.add_argument(
        "--data-root",
        type=parse_path,
        default=Path("data"),
        metavar="DIR",
        help=f"{DATA_ROOT_HELP} (default: data)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict; return 0, or 2 after a user's mistake."""
    args = make_parser().parse_args(arguments)
    try:
        table = _make_table(args)
        text = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        if args.out is None:
            print(text, end="")
        else:
            write_text(args.out, text)
            print(f"{format_count(len(table), 'row')}: {args.out}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _make_table(args: argparse.Namespace) -> pd.DataFrame:
    """Return the predictions or the evaluation that arguments ask for.

    Raises:
        UserError: If they contradict each other, or the model or the files have a mistake.
    """
    paths: list[Path] = args.files
    tables = [path for path in paths if path.is_dir() or path.suffix.lower() in ENDINGS]
    columns = parse_columns(args.columns)
    if tables and len(paths) > 1:
        raise UserError(f"{tables[0]}: received a table and other files, expected one or the other")
    if not tables and (args.evaluate or columns):
        raise UserError(
            f"{'--evaluate' if args.evaluate else '--columns'}: received {paths[0]}, expected one "
            "table with labels, such as labels.csv with the columns image,label,place"
        )
    model = load_model(args.model, args.data_root)
    if args.evaluate:
        return model.evaluate_table(tables[0], columns)
    return model.predict_table(tables[0], columns) if tables else model.predict_files(paths)


if __name__ == "__main__":
    sys.exit(run_command(main, prints_result=True))
