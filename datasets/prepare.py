"""``python -m datasets.prepare NAME ...``: download, verify and cache data sets."""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import datasets
from common.arguments import Parser
from common.errors import UserError, ValidationErrors
from common.files import CannotWrite, lock_file, wrap_os_errors
from common.interrupts import EXIT_CODE, clean_up_after_signals
from common.paths import parse_path
from common.terminal import run_command
from common.text import format_count
from datasets.fetch.archives import extract_archive, is_archive
from datasets.fetch.http import download_file
from datasets.fetch.sources import SOURCES, Source, mirror_sources, read_sources
from datasets.groups.folder import Folder
from datasets.on_disk import OnDisk
from datasets.own.columns import parse_columns
from datasets.own.splits import DrawnSplit, parse_shares
from datasets.storage.array_cache import find_cache_problems, invalidate_cache, list_caches
from datasets.storage.texts import TokenizerNotFound

MAX_PRINTED_PROBLEMS = 50  # of a data set

EPILOG = """\
Without --download the files are expected in their folders, in the layout of the original projects
(docs/data_sets.md). Steps that are done are skipped: the command can be repeated, and resumes
after an interruption.

exit status: 0 complete; 1 files are missing or damaged, or a group has no validation examples;
2 wrong arguments or a failed download; 130 interrupted

examples:
  python -m datasets.prepare waterbirds celeba --data-root data --download
  python -m datasets.prepare civilcomments --data-root data --check
  python -m datasets.prepare waterbirds --data-root data --download --source http://mirror/birds/
"""


@dataclass(frozen=True)
class PrepareOptions:
    """The options of the command.

    Args:
        names: The data sets.
        data_root: The folder of all data sets.
        download: Whether missing files are downloaded.
        check: Whether files are only verified.
        source: An address to download from in place of those of ``sources``.
        sources: The file of addresses and checksums.
        no_cache: Whether the cache is left to the first training run.
        columns: Usual names of an own table's columns, each ``COLUMN=NAME``.
        split: The shares of a split to draw for own data.
        seed: The seed of that split.
    """

    names: list[str]
    data_root: Path
    download: bool = False
    check: bool = False
    source: str | None = None
    sources: Path = SOURCES
    no_cache: bool = False
    columns: list[str] = field(default_factory=list)
    split: str | None = None
    seed: int | None = None

    def validate(self) -> None:
        """Refuse unknown data sets and options that contradict each other.

        Raises:
            UserError: At the first mistake.
        """
        for name in self.names:
            datasets.check_name(name, self.data_root)
        if self.source and len(self.names) > 1:
            raise UserError(
                f"--source: received {len(self.names)} data sets, expected one; give --sources a "
                "file for several"
            )
        if (self.source or self.sources != SOURCES) and not self.download:
            raise UserError("--source and --sources have no effect without --download")
        if self.data_root.exists() and not self.data_root.is_dir():
            raise UserError(f"--data-root: received {self.data_root}, a file; expected a folder")
        if self.check and (self.columns or self.split):
            raise UserError("--check and --columns or --split exclude each other")
        if self.seed is not None and not self.split:
            raise UserError("--seed has no effect without --split")
        if self.check and self.download:
            raise UserError("--check and --download exclude each other: --check changes nothing")


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the data sets' names and ``--data-root``."""
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="data sets; own data: folder:NAME or a path"
    )
    parser.add_argument(
        "--data-root",
        type=parse_path,
        default=Path("data"),
        metavar="DIR",
        help="folder of all data sets (default: data)",
    )


