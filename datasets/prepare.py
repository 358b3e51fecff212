"""``python -m datasets.prepare NAME ...``: fetches, organises, checks and caches data sets."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import datasets
from common.arguments import Parser
from common.errors import UserError, ValidationErrors, unknown_name_message
from common.files import lock_file, wrap_os_errors
from datasets.fetch.archives import extract_archive, is_archive
from datasets.fetch.http import download_file
from datasets.fetch.sources import SOURCES, Source, mirror_sources, read_sources
from datasets.on_disk import OnDisk
from datasets.storage.array_cache import cache_folder, find_cache_problems, invalidate_cache
from datasets.storage.texts import TokenizerNotFound

SHOWN = 50  # problems of a data set that are printed one by one

EPILOG = """\
Without --download the files are expected to lie in their folders already, as the original
projects have them (docs/data_sets.md). Every step is skipped where it is done: the command may be
repeated, and goes on where it was stopped.

exit status: 0 all is well; 1 something is missing or damaged, or a group lacks validation examples;
2 the command itself went wrong; 130 it was stopped

examples:
  python -m datasets.prepare waterbirds celeba --data-root data --download
  python -m datasets.prepare civilcomments --data-root data --check
  python -m datasets.prepare waterbirds --data-root data --download --source http://mirror/birds/
"""


def parser() -> Parser:
    """Return the parser of this command."""
    found = Parser(
        prog="python -m datasets.prepare",
        description="Prepare data sets: download and extract them, make their tables of groups, "
        "verify them, and decode or tokenise them into the cache that all trials of a machine "
        "share.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    found.add_argument("names", nargs="+", metavar="NAME", help="a data set, or several")
    found.add_argument(
        "--data-root", type=Path, default=Path("data"), help="the folder of all data sets (data)"
    )
    found.add_argument("--download", action="store_true", help="fetch what is missing")
    found.add_argument(
        "--check",
        action="store_true",
        help="only verify, file by file, and say what is missing or damaged; changes nothing",
    )
    found.add_argument(
        "--source",
        metavar="URL",
        help="fetch from here instead: a folder on a server with the files of sources.yaml under "
        "their names, or one archive with all of the data set's folder; its checksums are not "
        "known and not compared",
    )
    found.add_argument(
        "--sources",
        metavar="FILE",
        type=Path,
        default=SOURCES,
        help="addresses and checksums, in the form of datasets/fetch/sources.yaml",
    )
    found.add_argument(
        "--no-cache", action="store_true", help="do not decode or tokenise now, but when first used"
    )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = parser().parse_args(arguments)
    code = 0
    try:
        for name in options.names:
            if name not in datasets.list_benchmarks():
                raise UserError(unknown_name_message("data set", name, datasets.list_benchmarks()))
        if options.source and len(options.names) > 1:
            raise UserError("--source is of one data set; several names: give --sources a file")
        if (options.source or options.sources != SOURCES) and not options.download:
            raise UserError("--source and --sources say where to download from: add --download")
        if options.data_root.exists() and not options.data_root.is_dir():
            raise UserError(f"--data-root: received {options.data_root}, a file; expected a folder")
        if options.check and options.download:
            raise UserError("--check changes nothing and --download does: give one of them")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        for name in dict.fromkeys(options.names):
            code = max(code, _run(name, options))
    except KeyboardInterrupt:
        print(f"{name}: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return code


def _run(name: str, options: argparse.Namespace) -> int:
    """Prepare or check one data set; return its exit status."""
    try:
        benchmark = datasets.load_benchmark(name, options.data_root)
        if not isinstance(benchmark, OnDisk):
            print(f"{name}: nothing to prepare: its data come with the installed packages")
            return 0
        benchmark = type(benchmark)(options.data_root)  # files may have changed since the last call
        found = check(benchmark) if options.check else prepare(benchmark, options)
    except ValidationErrors as error:
        found = list(dict.fromkeys(error.problems))
    except UserError as error:
        print(f"error: {name}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {name}: {error}", file=sys.stderr)
        return 2
    for sentence in found[:SHOWN]:
        print(f"{name}: {sentence}", file=sys.stderr)
    if len(found) > SHOWN:
        print(f"{name}: ... and {len(found) - SHOWN:,} more", file=sys.stderr)
    if found:
        print(f"{name}: not complete: {len(found):,} missing or damaged", file=sys.stderr)
        return 1
    assert isinstance(benchmark, OnDisk)
    print(f"{name}: complete ({benchmark.folder})")
    again = type(benchmark)(options.data_root)  # which has read nothing yet
    for sentence in again.find_outdated_files():
        print(f"{name}: but {sentence}", file=sys.stderr)
    cautions = again.list_warnings()
    for sentence in cautions:
        print(f"{name}: but it cannot be trained on: {sentence}", file=sys.stderr)
    return 1 if cautions else 0


def check(benchmark: OnDisk) -> list[str]:
    """Return all that is missing or damaged in a data set's files and in its caches."""
    found = benchmark.find_problems() or benchmark.verify_files()
    for sentences in damaged_caches(benchmark).values():
        found += [f"{sentence}; without --check it is built again" for sentence in sentences]
    return found


