"""The records of one method on one data set: ``<storage>/<dataset>/<method>``.

Files::

    study.json     the definition of the study, which a resumed study must share
    study.yaml     the options of the last command that ran it, for python tune.py resume
    export.json    further facts for exports
    probe.json     the GPU share of --gpus-per-trial auto, with the measurements behind it
    runs/<digest>  the record of each training run
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Self

from common.errors import UserError
from core.training.profiling import Usage
from tuning.records.decoding import decode_fields
from tuning.records.export_context import ExportContext
from tuning.records.json_files import read_stored_object, write_stored_json
from tuning.records.open_storage import open_storage
from tuning.records.run_data import RunDescription
from tuning.records.run_record import RunRecord
from tuning.records.storage import Storage, storage_errors
from tuning.records.study_definition import StudyDefinition
from tuning.records.version import RECORD_VERSION, check_record_version

MAX_REQUESTS = 16  # at once: an object store answers each within tens of milliseconds


@dataclass(frozen=True)
class GpuProbe:
    """The content of ``probe.json``: the GPU use of a method's runs.

    Args:
        share: The share of a GPU for a trial.
        usage: The measurements.
    """

    share: float
    usage: Usage

    def as_dict(self) -> dict[str, object]:
        """Return the content of ``probe.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> Self | None:
        """Return the probe that :meth:`as_dict` encoded; None for anything else."""
        try:
            return decode_fields(cls, data, usage=partial(decode_fields, Usage))
        except (KeyError, TypeError):
            return None


class MethodRecords:
    """The records of one method on one data set.

    Args:
        location: Their storage, or the path or URL of it; the folder need not exist yet.
    """

    def __init__(self, location: Storage | Path | str) -> None:
        self.storage = location if isinstance(location, Storage) else open_storage(location)

    @property
    def name(self) -> str:
        """The name of the method."""
        return self.storage.name

    def read_definition(self) -> StudyDefinition | None:
        """Return the definition of the study; None where it is missing or damaged.

        Raises:
            UserError: If another version of the project wrote it.
        """
        found = read_stored_object(self.storage, "study.json")
        if not found:
            return None
        fields = check_record_version(found, str(self.storage / "study.json"))
        return StudyDefinition.from_dict(fields)

    def write_definition(self, definition: StudyDefinition) -> None:
        """Write the definition of the study."""
        data = {"record_version": RECORD_VERSION, **definition.as_dict()}
        write_stored_json(self.storage, "study.json", data)

    def check_readable(self) -> None:
        """Refuse records whose study cannot be identified.

        Raises:
            UserError: If there are runs without a definition, or if another version of the project
                wrote the records.
        """
        if self.read_definition() is None and self.list_runs():
            raise UserError(
                f"'{self.storage / 'study.json'}' is missing or damaged, so the study of its runs "
                "is unknown: choose another --results folder"
            )

    def write_study_file(self, text: str) -> None:
        """Write the options of the command that runs the study, as YAML."""
        with storage_errors(self.storage):
            self.storage.write_bytes("study.yaml", text.encode("utf-8"))

    def read_probe(self) -> GpuProbe | None:
        """Return the GPU probe; None where it is missing or damaged."""
        found = read_stored_object(self.storage, "probe.json")
        return None if found is None else GpuProbe.from_dict(found)

    def write_probe(self, probe: GpuProbe) -> None:
        """Write the GPU probe."""
        write_stored_json(self.storage, "probe.json", probe.as_dict())

    def read_context(self) -> ExportContext | None:
        """Return the facts for exports; None where they are missing or damaged."""
        found = read_stored_object(self.storage, "export.json")
        return None if found is None else ExportContext.from_dict(found)

    def write_context(self, context: ExportContext) -> None:
        """Write the facts for exports."""
        write_stored_json(self.storage, "export.json", context.as_dict())

    def open_run(self, digest: str) -> RunRecord:
        """Return the record of the run with this key, which need not exist yet."""
        return RunRecord(self.storage / "runs" / digest)

    def list_runs(self) -> list[RunRecord]:
        """Return the records of all runs with a readable description, sorted by name.

        Raises:
            UserError: If another version of the project wrote one of them.
        """
        return [run for run, _ in self.read_runs()]

    def read_runs(
        self, skip_other_versions: bool = False
    ) -> list[tuple[RunRecord, RunDescription]]:
        """Return the records of all runs with a readable description, with the description.

        Args:
            skip_other_versions: Whether to leave out runs that another version of the project
                wrote.

        Raises:
            UserError: If another version wrote one of them, unless they are left out.
        """
        read = _read_own_description if skip_other_versions else RunRecord.read_description
        runs = self.storage / "runs"
        with storage_errors(runs):
            found = [RunRecord(runs / name) for name in runs.list_names()]
        with ThreadPoolExecutor(MAX_REQUESTS) as pool:
            described = zip(found, pool.map(read, found), strict=True)
            return [(run, description) for run, description in described if description is not None]


def _read_own_description(run: RunRecord) -> RunDescription | None:
    """Return the description of a run; None also where another version wrote it."""
    try:
        return run.read_description()
    except UserError:
        return None
