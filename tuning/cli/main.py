"""The command line: ``python tune.py``."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import datasets
from common.arguments import Parser
from common.errors import UserError, unknown_name_message
from core.environment import PRECISIONS
from core.recipe import method as methods
from core.recipe.assignments import check_epochs, pairs
from tuning.cli.converters import at_least, duration, share
from tuning.options import Options
from tuning.search.space import DEFAULT_TRIALS
from tuning.selection import RULES

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

python tune.py doctor --help: checks the machines for a study.
python tune.py export --help: tables written anew, single-task baselines for delta-m.
"""


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
        metavar="M",
        help=f"methods, or all: {', '.join(methods.names())}",
    )
    what.add_argument("--dataset", metavar="D", help=f"data set: {', '.join(datasets.names())}")
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
        "--epochs", type=at_least(1, True), metavar="N", help="epochs of a trial (the data set's)"
    )
    what.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="fix a hyperparameter or a training setting; may be repeated",
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
        type=at_least(1, True),
        metavar="N",
        help=f"configurations per method ({DEFAULT_TRIALS}; grid: all)",
    )
    how.add_argument(
        "--search-seeds",
        type=at_least(1, True),
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
        type=at_least(1, True),
        default=5,
        metavar="N",
        help="confirmation seeds of the winner, 0 to N-1 (5)",
    )
    how.add_argument(
        "--study-seed",
        type=at_least(0, True),
        default=0,
        metavar="N",
        help="seed of the search itself (0)",
    )
    how.add_argument(
        "--audit-test",
        action="store_true",
        help="record test metrics of every epoch, which only oracle rules may read",
    )
    how.add_argument(
        "--deterministic",
        action="store_true",
        help="the same bits on CUDA too, slower; on CPU always",
    )
    how.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="number format of the models' arithmetic (auto: bfloat16 on GPUs that have it)",
    )
    where = found.add_argument_group("resources and budgets")
    where.add_argument(
        "--gpus-per-trial",
        type=share,
        metavar="F|auto",
        help="share of a GPU, or number of GPUs (1 where there is one); auto measures what the "
        "methods take and lets trials share a GPU where that is faster",
    )
    where.add_argument(
        "--cpus-per-trial",
        type=at_least(1, True),
        default=1,
        metavar="N",
        help="CPUs, and threads, of a trial (1)",
    )
    where.add_argument(
        "--max-device-hours",
        type=at_least(0, False),
        metavar="H",
        help="stop when all trials together took so long",
    )
    where.add_argument(
        "--time-limit",
        type=duration,
        metavar="TIME",
        help="stop this command after a time such as 30m or 2h",
    )
    where.add_argument(
        "--address",
        metavar="HOST:PORT|local",
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
        metavar="DIR|URL",
        help="where records go, seen by all nodes: a folder, s3://... or gs://... "
        "(<results>.records)",
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
    out.add_argument(
        "--simulate",
        metavar="DIR|URL",
        help="compare searches and schedulers over one method's records of an earlier study, "
        "<storage>/<dataset>/<method>, in seconds and without training; takes --trials",
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


def _check_alone(asked_for: argparse.ArgumentParser, given: Sequence[str]) -> None:
    """Refuse options that mean nothing to a simulated search.

    Raises:
        UserError: If there are any, even with the values that they have by default.
    """
    every = vars(asked_for.parse_args(given))
    # A parser leaves alone what a namespace has, so what is None after that was not given.
    found = vars(asked_for.parse_args(given, argparse.Namespace(**dict.fromkeys(every))))
    idle = [name for name, value in found.items() if value is not None]
    names = [f"--{name.replace('_', '-')}" for name in idle if name not in ("simulate", "trials")]
    if names:
        raise UserError(
            f"--simulate: received {', '.join(names)} too, expected no other option than --trials: "
            "the rest is in the records"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 2 for a user's mistake, told in one message."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if given[:1] == ["export"]:
            from tuning.cli.export import export

            return export(given[1:])
        if given[:1] == ["doctor"]:
            from tuning.cli.doctor import run_doctor

            return run_doctor(given[1:])
        if given and not given[0].startswith("-"):
            raise UserError(unknown_name_message("command", given[0], ("doctor", "export")))
        asked_for = parser()
        args = asked_for.parse_args(given)
        if args.simulate is not None:
            from tuning.search.simulate import simulate

            _check_alone(asked_for, given)
            print(simulate(args.simulate, args.trials))
            return 0
        lacking = [f"--{name}" for name in ("method", "dataset") if getattr(args, name) is None]
        if lacking:
            asked_for.error(f"the following arguments are required: {', '.join(lacking)}")
        asked = options(args)
        if args.plan:
            from tuning.study.plan import show

            return show(asked)
        from tuning.study.study import run

        return run(asked)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted twice: stopped at once; --resume goes on", file=sys.stderr)
        return 130