def damaged_caches(benchmark: OnDisk) -> dict[Path, list[str]]:
    """Return what is wrong with each damaged cache; reads them all."""
    folders = sorted(cache_folder(benchmark.cache_name, benchmark.data_root).glob("*"))
    caches = [path for path in folders if path.is_dir() and not path.name.startswith(".")]
    found = {folder: find_cache_problems(folder, full=True) for folder in caches}
    return {folder: sentences for folder, sentences in found.items() if sentences}


def prepare(benchmark: OnDisk, options: argparse.Namespace) -> list[str]:
    """Fetch, organise and cache a data set; return what is missing or damaged then."""
    root = benchmark.data_root
    hint = "free some room, and give the same command again"
    with wrap_os_errors(root, hint):
        root.mkdir(parents=True, exist_ok=True)
        lock = root / f".{benchmark.folder.name}.prepare.lock"
        with lock_file(lock, f"{benchmark.name}: another process prepares it"):
            if options.download and benchmark.find_problems():
                fetch(benchmark, sources(benchmark, options))
                benchmark = type(benchmark)(root)  # forgets what it read before
            found = benchmark.find_problems()
            if not found:  # a table of wrong rows would outlive the mended files it was made of
                benchmark.write_metadata()
    if not found and not options.no_cache:
        for folder in damaged_caches(benchmark):
            invalidate_cache(folder)
        try:
            benchmark.build_cache()
        except TokenizerNotFound as error:
            print(f"{benchmark.name}: not tokenised yet: {error}", file=sys.stderr)
    return found


def sources(benchmark: OnDisk, options: argparse.Namespace) -> list[Source]:
    """Return what to download.

    Raises:
        UserError: If no address is known.
    """
    found = read_sources(options.sources).get(benchmark.folder_name, [])
    if options.source:
        found = mirror_sources(options.source, found)
    if not found:
        raise UserError(
            f"no address to download from; put the files into {benchmark.folder} "
            f"({benchmark.card.source})"
        )
    return found


def fetch(benchmark: OnDisk, parts: Sequence[Source]) -> None:
    """Download and extract the files of a data set; what was downloaded is then deleted."""
    kept = benchmark.data_root / ".downloads" / benchmark.folder.name
    for part in parts:
        path = kept / part.file
        print(f"{benchmark.name}: fetching {part.url}")
        download_file(part.url, path, part.sha256)
        target = benchmark.folder / part.to
        if is_archive(path):
            try:
                extract_archive(path, target, wrapping=_wrapping(benchmark, part))
            except UserError:
                path.unlink()  # so that the next call fetches it anew
                raise
        else:
            target.mkdir(parents=True, exist_ok=True)
            path.replace(target / part.file)
    shutil.rmtree(kept, ignore_errors=True)


def _wrapping(benchmark: OnDisk, part: Source) -> tuple[str, ...]:
    """Return the name of the folder in which an archive of a whole data set may be wrapped."""
    if part.to != ".":
        return ()
    return (benchmark.folder.name,)


if __name__ == "__main__":
    sys.exit(main())
