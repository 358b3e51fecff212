"""Facts about one node of a cluster, collected by a task on it. Independent of Ray."""

import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from common.errors import UserError
from common.files import find_existing_parent
from tuning.gpus import Gpu, is_mps_running, list_gpus
from tuning.records.open_storage import open_storage
from tuning.records.provenance import PACKAGES
from tuning.records.storage import describe_error, is_url

TEST_FILE = ".evenhand-token-"  # written by each node, to show that the others see it
DRIVER = "driver"  # the name under which the driver writes its own


@dataclass(frozen=True)
class Requirements:
    """The needs of a study that the doctor checks on every node.

    Args:
        dataset: The benchmark; empty checks no data.
        data_root: The folder of the data sets, absolute.
        storages: Folders and URLs that all nodes must share: the records.
        models: Names of models whose weights trials need.
        cpus: CPUs of a trial.
        gpus: Share of a GPU, or GPUs, of a trial.
    """

    dataset: str = ""
    data_root: str = "data"
    storages: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    cpus: float = 1
    gpus: float = 0


@dataclass(frozen=True)
class NodeFacts:
    """Facts about a node.

    Args:
        host: Its host name.
        versions: Versions of Python and the packages that affect numbers.
        gpus: Its GPUs, as its driver reports them.
        free_gib: Free space of each storage, of the folder for temporary files and of the data's
            cache.
        storage_errors: Why it cannot see or write a storage, by storage.
        data_errors: Errors of the data set.
        prepared: Whether the data set's arrays are prepared; None where none are needed.
        model_errors: Why models' weights are not available.
        mps: Whether NVIDIA's Multi-Process Service runs, by which processes share a GPU at the
            same time.
    """

    host: str
    versions: dict[str, str]
    gpus: tuple[Gpu, ...] = ()
    free_gib: dict[str, float] = field(default_factory=dict)
    storage_errors: dict[str, str] = field(default_factory=dict)
    data_errors: tuple[str, ...] = ()
    prepared: bool | None = None
    model_errors: tuple[str, ...] = ()
    mps: bool = False

    @property
    def device_count(self) -> int:
        """The number of devices that CUDA offers: GPUs, or the MIG slices of those with any."""
        return sum(len(gpu.slices) or 1 for gpu in self.gpus)


def collect_facts(
    requirements: Requirements, token: str, node_id: str, runs_trials: bool
) -> NodeFacts:
    """Return the facts about this node.

    Args:
        requirements: The needs of the study.
        token: A name of this check, for its test files.
        node_id: A name of the node, for its test file.
        runs_trials: Whether the node can hold trials, so that data and models matter.
    """
    data_errors, prepared = _check_data(requirements) if runs_trials else ((), None)
    caches = find_caches(requirements) if runs_trials else ()
    errors = {s: _check_storage(s, token, node_id) for s in requirements.storages}
    return NodeFacts(
        host=socket.gethostname(),
        versions=list_versions(),
        gpus=list_gpus(),
        free_gib=measure_free_space((*requirements.storages, find_temporary_folder(), *caches)),
        storage_errors={storage: error for storage, error in errors.items() if error},
        data_errors=data_errors,
        prepared=prepared,
        model_errors=_check_models(requirements.models) if runs_trials else (),
        mps=is_mps_running(),
    )


def read_clock() -> float:
    """Return this node's time in seconds since 1970."""
    return time.time()


def list_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect numbers."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def measure_free_space(folders: Iterable[str]) -> dict[str, float]:
    """Return the free GiB of folders, or of their nearest existing parents, once for each disk."""
    found = [str(find_existing_parent(Path(f))) for f in folders if not is_url(f)]
    disks = {os.stat(folder).st_dev: folder for folder in reversed(found)}
    return {folder: shutil.disk_usage(folder).free / 1024**3 for folder in disks.values()}


def find_temporary_folder() -> str:
    """Return the folder for temporary files, Ray's included."""
    return os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()


def find_caches(requirements: Requirements) -> tuple[str, ...]:
    """Return the folder of the data set's prepared arrays, if it has any."""
    import datasets
    from datasets.on_disk import OnDisk
    from datasets.storage.array_cache import cache_folder

    if not requirements.dataset:
        return ()
    benchmark = datasets.load_benchmark(requirements.dataset, requirements.data_root)
    if not isinstance(benchmark, OnDisk):
        return ()
    return (str(cache_folder(benchmark.cache_name, benchmark.data_root).absolute()),)


def _check_storage(storage: str, token: str, node_id: str) -> str:
    """Write this node's test file; return why it or the driver's cannot be written or seen."""
    if not is_url(storage) and not os.path.isdir(storage):
        return "the folder does not exist there"
    try:
        opened = open_storage(storage).with_short_timeouts()
        if not opened.exists(f"{TEST_FILE}{token}-{DRIVER}"):
            return "it is another folder there: the head's test file is missing"
        opened.write_bytes(f"{TEST_FILE}{token}-{node_id}", node_id.encode())
    except (OSError, UserError) as error:
        return describe_error(error)
    return ""


def _check_data(requirements: Requirements) -> tuple[tuple[str, ...], bool | None]:
    """Return the data set's errors, and whether its arrays are prepared."""
    import datasets
    from datasets.on_disk import OnDisk
    from datasets.storage.array_cache import find_cache_problems, list_caches

    if not requirements.dataset:
        return (), None
    try:
        benchmark = datasets.load_benchmark(requirements.dataset, requirements.data_root)
        benchmark.check_requirements()
        if not isinstance(benchmark, OnDisk):
            return (), None
        problems = benchmark.find_problems()
        if problems:
            more = f"; and {len(problems) - 1} more" if len(problems) > 1 else ""
            return (problems[0] + more,), None
        caches = list_caches(benchmark.cache_name, benchmark.data_root)
        return (), any(not find_cache_problems(path) for path in caches)
    except UserError as error:
        return (str(error),), None


def _check_models(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    from core.models import check_model_weights

    return tuple(problem for name in names if (problem := check_model_weights(name)))
