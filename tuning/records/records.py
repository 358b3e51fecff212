"""Records: the only truth about a study. Each training run owns a folder named by its key.

Files of a run's folder::

    run.json             its key, and what the study uses it for
    rows.json            a row per finished epoch
    audit.json           test metrics per epoch, with --audit-test only
    oom.json           that it did not fit into its share of a GPU and takes a whole one
    last.pt, best.pt     states of a run that has not ended (torch, loaded with weights_only); best
                         of a confirmation seed alone, whose test split is read there
    predictions.parquet  of a confirmation seed
    model.safetensors    of a confirmation seed, with --keep-models
    end.json             its end: status, reason, all rows, test metrics

They lie in a folder that all nodes share, or in an object store (:mod:`tuning.records.storage`).
Every file is replaced as a whole, so a reader never sees half of one, and two living copies of a
run do no harm: they write the same. A finished run's rows are read from ``end.json``, which is
written once, so that a late copy cannot shorten them.
"""

import errno
import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from common.errors import UserError
from common.files import find_existing_parent
from tuning.records.storage import LocalStorage, Storage, atomic_write, open_storage, storage_errors

# What a state holds; one of another version of the project counts as absent.
STATE = {
    "epochs_done", "model", "optimizer", "schedule", "weighting", "sample_counts", "microbatch"
}  # fmt: skip
OOM_FILE = "oom.json"


def describe_whole_gpu_retry(short: str) -> str:
    """Return what a run's end says that went well on a whole GPU after it failed on a share."""
    return f"ran again on a whole GPU after {short}"


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as new:
        new.write_text(text, encoding="utf-8")


