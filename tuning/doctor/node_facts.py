"""What one node of a cluster is and has, as a task on it finds out; Ray and torch stay outside."""

import hashlib
import os
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from common.errors import UserError
from common.files import find_existing_parent
from common.project import ROOT, SOURCE_FOLDERS
from tuning.gpus import Gpu, is_mps_running, list_gpus
from tuning.records.open_storage import open_storage
from tuning.records.provenance import PACKAGES
from tuning.records.storage import describe_error, is_url

MARK = ".evenhand-token-"  # what a node writes to show that others see it
MPS = "nvidia-cuda-mps"  # how the names of its processes begin, as far as Linux shows them


@dataclass(frozen=True)
class Question:
    """What is asked of every node.

    Args:
        token: A word of this examination's own.
        places: Folders and URLs that all nodes must share.
        data_root: The folder of the data sets.
        dataset: The benchmark; empty asks nothing about data.
        models: Names of models whose weights trials need.
    """

    token: str
    places: tuple[str, ...]
    data_root: str
    dataset: str = ""
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What a node answers.

    Args:
        host: Its host name.
        versions: Of Python and the packages that decide numbers.
        code: Hash of the project's code there.
        gpus: Its GPUs, as its driver tells.
        free: Free GiB of each place, of the folder for temporary files and of the data's cache.
        unseen: Why it does not see or cannot write a place.
        data: What is wrong with the data set.
        cached: Whether the data set's arrays lie ready; None where there is nothing to prepare.
        models: Why models' weights are not to be had.
        mps: Whether NVIDIA's service runs that lets processes share a GPU at the same time.
    """

    host: str
    versions: dict[str, str]
    code: str
    gpus: tuple[Gpu, ...] = ()
    free: dict[str, float] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    cached: bool | None = None
    models: tuple[str, ...] = ()
    mps: bool = False

    @property
    def devices(self) -> int:
        """How many devices CUDA offers here: GPUs, and MIG slices in place of those cut up."""
        return sum(len(gpu.slices) or 1 for gpu in self.gpus)


def look(question: Question, node: str, trials: bool) -> Facts:
    """Return what this node is and has.

    Args:
        question: What is asked.
        node: A name of the node's own, for its token.
        trials: Whether the node can hold trials, so that data and models matter.
    """
    data, cached = _data(question) if trials and question.dataset else ((), None)
    return Facts(
        host=socket.gethostname(),
        versions=versions(),
        code=code_hash(),
        gpus=list_gpus(),
        free=room((*question.places, "/tmp", *(cache(question) if trials else ()))),
        unseen={p: why for p in question.places if (why := _unseen(p, question, node))},
        data=data,
        cached=cached,
        models=_models(question.models) if trials else (),
        mps=is_mps_running(),
    )


def clock() -> float:
    """Return this node's time in seconds since 1970."""
    return time.time()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide numbers."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def code_hash() -> str:
    """Return a hash of the project's code, wherever it lies."""
    found = hashlib.sha256()
    files = [path for name in SOURCE_FOLDERS for path in (ROOT / name).rglob("*")]
    for path in sorted(path for path in files if path.suffix in (".py", ".yaml")):
        found.update(path.relative_to(ROOT).as_posix().encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def existing(folder: str | Path) -> str:
    """Return a folder, or its nearest parent that exists: a study makes the rest."""
    return str(find_existing_parent(Path(folder)))


def room(folders: Sequence[str]) -> dict[str, float]:
    """Return the free GiB where folders lie or will lie, once for each disk."""
    found = [existing(folder) for folder in folders if not is_url(folder)]
    disks = {os.stat(folder).st_dev: folder for folder in reversed(found)}
    return {folder: shutil.disk_usage(folder).free / 1024**3 for folder in disks.values()}


def cache(question: Question) -> tuple[str, ...]:
    """Return the folder where the data set's arrays are prepared, if it is one that has any."""
    import datasets
    from datasets.on_disk import OnDisk
    from datasets.storage.array_cache import folder_of

    if not question.dataset:
        return ()
    benchmark = datasets.load(question.dataset, question.data_root)
    if not isinstance(benchmark, OnDisk):
        return ()
    return (str(folder_of(benchmark.cache_name, benchmark.data_root).absolute()),)


def _unseen(where: str, question: Question, node: str) -> str:
    """Leave this node's token at a place; return why the driver's is not seen or that cannot be."""
    if not is_url(where) and not os.path.isdir(where):
        return "the folder does not exist there"
    try:
        shared = open_storage(where).with_short_timeouts()
        if not shared.exists(f"{MARK}{question.token}-driver"):
            return "it is another folder there: what the head writes is not seen"
        shared.write_bytes(f"{MARK}{question.token}-{node}", node.encode())
    except (OSError, UserError) as error:
        return describe_error(error)
    return ""


def _data(question: Question) -> tuple[tuple[str, ...], bool | None]:
    import datasets
    from common.errors import UserError
    from datasets.on_disk import OnDisk
    from datasets.storage.array_cache import damage, folder_of

    try:
        benchmark = datasets.load(question.dataset, question.data_root)
        if not isinstance(benchmark, OnDisk):
            return (), None
        problems = benchmark.problems()
        if problems:
            more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
            return (problems[0] + more,), None
        caches = folder_of(benchmark.cache_name, benchmark.data_root).glob("*")
        return (), any(path.is_dir() and not damage(path) for path in caches)
    except UserError as error:
        return (str(error),), None


def _models(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    from core.models import unavailable

    return tuple(problem for name in names if (problem := unavailable(name)))
