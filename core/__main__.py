"""``python -m core``: one training run without Ray, the same numbers as a trial of a study."""

import argparse
import json
import signal
import sys
from collections.abc import Mapping, Sequence

import torch

import datasets
from common.arguments import Parser
from common.errors import UserError
from core.environment import PRECISIONS, detect
from core.recipe.assignments import check_epochs, pairs, read_baseline
from core.recipe.method_files import list_methods, load_method
from core.recipe.resolved_method import resolve_method
from core.training.epoch_row import EpochRow
from core.training.run import NotFinite, Run
from core.training.steps import BatchTooLarge


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = Parser(
        prog="python -m core",
        description="Train one model with one method, without Ray: for a look, and for debugging.",
        epilog="example: python -m core --method dro --dataset colored_digits --set lr=0.01",
    )
    add = found.add_argument
    add("--method", required=True, help=f"one of {', '.join(list_methods())}")
    add("--dataset", required=True, help=f"one of {', '.join(datasets.list_benchmarks())}")
    add("--seed", type=int, default=0, help="training seed (0)")
    add("--epochs", type=int, help="epochs of the last stage (the benchmark's)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="value of a hyperparameter")
    add("--threads", type=int, default=1, help="CPU threads; a trial has its CPUs' number (1)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to train (auto)")
    add("--deterministic", action="store_true", help="the same bits on CUDA too")
    add("--precision", choices=PRECISIONS, default="auto", help="number format (auto)")
    add("--baseline", help="baseline file of delta-m (the data set's own)")
    add("--data-root", default="data", help="folder of the data sets (data)")
    add("--test", action="store_true", help="evaluate the test split after the last epoch")
    add("--json", action="store_true", help="print each epoch as one line of JSON, full precision")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; return 0, or 2 for a user's mistake and 1 for a run that cannot go on."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it quietly
    args = parser().parse_args(arguments)
    try:
        _train(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (NotFinite, BatchTooLarge) as error:
        print(f"stopped: {error}", file=sys.stderr)
        return 1
    return 0


def _train(args: argparse.Namespace) -> None:
    config = pairs(args.set)
    check_epochs(config, args.epochs)
    if args.epochs is not None:
        config["epochs"] = args.epochs
    if args.threads < 1:
        raise UserError(f"--threads: received {args.threads}, expected at least 1")
    method = load_method(args.method)
    benchmark = datasets.load_benchmark(args.dataset, args.data_root, read_baseline(args.baseline))
    method.check_benchmark(benchmark)
    gpu = {"auto": None, "cpu": False, "cuda": True}[args.device]
    if gpu and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here")
    environment = detect(gpu, args.threads, args.deterministic, args.precision)
    key = resolve_method(method, benchmark).make_key(config, args.seed, environment)
    run = Run(key, benchmark)
    print(json.dumps({"key": key.digest, **key.as_dict()}) if args.json else f"trial {key.digest}")
    while run.epochs_done < run.total_epochs:
        row = run.train_epoch()
        print(json.dumps(row.as_dict()) if args.json else _line(row, run.total_epochs), flush=True)
    if args.test:
        metrics = run.evaluate("test").compute_metrics()
        print(json.dumps({"test": metrics}) if args.json else f"test   {_metrics(metrics)}")


def _line(row: EpochRow, total: int) -> str:
    losses = "  ".join(f"{name} {value:.4f}" for name, value in row.losses.items())
    return f"epoch {row.epoch:>3}/{total}  {losses}  |  {_metrics(row.validation)}"


def _metrics(metrics: Mapping[str, object]) -> str:
    return "  ".join(
        f"{name} {value:.4f}" for name, value in metrics.items() if isinstance(value, float)
    )


if __name__ == "__main__":
    sys.exit(main())
