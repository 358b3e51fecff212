"""``python -m core.toy``: paths of weightings on a landscape of two objectives."""

import sys
from collections.abc import Sequence
from pathlib import Path

from common.arguments import Parser
from common.errors import UserError, unknown_name_message
from common.terminal import run_command
from core.toy.descent import STEPS, descend_landscape, format_table, list_weightings

SUFFIXES = (".png", ".svg")


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m core.toy",
        description="Draw the paths of weightings on a landscape of two objectives.",
        epilog="example: python -m core.toy --methods ls cagrad nashmtl fairgrad --out toy.png",
    )
    add = parser.add_argument
    add(
        "--out",
        type=Path,
        default=Path("toy.png"),
        help="the figure, .png or .svg (default: toy.png)",
    )
    add(
        "--methods",
        nargs="+",
        metavar="NAME",
        default=list_weightings(),
        help="weightings (default: all)",
    )
    add("--steps", type=int, default=STEPS, help=f"steps from each start (default: {STEPS})")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table and draw the figure; return 0, or 2 for a user's mistake."""
    args = make_parser().parse_args(arguments)
    try:
        check_arguments(args.methods, args.out, args.steps)
        descents = descend_landscape(args.methods, args.steps)
        print(format_table(descents))
        from core.toy.figure import draw_figure  # importing matplotlib takes a second

        draw_figure(descents, args.out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"drawn: {args.out}")
    return 0


def check_arguments(methods: Sequence[str], out: Path, steps: int) -> None:
    """Check the values of the options.

    Raises:
        UserError: If a weighting is unknown, the figure cannot be written, or there is no step.
    """
    known = list_weightings()
    for method in methods:
        if method not in known:
            raise UserError(unknown_name_message("weighting", method, known))
    if out.suffix not in SUFFIXES:
        raise UserError(f"--out: received '{out}', expected a name that ends in .png or .svg")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out: the folder '{out.parent}' does not exist")
    if steps < 1:
        raise UserError(f"--steps: received {steps}, expected at least 1")


if __name__ == "__main__":
    sys.exit(run_command(main))