def write_json(path: Path, data: object) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(data, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Return what a JSON file holds, or None where it is absent or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def _parsed(where: Storage, name: str) -> Any:
    """Return what a place's JSON holds, or None where it is absent or damaged."""
    with storage_errors(where):
        data = where.read(name)
    try:
        return None if data is None else json.loads(data.decode("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None


def _mapping(where: Storage, name: str, keys: set[str]) -> dict[str, Any] | None:
    """Return a JSON mapping with at least these keys; None where it is absent or damaged."""
    found = _parsed(where, name)
    return found if isinstance(found, dict) and keys <= set(found) else None


def _list(where: Storage, name: str) -> list[dict[str, Any]]:
    """Return a JSON list; empty where it is absent or damaged."""
    found = _parsed(where, name)
    return found if isinstance(found, list) else []


def _write(where: Storage, name: str, data: object) -> None:
    text = json.dumps(data, indent=1) + "\n"
    with storage_errors(where):
        where.write(name, text.encode("utf-8"))


class _Stored:
    """Something that lies in a place.

    Args:
        where: The place, or its path or URL; it need not exist yet.
    """

    def __init__(self, where: Storage | Path | str) -> None:
        self.storage = where if isinstance(where, Storage) else open_storage(where)

    @property
    def name(self) -> str:
        """The last part of the place's name."""
        return self.storage.name

    @property
    def path(self) -> Path:
        """The folder, for those who know that it is one."""
        assert isinstance(self.storage, LocalStorage)
        return self.storage.path


class RunRecord(_Stored):
    """The record of one training run."""

    def begin(self, description: Mapping[str, Any]) -> None:
        """Write ``run.json`` unless it is there."""
        if self.description is None:
            _write(self.storage, "run.json", description)

    @property
    def description(self) -> dict[str, Any] | None:
        """What ``run.json`` holds; None where it is absent or damaged."""
        return _mapping(self.storage, "run.json", {"phase", "number", "config", "key"})

    @property
    def end(self) -> dict[str, Any] | None:
        """How the run ended; None while it has not."""
        return _mapping(self.storage, "end.json", {"status", "reason", "rows"})

    def rows(self) -> list[dict[str, Any]]:
        """Return the finished epochs' rows."""
        end = self.end
        return list(end["rows"]) if end else _list(self.storage, "rows.json")

    def audit(self) -> list[dict[str, Any]]:
        """Return the test metrics of each epoch. Only rules that are labelled so may look."""
        return _list(self.storage, "audit.json")

    def write_rows(self, rows: list[dict[str, Any]], audit: list[dict[str, Any]]) -> None:
        """Write the rows, and the test metrics where there are any.

        What a late copy of a run writes, whose trial went on elsewhere, changes nothing.
        """
        if self._beyond(len(rows)):
            return
        if audit:
            _write(self.storage, "audit.json", audit)
        _write(self.storage, "rows.json", rows)

    def write_end(self, end: Mapping[str, Any]) -> None:
        """Write how the run ended, once, and drop what nobody needs any more."""
        if self.end is None:
            short = self.oom_reason
            if short:
                reason = end["reason"] or describe_whole_gpu_retry(short)
                end = {**end, "reason": reason, "retried_whole_gpu": True}
            _write(self.storage, "end.json", end)
        self.clean_up()

    def clean_up(self) -> None:
        """Drop what nobody needs of a run that has ended; also after a kill in the middle of it."""
        with storage_errors(self.storage):
            for name in set(self.storage.names()) & {"last.pt", "best.pt", "rows.json", OOM_FILE}:
                self.storage.delete(name)

    @property
    def oom_reason(self) -> str:
        """Why the run did not fit into its share of a GPU and takes a whole one; empty if not."""
        found = _mapping(self.storage, OOM_FILE, {"reason"})
        return str(found["reason"]) if found else ""

    def write_oom_reason(self, reason: str) -> None:
        """Write that the run did not fit into its share of a GPU."""
        _write(self.storage, OOM_FILE, {"reason": reason})

    def write_state(self, name: str, state: Mapping[str, Any]) -> None:
        """Write the state ``last`` or ``best``, unless the record is beyond it."""
        if self._beyond(state["epochs_done"]):
            return
        with self.atomic_write(f"{name}.pt") as new, new.open("wb") as file:
            torch.save(dict(state), file)

    def _beyond(self, epochs: int) -> bool:
        """Return whether the run has ended, or more epochs than these are recorded."""
        return self.end is not None or len(_list(self.storage, "rows.json")) > epochs

    @contextmanager
    def atomic_write(self, name: str) -> Iterator[Path]:
        """Give a file to write, which is stored under a name when the block ends well.

        Raises:
            StorageError: If it cannot be stored.
        """
        with storage_errors(self.storage), self.storage.atomic_write(name) as new:
            try:
                yield new
            except (RuntimeError, SafetensorError) as error:  # so fail torch's and that writer
                raise OSError("a file could not be written; is the disk full?") from error

    def state(self, name: str) -> dict[str, Any] | None:
        """Return the state ``last`` or ``best``; None where it is absent or damaged.

        Raises:
            StorageError: If the place does not answer, which says nothing of the state.
        """
        with storage_errors(self.storage):
            file = self.storage.open(f"{name}.pt")
            if file is None:
                return None
            try:
                with file:
                    with zipfile.ZipFile(file) as archive:  # torch does not look at the checksums
                        if archive.testzip() is not None:
                            return None
                    file.seek(0)
                    found: dict[str, Any] = torch.load(file, weights_only=True)
            except (RuntimeError, EOFError, ValueError, UnpicklingError, zipfile.BadZipFile):
                return None
            except OSError as error:
                if error.errno not in (None, errno.EINVAL):  # which a wrong offset gives
                    raise
                return None
        return found if isinstance(found, dict) and set(found) >= STATE else None


class MethodRecords(_Stored):
    """The records of one method on one data set: ``<storage>/<dataset>/<method>``."""

    @property
    def definition(self) -> dict[str, Any] | None:
        """What the study was started with; None where that is absent or damaged."""
        return _mapping(self.storage, "study.json", {"dataset", "search"})

    def check_readable(self) -> None:
        """Refuse records whose definition cannot be read.

        Raises:
            UserError: If there are runs without it: they may be of another study.
        """
        if self.definition is None and self.folders():
            raise UserError(
                f"'{self.storage / 'study.json'}' is missing or damaged, so nobody knows which "
                "study its runs belong to: name another folder with --results"
            )

    def define(self, definition: Mapping[str, Any]) -> None:
        """Write what the study is."""
        _write(self.storage, "study.json", definition)

    @property
    def probe(self) -> dict[str, Any] | None:
        """What was measured of the method on a GPU, and the share of it that follows."""
        return _mapping(self.storage, "probe.json", {"share", "usage"})

    def write_probe(self, probe: Mapping[str, Any]) -> None:
        """Write what was measured of the method on a GPU."""
        _write(self.storage, "probe.json", probe)

    def folder(self, digest: str) -> RunRecord:
        """Return the record of the run with this key."""
        return RunRecord(self.storage / "runs" / digest)

    def folders(self) -> list[RunRecord]:
        """Return all runs' records that can be read, in the order of their names."""
        runs = self.storage / "runs"
        with storage_errors(runs):
            found = [RunRecord(runs / name) for name in runs.names()]
        return [folder for folder in found if folder.description is not None]


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each entry in which a study's definition differs from the command."""
    return [
        f"{name}: the study has {stored.get(name)!r}, this command asks for {asked.get(name)!r}"
        for name in sorted({*stored, *asked})
        if stored.get(name) != asked.get(name)
    ]


def check_writable(option: str, folder: Path) -> None:
    """Refuse a folder in which nothing can be written, without making it.

    Raises:
        UserError: If a file cannot be made in it or in its nearest existing parent.
    """
    existing = find_existing_parent(folder, follow_links=False)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f"{option}: cannot write in '{folder}': {existing}: {reason}") from None
