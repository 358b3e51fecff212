"""``python -m core``: one training run without Ray, the same numbers as a trial of a study."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

import datasets
from common.arguments import Parser
from common.errors import UserError, ValidationErrors, unknown_name_message
from common.paths import parse_path
from common.terminal import run_command
from core.environment import PRECISIONS, Environment, detect_environment
from core.make_run import AnyRun, make_run
from core.recipe.assignments import (
    BASELINE_HELP,
    DATA_ROOT_HELP,
    DETERMINISTIC_HELP,
    EPOCHS_HELP,
    PRECISION_HELP,
    SET_HELP,
    check_epochs,
    parse_assignments,
    read_baseline,
)
from core.recipe.method_files import list_methods, load_method
from core.recipe.resolved_method import resolve_method
from core.recipe.trial_key import TrialKey
from core.reinforcement.run import ReinforcementRun
from core.reinforcement.video import write_video
from core.selected_run import SelectedRun
from core.training.epoch_row import EpochRow
from core.training.run import NotFinite
from core.training.selection import Metrics, check_rule, explain_trained_split, get_rule
from core.training.steps import BatchTooLarge
from datasets.benchmark import Benchmark
from datasets.environments.rendering import choose_graphics_library

EPILOG = """\
examples:
  python -m core --method erm --dataset colored_digits
  python -m core --method dro --dataset colored_digits --set lr=0.01 --set eta=0.1 --epochs 5
  python -m core --method fairgrad --dataset two_digits --seed 3 --test --json

A run is a pure function of its trial key, which is printed first: the same key gives the same
numbers here and in a study, and the last line names the epoch that a study would choose; with
--test, its test metrics are those of a confirmation seed. Hyperparameters and training-config
fields that --set does not give have the method's and the data set's defaults; python -m
datasets.describe NAME shows a data set's.

