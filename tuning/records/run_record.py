"""The record of one training run: a folder that is named by the key of the run.

Files of a run's folder::

    run.json             its key, and its role in the study
    rows.json            one row per finished epoch
    audit.json           test metrics per epoch, with --audit-test only
    oom.json             why it did not fit into its share of a GPU; it then takes a whole one
    last.pt, best.pt     states of a run that has not ended; best only of a confirmation seed, whose
                         test split is read at its best epoch
    predictions.parquet  of a confirmation seed
    model.safetensors    of a confirmation seed, with --keep-models
    end.json             how it ended: status, reason, all rows, test metrics

Every file is replaced atomically, so a reader never sees half of one, and two live copies of a run
do no harm: they write the same content. The rows of a finished run are read from ``end.json``,
which is written once, so a late copy cannot shorten them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError

from core.training.epoch_row import EpochRow
from core.training.run_state import EpochState
from tuning.records.decoding import check_type
from tuning.records.json_files import (
    read_stored_list,
    read_stored_object,
    write_stored_json,
)
from tuning.records.open_storage import open_storage
from tuning.records.run_data import (
    Metrics,
    RunDescription,
    RunEnd,
    decode_rows,
    describe_whole_gpu_retry,
)
from tuning.records.states import read_state_file, write_state_file
from tuning.records.storage import Storage, storage_errors
from tuning.records.version import check_record_version

UNNEEDED_FILES = {"last.pt", "best.pt", "rows.json", "oom.json"}  # of a run that has ended


class RunRecord:
    """The record of one training run.

    Args:
        location: Its storage, or the path or URL of it; the folder need not exist yet.
    """

    def __init__(self, location: Storage | Path | str) -> None:
        self.storage = location if isinstance(location, Storage) else open_storage(location)

    @property
    def name(self) -> str:
        """The digest of the run's key."""
        return self.storage.name

    @property
    def location(self) -> str:
        """The path or URL of the record."""
        return str(self.storage)

    def write_description(self, description: RunDescription) -> None:
        """Write ``run.json`` unless it exists."""
        if self.read_description() is None:
            write_stored_json(self.storage, "run.json", description.as_dict())

    def read_description(self) -> RunDescription | None:
        """Return the content of ``run.json``; None where it is missing or damaged.

        Raises:
            UserError: If another version of the project wrote it.
        """
        found = read_stored_object(self.storage, "run.json")
        if not found or "key" not in found:
            return None
        fields = check_record_version(found, str(self.storage / "run.json"))
        return RunDescription.from_dict(fields)

    def read_end(self) -> RunEnd | None:
        """Return how the run ended; None for a run that has not."""
        found = read_stored_object(self.storage, "end.json")
        return None if found is None else RunEnd.from_dict(found)

    def read_rows(self) -> tuple[EpochRow, ...]:
        """Return the rows of the finished epochs."""
        end = self.read_end()
        return tuple(end.rows) if end else self.read_unfinished_rows()

    def read_unfinished_rows(self) -> tuple[EpochRow, ...]:
        """Return the rows of the finished epochs of a run that has not ended."""
        try:
            return decode_rows(read_stored_list(self.storage, "rows.json"))
        except (TypeError, ValueError):  # damaged
            return ()

    def read_audit(self) -> list[Metrics]:
        """Return the test metrics of each epoch; only for oracle rules, and for exports."""
        found = read_stored_list(self.storage, "audit.json")
        try:
            check_type(found, list[Metrics])
        except TypeError:  # damaged
            return []
        return list(found)

    def write_epoch(
        self,
        rows: Sequence[EpochRow],
        audit: Sequence[Metrics] = (),
        state: EpochState | None = None,
        is_best: bool = False,
    ) -> None:
        """Write the record of a run after an epoch.

        A late copy of a run, whose trial continued elsewhere, changes nothing.

        Args:
            rows: All rows so far.
            audit: The test metrics of each; empty without an audit.
            state: The state after the epoch.
            is_best: Whether to keep it as the state of the best epoch too.
        """
        if self.read_end() is not None or len(self.read_unfinished_rows()) > len(rows):
            return
        if audit:
            write_stored_json(self.storage, "audit.json", audit)
        write_stored_json(self.storage, "rows.json", [row.as_dict() for row in rows])
        if state is not None:
            if is_best:
                self._write_state("best", state)
            self._write_state("last", state)

    def reopen(self) -> None:
        """Let a run that has ended continue: its epochs are kept, its end is deleted.

        Without its state, which :meth:`clean_up` deletes, these epochs are trained again.
        """
        end = self.read_end()
        if end is not None:
            rows = [row.as_dict() for row in end.rows]
            write_stored_json(self.storage, "rows.json", rows)
            with storage_errors(self.storage):
                self.storage.delete("end.json")

    def write_end(self, end: RunEnd) -> None:
        """Write how the run ended, once, and delete the files that it no longer needs."""
        if self.read_end() is None:
            if oom_reason := self.oom_reason:
                reason = end.reason or describe_whole_gpu_retry(oom_reason)
                end = replace(end, reason=reason, retried_whole_gpu=True)
            write_stored_json(self.storage, "end.json", end.as_dict())
        self.clean_up()

    def clean_up(self) -> None:
        """Delete the files that an ended run no longer needs, also after a kill during this."""
        with storage_errors(self.storage):
            for name in UNNEEDED_FILES.intersection(self.storage.list_names()):
                self.storage.delete(name)

    @property
    def oom_reason(self) -> str:
        """Why the run did not fit into its share of a GPU; empty unless it takes a whole one."""
        found = read_stored_object(self.storage, "oom.json") or {}
        return str(found.get("reason", ""))

    def write_oom_reason(self, reason: str) -> None:
        """Record that the run did not fit into its share of a GPU."""
        write_stored_json(self.storage, "oom.json", {"reason": reason})

    def _write_state(self, name: str, state: EpochState) -> None:
        with self.atomic_write(f"{name}.pt") as new:
            write_state_file(new, state)

    def read_state(self, name: str) -> EpochState | None:
        """Return the state ``last`` or ``best``; None where it is missing or damaged.

        Raises:
            StorageError: If the storage cannot be read; the state may be undamaged.
        """
        return read_state_file(self.storage, f"{name}.pt")

    def open_file(self, name: str) -> BinaryIO | None:
        """Open a file of the record for reading; return None where it does not exist.

        Raises:
            StorageError: If the storage cannot be read.
        """
        with storage_errors(self.storage):
            return self.storage.open_file(name)

    @contextmanager
    def atomic_write(self, name: str) -> Iterator[Path]:
        """Yield a temporary file, which is stored under the name when the block succeeds.

        Raises:
            StorageError: If it cannot be stored.
        """
        with storage_errors(self.storage), self.storage.atomic_write(name) as new:
            try:
                yield new
            except (RuntimeError, SafetensorError) as error:  # torch and safetensors raise these
                raise OSError("a file could not be written; is the disk full?") from error
