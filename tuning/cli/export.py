"""``python tune.py export``: rebuild tables, and write single-task baselines for delta-m."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import datasets
from common.arguments import Parser
from common.errors import UserError, unknown_name_message
from common.files import write_text
from core.training.selection import RULES, get_rule
from datasets.multitask.base import TaskBenchmark
from datasets.multitask.baseline import Baseline
from datasets.published_results import list_published
from tuning.cli.parser import add_options
from tuning.options import Options, locate_records
from tuning.reporting.damage.report_damage import find_damage, report_left_out
from tuning.reporting.reselection import reselect_results
from tuning.reporting.summary import read_summary, scan_summaries
from tuning.reporting.tables import lock_results, write_tables

METHOD = "stl"  # trains one model per task


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = Parser(
        prog="python tune.py export",
        description="Rebuild the tables of a results folder from the summary.json of each method; "
        "records are read with --select only, which selects again by another rule. With "
        "--baseline, also make the single-task baseline of --dataset for delta-m, from the test "
        "metrics of a complete study of the method stl. With --with published, tables also have "
        "the rows of the literature, until a study rewrites them.",
        epilog="example: python tune.py --method stl --dataset two_digits && "
        "python tune.py export --baseline --dataset two_digits",
        argument_default=argparse.SUPPRESS,
    )
    add_options(
        parser,
        ("results", "dataset", "storage", "select"),
        {
            "dataset": "data set of --baseline; with --select, the only one",
            "select": "select epochs and winners again from the records by this rule, into "
            "<results>/by_RULE, and write <results>/<dataset>/selection.md, which compares all "
            f"rules; available: {', '.join(RULES)}",
        },
    )
    parser.add_argument(
        "--with",
        dest="added_rows",
        choices=("published",),
        help="add the published rows of each data set, with source and protocol, to its table and "
        "to the mean ranks; rows say whether they were measured here",
    )
    parser.add_argument(
        "--baseline",
        dest="write_baseline",
        action="store_true",
        help="write <results>/<dataset>/stl/baseline.json, a file for tune.py --baseline",
    )
    return parser


def run_export(arguments: Sequence[str]) -> int:
    """Run the command; return 0, or 1 where a damaged or foreign file is left out.

    Raises:
        UserError: If there is nothing to export.
    """
    given = vars(make_parser().parse_args(arguments))
    writes_baseline = given.pop("write_baseline", False)
    with_published = given.pop("added_rows", None) is not None
    results: Path = given.get("results", Options.results)
    dataset: str = given.get("dataset", "")
    rule: str | None = given.get("select")
    if not results.is_dir():
        raise UserError(f"--results: there is no folder '{results}'")
    if writes_baseline and not dataset:
        raise UserError("--baseline requires --dataset")
    if rule is not None:
        get_rule(rule, "--select")
    elif "storage" in given:
        raise UserError("--storage has no effect without --select: only that reads records")
    if rule is None and not writes_baseline and not any(scan_summaries(results)):
        raise UserError(
            f"--results: no results in '{results}': no <data set>/<method>/summary.json"
        )
    if dataset and not writes_baseline:
        _check_measured(results, dataset)
    with lock_results(results):
        if with_published:
            _describe_published(results)
        left_out = write_tables(results, with_published)
        print(f"tables: {results}")
        if rule is not None:
            storage = locate_records(results, given.get("storage"))
            left_out += find_damage(results, storage)
            print("\n".join(reselect_results(results, storage, rule, dataset)))
        if writes_baseline:
            print(f"baseline: {write_baseline(results, dataset)}")
    return report_left_out(left_out)


def _check_measured(results: Path, dataset: str) -> None:
    """Refuse a data set that has no results here.

    Raises:
        UserError: If it has none; the message suggests those that have.
    """
    measured = sorted({summary.dataset for summary in scan_summaries(results)[0]})
    if dataset not in measured:
        message = unknown_name_message("data set", dataset, measured)
        raise UserError(f"--dataset: no results in '{results}': {message}")


def _describe_published(results: Path) -> None:
    """Print the data sets without published rows.

    Raises:
        UserError: If none of the results has any.
    """
    measured = sorted({summary.dataset for summary in scan_summaries(results)[0]})
    missing = [name for name in measured if name not in list_published()]
    if missing == measured:
        listed = ", ".join(measured) or "results without a summary"
        raise UserError(
            f"--with published: there are no published rows for {listed}; known: "
            f"{', '.join(list_published())}"
        )
    if missing:
        print(f"no published rows: {', '.join(missing)}")


def write_baseline(results: Path, dataset: str) -> Path:
    """Write a data set's baseline file from the results of the method ``stl``; return its path.

    Raises:
        UserError: If ``stl`` has no complete result, or one that delta-m cannot be compared with.
    """
    datasets.check_name(dataset, option="--dataset")
    benchmark = datasets.load_benchmark(dataset)
    if not isinstance(benchmark, TaskBenchmark):
        raise UserError(f"--baseline: '{dataset}' is not a multi-task data set")
    folder = results / dataset / METHOD
    summary = read_summary(folder)
    if summary is None:
        raise UserError(
            f"'{folder}' has no result: run python tune.py --method stl --dataset {dataset} first"
        )
    if not summary.complete:
        raise UserError(f"'{folder}': the study is unfinished; continue it with --resume")
    metrics = {name: summary.metrics.get(f"test_{name}") for name in benchmark.task_metrics}
    undefined = [name for name, statistics in metrics.items() if statistics is None]
    if undefined:
        raise UserError(
            f"'{folder}': no baseline: undefined in every seed: {', '.join(undefined)}; check the "
            "test split, or train longer"
        )
    baseline = Baseline(
        name=f"{dataset}-stl",
        dataset=dataset,
        version=f"{summary.dataset_version}, {summary.provenance.commit or 'no commit'}",
        source=f"our method stl: mean test metrics of {summary.seeds} seeds, {summary.trials}"
        f" trials of {summary.epochs_per_trial} epochs, selected by {summary.rule}",
        metrics={name: found.mean for name, found in metrics.items() if found is not None},
        batch_averaged=summary.averaged_epochs > 0,
    )
    path = folder / "baseline.json"
    text = json.dumps(asdict(baseline), indent=1) + "\n"
    Baseline.from_json(text, f"'{folder}': no baseline")  # refuses values that --baseline refuses
    write_text(path, text)
    return path
