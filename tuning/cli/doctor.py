"""``python tune.py doctor``: checks a cluster for a study."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import datasets
from common.arguments import Parser
from common.errors import UserError, unknown_name_message
from core.recipe.assignments import pairs
from tuning.cli.converters import at_least, share
from tuning.cluster.connection import find_cluster, join_cluster
from tuning.doctor import doctor
from tuning.doctor.findings import Finding, format_report
from tuning.doctor.node_facts import Requirements
from tuning.options import Options
from tuning.records.open_storage import check_storage, check_writable, open_storage
from tuning.records.storage import is_url
from tuning.resources import Resources, choose_resources

EPILOG = """\
examples:
  python tune.py doctor
  python tune.py doctor --dataset waterbirds --storage /mnt/shared/records --gpus-per-trial 0.25

Every study runs the same checks before its first trial.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = Parser(
        prog="python tune.py doctor",
        description="Check every node's versions, code, GPUs, disks, clock, data and models, and "
        "that all share the records; print each finding with the command that fixes it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = found.add_argument
    add("--dataset", metavar="D", help="whose data and model are looked for")
    add("--data-root", type=Path, default=Path("data"), metavar="DIR", help="data sets (data)")
    add("--results", type=Path, default=Path("results"), metavar="DIR", help="exports (results)")
    add("--storage", metavar="DIR|URL", help="records of the study (<results>.records)")
    add(
        "--address",
        metavar="HOST:PORT|local",
        help="Ray cluster (the one running here, else a local)",
    )
    add("--gpus-per-trial", type=share, metavar="F|auto", help="as the study would take")
    add("--cpus-per-trial", type=at_least(1, True), default=1, metavar="N", help="likewise (1)")
    add("--set", action="append", default=[], metavar="model=M", help="the model, if another")
    return found


def run_doctor(arguments: Sequence[str]) -> int:
    """Run the command; return 1 on an error that would make a study fail, else 0.

    Raises:
        UserError: If the command itself is wrong.
    """
    args = parser().parse_args(arguments)
    pinned = pairs(args.set)
    others = sorted(set(pinned) - {"model"})
    if others:
        raise UserError(f"--set: received '{others[0]}', expected model: it alone matters here")
    model = str(pinned["model"]) if "model" in pinned else ""
    if args.dataset is not None:
        if args.dataset not in datasets.names():
            raise UserError(
                f"--dataset: {unknown_name_message('data set', args.dataset, datasets.names())}"
            )
        model = model or datasets.load(args.dataset, str(args.data_root)).training_config.model
    options = Options((), args.dataset or "", storage=args.storage, results=args.results)
    check_writable("--results", options.results)
    if is_url(options.records):
        check_storage(open_storage(options.records))
    else:
        check_writable("--storage", Path(options.records))
    with join_cluster(find_cluster(args.address)) as nodes:
        found: list[Finding] = []
        try:
            resources = choose_resources(nodes, args.cpus_per_trial, args.gpus_per_trial)
        except UserError as error:
            found = [Finding("error", "", str(error))]
            asked = args.gpus_per_trial
            resources = Resources(args.cpus_per_trial, asked if isinstance(asked, float) else 0.0)
        requirements = Requirements(
            dataset=options.dataset,
            data_root=str(args.data_root.absolute()),
            storages=(options.records,),
            models=(model,) if model else (),
            cpus=resources.cpus,
            gpus=resources.gpus,
        )
        found += doctor.check_cluster(requirements, options.results)
        print(format_report(found))
    return int(any(finding.level == "error" for finding in found))
