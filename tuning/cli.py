"""The command line: ``python tune.py``."""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import datasets
from core import method as methods
from core.arguments import Parser, check_epochs, pairs
from datasets.errors import UserError
from tuning.options import Options
from tuning.selection import RULES
from tuning.space import DEFAULT_TRIALS

SEARCHES = ("tpe", "random", "grid", "published")
SCHEDULERS = ("asha", "none")

EPILOG = """\
examples:
  python tune.py --method erm rwg jtt --dataset colored_digits --trials 16
  python tune.py --method all --dataset colored_digits --plan
  python tune.py --method dro --dataset colored_digits --set batch_size=32 --search random
  python tune.py --method erm rwg jtt --dataset colored_digits --trials 32 --resume

Each method is searched on the training and validation splits; the winner is trained again on
fresh seeds, and only these read the test split, once. results/<dataset>/table.md compares the
methods, results/<dataset>/<method>/best_config.yaml holds the winner and the command that
repeats it.

python tune.py export --help: tables written anew, single-task baselines for delta-m.
"""


def _at_least(lowest: float, whole: bool) -> type:
    """Return a converter of numbers not below ``lowest``."""

    def convert(text: str) -> float:
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            value = lowest - 1
        if not value >= lowest or value == float("inf"):
            kind = "a whole number" if whole else "a number"
            raise argparse.ArgumentTypeError(f"received '{text}', expected {kind} from {lowest:g}")
        return value

    return convert  # type: ignore[return-value]  # argparse takes any callable


def _share(text: str) -> float | None:
    """Read a share of a GPU in (0, 1], a number of GPUs, 0 or ``auto``."""
    if text == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (0 <= value <= 1 or (value.is_integer() and value > 0)):
        raise argparse.ArgumentTypeError(
            f"received '{text}', expected a share such as 0.25, a number of GPUs, or auto"
        )
    return value


def _duration(text: str) -> float:
    """Read a duration such as 90s, 30m or 2h; a bare number is in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not found or float(found.group(1)) <= 0:
        raise argparse.ArgumentTypeError(f"received '{text}', expected a time such as 30m or 2h")
    return float(found.group(1)) * {"": 1, "s": 1, "m": 60, "h": 3600}[found.group(2)]


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = Parser(
        prog="python tune.py",
        description="Find the hyperparameters with which a method serves its worst group or task "
        "best, confirm them on fresh seeds, export tables.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = found.add_argument_group("what to run")
    what.add_argument(
        "--method",
        nargs="+",
        required=True,
        metavar="M",
        help=f"methods, or all: {', '.join(methods.names())}",
    )
    what.add_argument(
        "--dataset", required=True, metavar="D", help=f"data set: {', '.join(datasets.names())}"
    )
    what.add_argument(
        "--data-root",
        type=Path,
        default=Path("data"),
        metavar="DIR",
        help="folder of the data sets (data)",
    )
    what.add_argument(
        "--baseline",
        type=Path,
        metavar="FILE",
        help="single-task baseline of delta-m (the data set's own; see python tune.py export)",
    )
    what.add_argument(
        "--epochs", type=_at_least(1, True), metavar="N", help="epochs of a trial (the data set's)"
    )
    what.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="fix a knob or a training setting; may be repeated",
    )
    how = found.add_argument_group("search, selection, confirmation")
    how.add_argument(
        "--search",
        choices=SEARCHES,
        default="tpe",
        help="how configurations are chosen; published searches nothing (tpe)",
    )
    how.add_argument(
        "--trials",
        type=_at_least(1, True),
        metavar="N",
        help=f"configurations per method ({DEFAULT_TRIALS}; grid: all)",
    )
    how.add_argument(
        "--search-seeds",
        type=_at_least(1, True),
        default=1,
        metavar="N",
        help="training seeds averaged per configuration (1)",
    )
    how.add_argument(
        "--scheduler",
        choices=SCHEDULERS,
        default="asha",
        help="asha stops weak trials early (asha)",
    )
    how.add_argument(
        "--select", metavar="RULE", help=f"selection rule (the data set's): {', '.join(RULES)}"
    )
    how.add_argument(
        "--seeds",
        type=_at_least(1, True),
        default=5,
        metavar="N",
        help="confirmation seeds of the winner, 0 to N-1 (5)",
    )
    how.add_argument(
        "--study-seed",
        type=_at_least(0, True),
        default=0,
        metavar="N",
        help="seed of the search itself (0)",
    )
    how.add_argument(
        "--audit-test",
        action="store_true",
        help="record test metrics of every round, which only oracle rules may read",
    )
    how.add_argument(
        "--deterministic",
        action="store_true",
        help="the same bits on CUDA too, slower; on CPU always",
    )
    where = found.add_argument_group("resources and budgets")
    where.add_argument(
        "--gpus-per-trial",
        type=_share,
        metavar="F|auto",
        help="share of a GPU, or number of GPUs (auto: 1 where there is one)",
    )
    where.add_argument(
        "--cpus-per-trial",
        type=_at_least(1, True),
        default=1,
        metavar="N",
        help="CPUs, and threads, of a trial (1)",
    )
    where.add_argument(
        "--max-device-hours",
        type=_at_least(0, False),
        metavar="H",
        help="stop when all trials together took so long",
    )
    where.add_argument(
        "--time-limit",
        type=_duration,
        metavar="TIME",
        help="stop this command after a time such as 30m or 2h",
    )
    where.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="Ray cluster (the one running here, else a local one)",
    )
    out = found.add_argument_group("records and results")
    out.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="folder of the exports (results)",
    )
    out.add_argument(
        "--storage",
        type=Path,
        metavar="DIR",
        help="folder of the records, shared by all nodes (<results>.records)",
    )
    out.add_argument(
        "--resume",
        action="store_true",
        help="go on with a study; with more --trials or --seeds, extend it",
    )
    out.add_argument(
        "--keep-models",
        action="store_true",
        help="export the best confirmation seed's weights (safetensors)",
    )
    out.add_argument(
        "--plan", action="store_true", help="print what would run and at what cost, and stop"
    )
    return found  # fmt: skip


def options(args: argparse.Namespace) -> Options:
    """Return the options of parsed arguments.

    Raises:
        UserError: If ``--set`` is malformed or contradicts ``--epochs``.
    """
    pinned = pairs(args.set)
    check_epochs(pinned, args.epochs)
    same = {
        field.name: getattr(args, field.name) for field in fields(Options) if field.name in args
    }
    return Options(**{**same, "methods": tuple(args.method), "pinned": pinned})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 2 for a user's mistake, told in one message."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if given[:1] == ["export"]:
            from tuning.baselines import export

            return export(given[1:])
        args = parser().parse_args(given)
        asked = options(args)
        if args.plan:
            from tuning.plan import show

            return show(asked)
        from tuning.study import run

        return run(asked)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted twice: stopped at once; --resume goes on", file=sys.stderr)
        return 130
