"""``python tune.py doctor``: checks a cluster for a study."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import datasets
from common.arguments import Parser
from common.errors import UserError, unknown_name_message
from core.recipe.assignments import parse_assignments
from tuning.cli.parser import add_options
from tuning.cluster.addresses import find_cluster
from tuning.cluster.connection import join_cluster
from tuning.doctor.findings import Finding, format_report
from tuning.doctor.node_facts import Requirements
from tuning.doctor.run_checks import check_cluster
from tuning.options import Options
from tuning.records.open_storage import check_storage, check_writable, open_storage
from tuning.records.storage import is_url
from tuning.resources import Resources, choose_resources

EPILOG = """\
examples:
  python tune.py doctor
  python tune.py doctor --dataset waterbirds --storage /mnt/shared/records --gpus-per-trial 0.25

Every study on a cluster runs the same checks before its first trial. A study on one machine checks
its disks and GPUs only.
"""
STUDY_OPTIONS = (
    "dataset", "data_root", "results", "storage", "address", "gpus_per_trial", "cpus_per_trial",
    "pinned",
)  # fmt: skip
HELP_TEXTS = {
    "dataset": "check this data set's files and model too",
    "pinned": "check this model instead of the data set's: model=NAME",
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = Parser(
        prog="python tune.py doctor",
        description="Check every node's versions, GPUs, disks, clock, data and models, and "
        "that all share\nthe records; print each finding with the command that fixes it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    add_options(parser, STUDY_OPTIONS, HELP_TEXTS)
    return parser


def run_doctor(arguments: Sequence[str]) -> int:
    """Run the command; return 1 on an error that would make a study fail, else 0.

    Raises:
        UserError: If the command itself is wrong.
    """
    given = vars(make_parser().parse_args(arguments))
    pinned = parse_assignments(given.pop("pinned", ()))
    others = sorted(set(pinned) - {"model"})
    if others:
        raise UserError(f"--set: received '{others[0]}=...'; doctor accepts only --set model=...")
    options = Options(**{"methods": (), "dataset": "", **given})
    model = str(pinned.get("model", ""))
    if options.dataset:
        if options.dataset not in datasets.list_benchmarks():
            known = datasets.list_benchmarks()
            raise UserError(
                f"--dataset: {unknown_name_message('data set', options.dataset, known)}"
            )
        benchmark = datasets.load_benchmark(options.dataset, str(options.data_root))
        model = model or benchmark.training_config.model
    check_writable("--results", options.results)
    if is_url(options.records):
        check_storage(open_storage(options.records))
    else:
        check_writable("--storage", Path(options.records))
    with join_cluster(find_cluster(options.address)) as nodes:
        found: list[Finding] = []
        asked = options.gpus_per_trial
        try:
            resources = choose_resources(nodes, options.cpus_per_trial, asked)
        except UserError as error:
            found = [Finding("error", "", str(error))]
            gpus = asked if isinstance(asked, float) else 0.0
            resources = Resources(options.cpus_per_trial, gpus)
        requirements = Requirements(
            dataset=options.dataset,
            data_root=str(options.data_root.absolute()),
            storages=(options.records,),
            models=(model,) if model else (),
            cpus=resources.cpus,
            gpus=resources.gpus,
        )
        found += check_cluster(requirements, options.results)
        print(format_report(found))
    return int(any(finding.level == "error" for finding in found))
