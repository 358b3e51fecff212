"""``python tune.py publish`` and ``verify``: a model for others, and the check of its row."""

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.arguments import Parser
from common.errors import UserError, unknown_name_message
from common.files import find_existing_parent, wrap_os_errors, write_text
from common.paths import parse_path
from core.hub_model import write_hub_model
from core.kept_model import load_kept_run, read_kept_key
from core.recipe.assignments import DATA_ROOT_HELP
from core.reinforcement.run import ReinforcementRun
from tuning.option_values import at_least
from tuning.publishing.archive import (
    MODEL,
    VERSION,
    ArchiveManifest,
    verify_archive,
    write_archive,
)
from tuning.publishing.archive_checks import (
    CONFIG,
    SEEDS,
    TOLERANCE,
    ArchiveCheck,
    Winner,
    check_data,
    check_parts,
    check_row,
    name_predictions,
    read_seeds,
)
from tuning.publishing.model_card import (
    ARCHIVE,
    PublishedModel,
    find_base_model,
    has_files,
    write_model_card,
)
from tuning.reporting.export_method import MODEL_NAME
from tuning.reporting.summary import FILE_NAME, Summary, scan_summaries

FOLDER_MODE = 0o755
PUBLISH_EPILOG = """\
examples:
  python tune.py --method dro --dataset colored_digits --keep-models
  python tune.py publish results --method dro --dataset colored_digits --to published/dro
  python tune.py verify published/dro/evenhand.zip

The model is that of the best confirmation seed by the selection rule of the study.
"""
VERIFY_EPILOG = """\
example:
  python tune.py verify evenhand.zip --data-root data

The exit code is 1 if anything differs.
"""


