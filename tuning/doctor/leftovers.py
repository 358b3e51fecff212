"""Files of this project that nothing needs any more, on this machine."""

import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import datasets
from common.errors import UserError
from common.files import TEMPORARY_NAME, TEMPORARY_PREFIX
from datasets.on_disk import OnDisk
from datasets.own.references import list_own_data
from datasets.storage.array_cache import cache_folder, list_caches
from tuning.cluster.connection import SESSION_MARK
from tuning.cluster.ray_private import find_temporary_folder
from tuning.cluster.tuner import TEMPORARY
from tuning.records.local_storage import LocalStorage
from tuning.records.lock import LockHolder, describe_holder, exclusive_lock
from tuning.records.method_records import MethodRecords
from tuning.records.run_record import UNNEEDED_FILES
from tuning.records.storage import is_url
from tuning.reporting.summary import FILE_NAME as SUMMARY_FILE

OLD_SECONDS = 24 * 3600.0  # after which nobody writes an unfinished file any more
QUIET_SECONDS = 3600.0  # without a change, after which a folder without its process is not used
METHOD_FILES = (SUMMARY_FILE, "study.json", "export.json")  # in a method's results and records
# The process in evenhand-<process>-<random>, and in Ray's session_<date>_<time>_<process>.
PROCESS = re.compile(rf"^{TEMPORARY}(\d+)-\w+$|^session_[-\d]+_[-\d]+_\d+_(\d+)$")


@dataclass(frozen=True)
class Leftover:
    """Something that could be removed.

    Args:
        kind: What it is.
        path: The file or folder.
        size: Its bytes.
        remove: Removes it, unless it is in use by now.
    """

    kind: str
    path: Path
    size: int
    remove: Callable[[], None]


def find_leftovers(records: str, results: Path, data_root: Path) -> Iterator[Leftover]:
    """Yield what could be removed; never records, results, or files of a running study.

    Args:
        records: The folder of the records; a URL is left out.
        results: The results folder.
        data_root: The folder of all data sets.
    """
    if not is_url(records):
        yield from _find_states(Path(records))
        yield from _find_unfinished(Path(records))
    yield from _find_unfinished(results)
    yield from _find_caches(data_root)
    yield from _find_temporary_folders()


def _find_states(records: Path) -> Iterator[Leftover]:
    """Yield the states of runs that have ended, which a process that was killed left."""
    for runs in records.glob("*/*/runs"):
        storage = LocalStorage(runs.parent)
        if describe_holder(storage) is not None:
            continue
        for run in MethodRecords(storage).list_runs():
            if run.read_end() is None:
                continue
            for name in sorted(UNNEEDED_FILES):
                path = runs / run.name / name
                if path.is_file():
                    remove = partial(_remove_under_lock, storage, path)
                    yield Leftover("state of a run that has ended", path, measure(path), remove)


def _find_unfinished(folder: Path) -> Iterator[Leftover]:
    """Yield files of studies that a process began to write long ago, named as it names them."""
    methods = {path.parent for name in METHOD_FILES for path in folder.glob(f"*/*/{name}")}
    shared = {path for method in methods for path in (method.parent, folder)}
    if (folder / "study.yaml").is_file():
        shared.add(folder)
    held = {path for path in methods if describe_holder(LocalStorage(path)) is not None}
    found = [path for one in shared for path in one.glob(f"{TEMPORARY_PREFIX}*")]
    found += [path for one in methods - held for path in one.rglob(f"{TEMPORARY_PREFIX}*")]
    for path in sorted(found):
        is_ours = TEMPORARY_NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink()
        if is_ours and _is_old(path):
            yield Leftover("unfinished file", path, measure(path), partial(remove_path, path))


def _find_caches(data_root: Path) -> Iterator[Leftover]:
    """Yield caches of data sets that were made from other files or parameters than today's.

    Caches outside the data root may be those of other data roots.
    """
    if not are_caches_inside(data_root):
        return
    current: dict[str, set[Path]] = {}
    unknown: set[str] = set()
    known = datasets.list_benchmarks()
    for name in sorted({*known, *list_own_data(data_root, known)}):
        try:
            benchmark = datasets.load_benchmark(name, str(data_root))
        except UserError:
            continue
        if not isinstance(benchmark, OnDisk):
            continue
        try:
            current.setdefault(benchmark.cache_name, set()).add(benchmark.cache_path)
        except (UserError, OSError):  # its files are not here
            unknown.add(benchmark.cache_name)
    for name in sorted(current.keys() - unknown):
        for path in list_caches(name, data_root):
            if path not in current[name] and _is_old(path):
                yield Leftover(
                    "cache of other data", path, measure(path), partial(remove_path, path)
                )


def are_caches_inside(data_root: Path) -> bool:
    """Return whether the caches of a data root are in it, and so of no other one."""
    return cache_folder("", data_root).resolve().is_relative_to(data_root.resolve())


def _find_temporary_folders() -> Iterator[Leftover]:
    """Yield the temporary folders of studies, and of their Ray, that have ended here."""
    found = {
        "temporary folder": Path(tempfile.gettempdir()).glob(f"{TEMPORARY}*"),
        "Ray session": (
            mark.parent for mark in Path(find_temporary_folder()).glob(f"session_*/{SESSION_MARK}")
        ),
    }
    for kind, paths in found.items():
        for path in sorted(paths):
            if not path.is_symlink() and _is_abandoned(path):
                yield Leftover(kind, path, measure(path), partial(remove_path, path))


def _is_abandoned(path: Path) -> bool:
    """Return whether the process that a folder's name has is gone, and nothing changes in it."""
    number = PROCESS.search(path.name)
    with suppress(OSError):
        if number is None or path.stat().st_uid != os.getuid():
            return False
        if not LockHolder(socket.gethostname(), int(number[1] or number[2]), "").has_ended:
            return False
        newest = max(file.lstat().st_mtime for file in (path, *path.rglob("*")))
        return time.time() - newest > QUIET_SECONDS
    return False


def _is_old(path: Path) -> bool:
    with suppress(FileNotFoundError):
        return time.time() - path.lstat().st_mtime > OLD_SECONDS
    return False


def measure(path: Path) -> int:
    """Return the bytes of a file or of all files of a folder."""
    files = [path] if not path.is_dir() else [*path.rglob("*")]
    total = 0
    for file in files:
        with suppress(OSError):
            total += file.lstat().st_size
    return total


def remove_path(path: Path) -> None:
    """Remove a file or a folder; a link is removed, not followed.

    Raises:
        OSError: If it cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_under_lock(storage: LocalStorage, path: Path) -> None:
    with exclusive_lock(storage):
        remove_path(path)