def make_parser() -> Parser:
    """Return the parser of this command."""
    parser = Parser(
        prog="python -m datasets.prepare",
        description="Prepare data sets: download and extract their files, write the tables of\n"
        "groups, verify everything, and decode images or tokenize texts into a cache that\n"
        "all trials on a machine share.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_data_arguments(parser)
    add = parser.add_argument
    add("--download", action="store_true", help="download missing files")
    add(
        "--check",
        action="store_true",
        help="only verify all files and list those that are missing or damaged; change nothing",
    )
    add(
        "--source",
        metavar="URL",
        help="download from this address: a folder on a server with the files of sources.yaml "
        "under their names, or one archive of the data set's whole folder; checksums are not "
        "compared",
    )
    add(
        "--sources",
        metavar="FILE",
        type=parse_path,
        default=SOURCES,
        help="addresses and checksums, in the form of datasets/fetch/sources.yaml (the default)",
    )
    add(
        "--columns",
        action="append",
        default=[],
        metavar="COLUMN=NAME,...",
        help="meaning of own columns, kept in the folder's dataset.yaml: place=a,kind=label; NAME "
        "is image, text, label, attribute, split or id",
    )
    add(
        "--split",
        metavar="SHARES",
        help="draw a split of own data without one, with these shares of each group, and keep "
        "them in dataset.yaml: 0.7/0.1/0.2; two shares, 0.8/0.2, draw validation from training "
        "where only validation is missing",
    )
    add("--seed", type=int, metavar="N", help="seed of --split (default: 0)")
    add("--no-cache", action="store_true", help="leave decoding or tokenizing to the first run")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = PrepareOptions(**vars(make_parser().parse_args(arguments)))
    try:
        options.validate()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    status = 0
    for name in dict.fromkeys(options.names):
        try:
            with clean_up_after_signals():
                status = max(status, run_for_data_set(name, options))
        except KeyboardInterrupt:
            print(f"{name}: interrupted; the same command resumes from here", file=sys.stderr)
            return EXIT_CODE
    return status


def run_for_data_set(name: str, options: PrepareOptions) -> int:
    """Prepare or check one data set, and print the result; return its exit status."""
    try:
        benchmark = datasets.load_benchmark(name, options.data_root)
        name = benchmark.name
        if not isinstance(benchmark, OnDisk):
            print(f"{name}: nothing to prepare: its data come with the installed packages")
            return 0
        benchmark = reload_benchmark(benchmark)  # files may have changed since the last call
        if options.columns or options.split:
            for line in remember_choices(benchmark, options):
                print(f"{name}: {line}")
            benchmark = reload_benchmark(benchmark)
        for sentence in benchmark.list_folder_choices():
            print(f"{name}: {sentence}", file=sys.stderr)
        problems = (
            verify_data_set(benchmark) if options.check else prepare_data_set(benchmark, options)
        )
    except ValidationErrors as error:
        problems = list(dict.fromkeys(error.problems))
    except (UserError, OSError) as error:
        print(f"error: {name}: {error}", file=sys.stderr)
        return 2
    if problems:
        print_problems(name, problems)
        return 1
    assert isinstance(benchmark, OnDisk)
    print(f"{name}: complete ({benchmark.folder})")
    benchmark = reload_benchmark(benchmark)
    for sentence in benchmark.find_outdated_files():
        print(f"{name}: warning: {sentence}", file=sys.stderr)
    for sentence in benchmark.list_notices():
        print(f"{name}: note: {sentence}", file=sys.stderr)
    warnings = benchmark.list_warnings()
    for sentence in warnings:
        print(f"{name}: warning: it cannot be trained on: {sentence}", file=sys.stderr)
    return 1 if warnings else 0


def remember_choices(benchmark: OnDisk, options: PrepareOptions) -> list[str]:
    """Keep the meaning of columns and the split in the folder's own file; return a message.

    Raises:
        UserError: If they do not fit the table or the file, or the data are not own data.
    """
    if not isinstance(benchmark, Folder):
        raise UserError("--columns and --split are for own data: folder:NAME, or a path")
    split = None
    if options.split:
        split = DrawnSplit(parse_shares(options.split), options.seed or 0)
    return benchmark.remember_choices(parse_columns(options.columns), split)


def reload_benchmark(benchmark: OnDisk) -> OnDisk:
    """Return a new instance, which has read no file yet."""
    reloaded = datasets.load_benchmark.__wrapped__(benchmark.reference, benchmark.data_root)
    assert isinstance(reloaded, OnDisk)
    return reloaded


def print_problems(name: str, problems: Sequence[str]) -> None:
    """Print the first problems of a data set, and their number."""
    for sentence in problems[:MAX_PRINTED_PROBLEMS]:
        print(f"{name}: {sentence}", file=sys.stderr)
    if len(problems) > MAX_PRINTED_PROBLEMS:
        more = len(problems) - MAX_PRINTED_PROBLEMS
        print(f"{name}: ... and {more:,} more", file=sys.stderr)
    print(f"{name}: not complete: {format_count(len(problems), 'problem')}", file=sys.stderr)


def verify_data_set(benchmark: OnDisk) -> list[str]:
    """Return a sentence for each missing or damaged file of a data set and its caches."""
    problems = benchmark.find_problems() or benchmark.verify_files()
    for sentences in find_damaged_caches(benchmark).values():
        problems += [f"{sentence}; without --check it is built again" for sentence in sentences]
    return problems


def find_damaged_caches(benchmark: OnDisk) -> dict[Path, list[str]]:
    """Return the problems of each damaged cache; reads them all."""
    caches = list_caches(benchmark.cache_name, benchmark.data_root)
    found = {folder: find_cache_problems(folder, full=True) for folder in caches}
    return {folder: sentences for folder, sentences in found.items() if sentences}


def prepare_data_set(benchmark: OnDisk, options: PrepareOptions) -> list[str]:
    """Download a data set, write its metadata and cache; return the problems that remain."""
    with lock_data_set(benchmark, options.download):
        if options.download and benchmark.find_problems():
            with wrap_os_errors(benchmark.data_root, "choose another --data-root"):
                fetch_sources(benchmark, choose_sources(benchmark, options))
            benchmark = reload_benchmark(benchmark)
        problems = benchmark.find_problems()
        if not problems:  # a table of wrong rows would outlive the files it was made from
            try:
                benchmark.write_metadata()
            except CannotWrite as error:
                made_anew = f"{benchmark.name}: its table is made anew in each run"
                print(f"{made_anew}: {error}", file=sys.stderr)
    if not problems and not options.no_cache:
        for folder in find_damaged_caches(benchmark):
            invalidate_cache(folder)
        try:
            benchmark.build_cache()
        except TokenizerNotFound as error:
            print(f"{benchmark.name}: not tokenized yet: {error}", file=sys.stderr)
    return problems


@contextmanager
def lock_data_set(benchmark: OnDisk, download: bool) -> Iterator[None]:
    """Hold the lock of a data set's folder, unless nothing is missing where nothing can be written.

    Raises:
        CannotWrite: If files are to be downloaded into a folder that cannot be written.
    """
    root = benchmark.data_root
    lock = root / f".{name_folder(benchmark)}.prepare.lock"
    with ExitStack() as stack:
        try:
            with wrap_os_errors(root, "choose another --data-root"):
                if download:
                    root.mkdir(parents=True, exist_ok=True)
                if root.is_dir():
                    notice = f"{benchmark.name}: another process prepares it"
                    stack.enter_context(lock_file(lock, notice))
        except CannotWrite:
            if download and benchmark.find_problems():
                raise
        yield


def name_folder(benchmark: OnDisk) -> str:
    """Return the path of a data set's folder below the data root, as a name."""
    return os.path.relpath(benchmark.folder, benchmark.data_root).replace(os.sep, "-")


def choose_sources(benchmark: OnDisk, options: PrepareOptions) -> list[Source]:
    """Return the files to download.

    Raises:
        UserError: If no address is known.
    """
    sources = read_sources(options.sources).get(benchmark.folder_name, [])
    if options.source:
        sources = mirror_sources(options.source, sources)
    if not sources:
        raise UserError(
            f"no address to download from; put the files into {benchmark.folder} "
            f"({benchmark.card.source})"
        )
    return sources


def fetch_sources(benchmark: OnDisk, sources: Sequence[Source]) -> None:
    """Download and extract the files of a data set, then delete the downloads."""
    downloads = benchmark.data_root / ".downloads" / name_folder(benchmark)
    for source in sources:
        path = downloads / source.file
        print(f"{benchmark.name}: fetching {source.url}")
        download_file(source.url, path, source.sha256, source.git_blob)
        target = benchmark.folder / source.to
        if is_archive(path):
            # An archive of a whole data set may wrap its folder.
            names = {benchmark.folder.name, *benchmark.other_folder_names}
            wrapping = sorted(names.difference(benchmark.landmarks)) if source.to == "." else ()
            try:
                extract_archive(path, target, wrapping=wrapping)
            except UserError:
                path.unlink()  # so that the next call downloads it anew
                raise
        else:
            target.mkdir(parents=True, exist_ok=True)
            path.replace(target / source.file)
    shutil.rmtree(downloads, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
