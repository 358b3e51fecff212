"""``python -m core.predict``: the classes of new files by a model that a study kept."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from common.arguments import Parser
from common.errors import UserError
from common.files import write_text
from common.paths import parse_path
from common.terminal import run_command
from core.kept_model import load_model
from core.recipe.assignments import DATA_ROOT_HELP

EPILOG = """\
examples:
  python tune.py --method dro --dataset folder:birds --trials 16 --keep-models
  python -m core.predict results/birds/dro/model.safetensors new/*.jpg
  python -m core.predict results/birds/dro new/*.jpg --out predictions.csv

New files are read like those of the data set, which must be on this machine: it has the names of
the classes, and the tokenizer of texts. From Python: core.kept_model.load_model.
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
        help="images, or text files in UTF-8 with a text each, as the data set has",
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
        table = load_model(args.model, args.data_root).predict_files(args.files)
        text = table.to_csv(index=False, float_format="%.6g", lineterminator="\n")
        if args.out is None:
            print(text, end="")
        else:
            write_text(args.out, text)
            print(f"{len(table):,} predictions: {args.out}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main, prints_result=True))
