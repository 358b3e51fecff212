"""``python -m core.toy``: paths of weightings on a landscape of two objectives."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from common.arguments import Parser
from common.errors import UserError
from common.paths import parse_path
from common.terminal import run_command
from core.toy.descent import (
    LEARNING_RATE,
    STEPS,
    descend_landscape,
    format_table,
    parse_weighting,
)
from core.toy.landscape import LOSS_SCALES, STARTS
from core.weighting import list_weightings

SUFFIXES = (".png", ".svg")
PLANES = ("parameters", "losses")
MAX_COORDINATE = 10.0  # of a start: the figure shows little more
MAX_POINTS = 50_000_000  # of all paths, which take 16 bytes each
EPILOG = """\
examples:
  python -m core.toy --methods ls cagrad nashmtl fairgrad famo:gamma=0 --out toy.png

  the figure of the FairGrad paper: no fairness, proportional fairness, minimum potential delay, and
  nearly max-min fairness, in the plane of the losses
  python -m core.toy --methods ls fairgrad:alpha=1 fairgrad:alpha=2 fairgrad:alpha=10 --plane losses
"""


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m core.toy",
        description="Draw the paths of weightings on a landscape of two objectives.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--out",
        type=parse_path,
        default=Path("toy.png"),
        help="the figure, .png or .svg (default: toy.png)",
    )
    add(
        "--methods",
        nargs="+",
        metavar="NAME[:KEY=VALUE,...]",
        default=list_weightings(),
        help="weightings, with parameters (default: all, with their own defaults)",
    )
    add("--steps", type=int, default=STEPS, help=f"steps from each start (default: {STEPS})")
    add(
        "--lr",
        type=float,
        default=LEARNING_RATE,
        help=f"Adam's learning rate (default: {LEARNING_RATE})",
    )
    add(
        "--scale",
        type=float,
        default=LOSS_SCALES[0],
        help=f"scale of the first loss (default: {LOSS_SCALES[0]})",
    )
    add(
        "--start",
        nargs=2,
        type=float,
        metavar=("X1", "X2"),
        action="append",
        help="a start; repeatable (default: the five of Navon et al.)",
    )
    add(
        "--plane",
        choices=PLANES,
        default=PLANES[0],
        help="the plane of the figure: parameters (the default), or losses as in the papers",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table and draw the figure; return 0, or 2 for a user's mistake."""
    args = make_parser().parse_args(arguments)
    starts = STARTS if args.start is None else tuple((x1, x2) for x1, x2 in args.start)
    try:
        check_arguments(args.methods, args.out)
        check_numbers(
            args.steps, args.lr, args.scale, starts, paths=len(args.methods) * len(starts)
        )
        descents = descend_landscape(
            args.methods, args.steps, args.lr, scale=args.scale, starts=starts
        )
        print(format_table(descents))
        from core.toy.figure import draw_figure  # importing matplotlib takes a second

        draw_figure(descents, args.out, args.scale, in_losses=args.plane == "losses")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"drawn: {args.out}")
    return 0


def check_arguments(methods: Sequence[str], out: Path) -> None:
    """Check the weightings and the figure's name.

    Raises:
        UserError: If a weighting is wrong, or the figure cannot be written.
    """
    for method in methods:
        parse_weighting(method)
    if out.suffix not in SUFFIXES:
        raise UserError(f"--out: received '{out}', expected a name that ends in .png or .svg")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out: the folder '{out.parent}' does not exist")


def check_numbers(
    steps: int, lr: float, scale: float, starts: Sequence[tuple[float, float]], paths: int
) -> None:
    """Check the steps, the rate, the scale and the starts.

    Raises:
        UserError: If one is out of its range.
    """
    if not 1 <= steps <= MAX_POINTS // paths:
        raise UserError(
            f"--steps: received {steps}, expected an integer from 1 to {MAX_POINTS // paths:,} for "
            f"{paths} paths"
        )
    for name, value in (("--lr", lr), ("--scale", scale)):
        if not 0 < value < math.inf:
            raise UserError(f"{name}: received {value}, expected a number above 0")
    for start in starts:
        if not all(abs(value) <= MAX_COORDINATE for value in start):
            raise UserError(
                f"--start: received {start[0]} {start[1]}, expected two numbers from "
                f"-{MAX_COORDINATE:g} to {MAX_COORDINATE:g}"
            )


if __name__ == "__main__":
    sys.exit(run_command(main))