def make_publish_parser() -> Parser:
    """Return the parser of ``publish``."""
    parser = Parser(
        prog="python tune.py publish",
        description="Write the best seed's model as a folder in the form of the Hugging Face Hub: "
        "weights, configuration,\ntokenizer or image processor, a model card, and an archive with "
        "which others verify the row.",
        epilog=PUBLISH_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("results", metavar="RESULTS", type=parse_path, help="a results folder")
    parser.add_argument("--method", metavar="M", required=True, help="the method")
    parser.add_argument("--dataset", metavar="D", required=True, help="the data set")
    parser.add_argument(
        "--to", metavar="FOLDER", type=parse_path, required=True, help="a new or empty folder"
    )
    _add_data_root(parser)
    return parser


def make_verify_parser() -> Parser:
    """Return the parser of ``verify``."""
    parser = Parser(
        prog="python tune.py verify",
        description="Check an archive of publish: the hashes of its files, the means and\n"
        "deviations of its row, and the metrics of its model, evaluated on the test split again.",
        epilog=VERIFY_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("archive", metavar="ARCHIVE", type=parse_path, help="the archive")
    parser.add_argument(
        "--tolerance",
        metavar="X",
        type=at_least(0.0),
        default=TOLERANCE,
        help=f"largest difference of a metric, because machines round differently (default: "
        f"{TOLERANCE:g})",
    )
    _add_data_root(parser)
    return parser


def _add_data_root(parser: Parser) -> None:
    parser.add_argument(
        "--data-root",
        type=parse_path,
        default=Path("data"),
        metavar="DIR",
        help=f"{DATA_ROOT_HELP} (default: data)",
    )


def run_publish(arguments: Sequence[str]) -> int:
    """Run the command; return 0.

    Raises:
        UserError: If there is no model to publish, the folder is not empty, or the data or the
            model are not those that the study recorded.
    """
    args = make_publish_parser().parse_args(arguments)
    summary = _find_summary(args.results, args.dataset, args.method)
    source, target = args.results / args.dataset / args.method, args.to
    if not (source / MODEL_NAME).is_file():
        raise UserError(
            f"'{source}' has no {MODEL_NAME}: studies keep models with --keep-models only; run "
            f"python tune.py --method {args.method} --dataset {args.dataset} --search published "
            "--keep-models --results NEW, or the command in its best_config.yaml with --keep-models"
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"--to: '{target}' exists and is not empty; choose another folder")
    if not find_existing_parent(target).is_dir():
        raise UserError(f"--to: '{find_existing_parent(target)}' is a file; choose another folder")
    winner, seeds = Winner.read(source / CONFIG), read_seeds(source / SEEDS)
    run = load_kept_run(source / MODEL_NAME, args.data_root)
    if isinstance(run, ReinforcementRun):
        raise UserError(f"--dataset: {args.dataset} is a simulator: its policies are not published")
    seed, data_hash = run.key.seed, run.benchmark.data_hash
    _require(source, check_data(args.dataset, data_hash, winner.data_hash))
    key = read_kept_key(source / MODEL_NAME)
    _require(source, check_parts((args.method, args.dataset, seed), summary, winner, key, seeds))
    metrics = run.evaluate_split("test").compute_metrics()
    _require(source, check_row(seeds, summary, seed, metrics))
    with wrap_os_errors(target), _write_folder(target) as folder:
        architecture = write_hub_model(run.model, run.benchmark, folder)
        if architecture is None:
            shutil.copyfile(source / MODEL_NAME, folder / MODEL)
        commands = [winner.command, winner.command_of_one_seed]
        name = key.training_config.model
        base = find_base_model(name, key.training_config.from_scratch)
        model = PublishedModel(summary, seed, architecture, metrics, name, base, commands)
        write_text(folder / "README.md", write_model_card(model, run.benchmark))
        manifest = ArchiveManifest(
            version=VERSION,
            dataset=args.dataset,
            method=args.method,
            seed=seed,
            data_hash=data_hash,
            metrics=metrics,
            files={},
        )
        write_archive(folder / ARCHIVE, manifest, _list_files(source, seed))
    loader = architecture or ("python -m core.predict" if has_files(run.benchmark) else "verify")
    print(f"{target}: seed {seed}, the best by {summary.rule}; loaded by {loader}")
    return 0


def _require(source: Path, check: ArchiveCheck) -> None:
    """Raise a UserError if the results do not pass a check."""
    if check.problem:
        raise UserError(
            f"'{source}' is not published: {check.name}: {check.problem}; restore the data and the "
            "results of the study, or run it again"
        )


@contextmanager
def _write_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside the target, which it becomes when the block ends."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield folder
        folder.chmod(FOLDER_MODE)  # mkdtemp's is for its owner alone
        folder.replace(target)  # an empty target is replaced
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _find_summary(results: Path, dataset: str, method: str) -> Summary:
    """Return the summary of a method's results.

    Raises:
        UserError: If there is none; the message suggests others.
    """
    summaries, left_out = scan_summaries(results)
    own = str(results / dataset / method / FILE_NAME)
    if damaged := [file for file in left_out if file.file == own]:
        raise UserError(f"'{own}': {damaged[0].reason}; write it again with python tune.py export")
    if not summaries:
        raise UserError(f"no results in '{results}': expected a results folder of a study")
    known = sorted({summary.dataset for summary in summaries})
    if dataset not in known:
        raise UserError(f"--dataset: {unknown_name_message('data set', dataset, known)}")
    methods = {found.method: found for found in summaries if found.dataset == dataset}
    if method not in methods:
        raise UserError(f"--method: {unknown_name_message('method', method, sorted(methods))}")
    return methods[method]


def _list_files(source: Path, seed: int) -> Mapping[str, Path]:
    """Return the files of an archive: the row, its seeds and winner, the model, its predictions."""
    names = [FILE_NAME, SEEDS, CONFIG, MODEL_NAME, name_predictions(seed)]
    return {name: source / name for name in names if (source / name).is_file()}


def run_verify(arguments: Sequence[str]) -> int:
    """Run the command; return 0, or 1 if anything differs.

    Raises:
        UserError: If the archive is damaged or none of ours, or the data are not here.
    """
    args = make_verify_parser().parse_args(arguments)
    if args.archive.is_dir():
        inside = args.archive / ARCHIVE
        hint = f"'{inside}'" if inside.is_file() else "an archive of python tune.py publish"
        raise UserError(f"'{args.archive}' is a folder; expected {hint}")
    if not args.archive.is_file():
        raise UserError(f"{args.archive}: missing; expected an archive of python tune.py publish")
    with tempfile.TemporaryDirectory(prefix="evenhand-verify-") as folder:
        checks = verify_archive(
            args.archive, Path(folder) / "archive", args.data_root, args.tolerance
        )
    for check in checks:
        print(f"{'differs' if check.problem else 'ok'}: {check.name}"
              + (f": {check.problem}" if check.problem else ""))  # fmt: skip
    return int(any(check.problem for check in checks))
