"""``python tune.py doctor``: checks a cluster for a study."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import datasets
from common.arguments import Parser
from common.errors import UserError
from core.recipe.assignments import parse_assignments
from datasets.environments.base import EnvironmentBenchmark
from tuning.cli.parser import add_options
from tuning.cluster.addresses import find_cluster
from tuning.cluster.connection import join_cluster
from tuning.doctor.findings import Finding, format_report
from tuning.doctor.node_facts import Requirements
from tuning.doctor.run_checks import check_cluster
from tuning.option_values import Gpus
from tuning.options import Options, locate_records
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
    dataset: str = given.get("dataset", "")
    data_root: Path = given.get("data_root", Options.data_root)
    results: Path = given.get("results", Options.results)
    records = locate_records(results, given.get("storage"))
    asked: Gpus = given.get("gpus_per_trial")
    cpus: int = given.get("cpus_per_trial", Options.cpus_per_trial)
    model = str(pinned.get("model", ""))
    if dataset:
        datasets.check_name(dataset, data_root, "--dataset")
        benchmark = datasets.load_benchmark(dataset, str(data_root))
        dataset = benchmark.reference
        if not isinstance(benchmark, EnvironmentBenchmark):  # whose networks have no weights
            model = model or benchmark.training_config.model
    check_writable("--results", results)
    if is_url(records):
        check_storage(open_storage(records))
    else:
        check_writable("--storage", Path(records))
    with join_cluster(find_cluster(given.get("address"))) as nodes:
        findings: list[Finding] = []
        try:
            resources = choose_resources(nodes, cpus, asked)
        except UserError as error:
            findings = [Finding("error", "", str(error))]
            gpus = asked if isinstance(asked, float) else 0.0
            resources = Resources(cpus, gpus)
        requirements = Requirements(
            dataset=dataset,
            data_root=str(data_root.absolute()),
            storages=(records,),
            models=(model,) if model else (),
            cpus=resources.cpus,
            gpus=resources.gpus,
        )
        findings += check_cluster(requirements, results)
        print(format_report(findings))
    return int(any(finding.level == "error" for finding in findings))