See also:
  python tune.py --help   search for a method's hyperparameters
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="python -m core",
        description="Train one model with one method on one data set and print its metrics, to "
        "try a method\nor to debug a trial.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument_group("run").add_argument
    add("--method", required=True, help=f"method name; available: {', '.join(list_methods())}")
    known = ", ".join(datasets.list_benchmarks())
    add(
        "--dataset",
        required=True,
        help=f"data set: folder:NAME or a path for your own, or one of: {known}",
    )
    add("--seed", type=int, default=0, help="training seed (default: 0)")
    add("--epochs", type=int, help=f"{EPOCHS_HELP} (default: the data set's)")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=SET_HELP,
    )
    add(
        "--data-root",
        type=parse_path,
        default=Path("data"),
        metavar="DIR",
        help=f"{DATA_ROOT_HELP} (default: data)",
    )
    add(
        "--baseline",
        type=parse_path,
        metavar="FILE",
        help=f"{BASELINE_HELP} (default: the data set's)",
    )
    add(
        "--select",
        metavar="RULE",
        help="rule that chooses the epoch, as in a study (default: the data set's)",
    )
    add = parser.add_argument_group("device").add_argument
    add(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="device to train on; auto takes a GPU if there is one (default: auto)",
    )
    add(
        "--threads",
        type=int,
        default=1,
        help="CPU threads; in a study this is set by --cpus-per-trial (default: 1)",
    )
    add(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help=f"{PRECISION_HELP} (default: auto)",
    )
    add("--deterministic", action="store_true", help=DETERMINISTIC_HELP)
    add = parser.add_argument_group("output").add_argument
    add("--test", action="store_true", help="evaluate the test split at the chosen epoch")
    add("--json", action="store_true", help="print one line of JSON per epoch, in full precision")
    add(
        "--render",
        metavar="TASK",
        help="of a data set in a simulator: write an episode of a task after training, as TASK.gif",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; return 0, 2 after a user's mistake, or 1 if the run had to stop."""
    args = make_parser().parse_args(arguments)
    try:
        run = _make_run(args)
        check_render(run.run, args.render)
        _print_training(run, args.json, args.test)
        if args.render is not None:
            print(render_episode(run.run, args.render))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (NotFinite, BatchTooLarge) as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 1
    return 0


def _make_run(args: argparse.Namespace) -> SelectedRun:
    benchmark = datasets.load_benchmark(
        args.dataset, str(args.data_root), read_baseline(args.baseline)
    )
    rule = get_rule(args.select or benchmark.default_selection_rule, "--select")
    check_rule(rule, benchmark)
    key = make_key(args, benchmark)
    reason = explain_trained_split(rule, key.training_config.training_split)
    if reason:
        raise UserError(f"{reason}: it needs --select published_last10")
    return SelectedRun(make_run(key, benchmark), rule)


def check_render(run: AnyRun, task: str | None) -> None:
    """Check ``--render`` before training.

    Raises:
        UserError: If the run has no such task, or the machine no graphics library.
    """
    if task is None:
        return
    if not isinstance(run, ReinforcementRun):
        raise UserError(
            f"--render: received {task}, but data set '{run.benchmark.name}' is in no simulator; "
            "mt1, mt10, mt25 and mt50 are"
        )
    if task not in run.tasks:
        raise UserError(f"--render: {unknown_name_message('task', task, run.tasks)}")
    choose_graphics_library()


def render_episode(run: AnyRun, task: str) -> str:
    """Write the video of an episode; return a sentence about it."""
    assert isinstance(run, ReinforcementRun)
    path = Path(f"{task}.gif")
    success = write_video(run, task, path)
    return (
        f"wrote {path}: an episode of the first validation goal, {'a' if success else 'no'} success"
    )


def make_key(args: argparse.Namespace, benchmark: Benchmark) -> TrialKey:
    """Return the key of the run that a command asks for.

    Raises:
        UserError: If an option's value is invalid.
    """
    values = parse_assignments(args.set)
    check_epochs(values, args.epochs)
    if args.epochs is not None:
        values |= {"epochs": args.epochs}
    environment = _detect_environment(args)
    resolved = resolve_method(load_method(args.method), benchmark)
    key = resolved.make_key(values, args.seed, environment)
    unused = resolved.find_unused_settings(values)
    if unused:
        raise ValidationErrors([*unused.values()])
    return key


def _detect_environment(args: argparse.Namespace) -> Environment:
    if args.threads < 1:
        raise UserError(f"--threads: received {args.threads}, expected at least 1")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no GPU on this machine")
    gpu = None if args.device == "auto" else args.device == "cuda"
    return detect_environment(gpu, args.threads, args.deterministic, args.precision)


def _print_training(run: SelectedRun, as_json: bool, test: bool) -> None:
    key = run.run.key
    print(json.dumps({"key": key.digest, **key.as_dict()}) if as_json else f"trial {key.digest}")
    while not run.is_done:
        row = run.train_epoch()
        line = json.dumps(row.as_dict()) if as_json else _format_row(row, run.run.total_epochs)
        print(line, flush=True)
    metrics = run.measure_test() if test else None
    if metrics is not None:
        print(json.dumps({"test": metrics}) if as_json else f"test   {_format_metrics(metrics)}")
    print(_describe_choice(run, metrics, as_json))


def _describe_choice(run: SelectedRun, test: Metrics | None, as_json: bool) -> str:
    """Return the line about the epoch that the rule chooses."""
    rule, best = run.rule, run.best
    if best is None:
        return json.dumps({"chosen": None}) if as_json else "chosen: none; no epoch may be selected"
    splits = {"validation": run.rows[best.epoch - 1].validation, "test": test or {}}
    values = {
        split: value
        for split, metrics in splits.items()
        if isinstance(value := metrics.get(rule.metric), float)
    }
    if as_json:
        return json.dumps({"chosen": {"epoch": best.epoch, "rule": rule.name, **values}})
    listed = "".join(f", {split} {value:.4f}" for split, value in values.items())
    return f"chosen: epoch {best.epoch}{listed} ({rule.metric}, by {rule.name})"


def _format_row(row: EpochRow, total: int) -> str:
    losses = "  ".join(f"{name} {value:.4f}" for name, value in row.losses.items())
    return f"epoch {row.epoch:>3}/{total}  {losses}  |  {_format_metrics(row.validation)}"


def _format_metrics(metrics: Mapping[str, object]) -> str:
    return "  ".join(
        f"{name} {value:.4f}" for name, value in metrics.items() if isinstance(value, float)
    )


if __name__ == "__main__":
    sys.exit(run_command(main, prints_result=True))
