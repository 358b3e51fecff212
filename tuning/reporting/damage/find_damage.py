"""Records that cannot be read: damaged, half-written, of another version, or of something else."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from common.errors import UserError
from tuning.records.json_files import read_stored_json
from tuning.records.method_records import MethodRecords
from tuning.records.run_data import RunEnd, decode_rows
from tuning.records.run_record import RunRecord
from tuning.records.storage import storage_errors


@dataclass(frozen=True)
class LeftOutFile:
    """A file that exports leave out.

    Args:
        file: Its path or URL.
        reason: Why.
    """

    file: str
    reason: str

    def __str__(self) -> str:
        """Return one line: the file and the reason."""
        return f"left out: {self.file}: {' '.join(self.reason.split())}"


def find_damaged_records(records: MethodRecords, intact: Collection[str] = ()) -> list[LeftOutFile]:
    """Return the files of a method's records that exports leave out, by name.

    Args:
        records: The records.
        intact: Names of runs that need no look, because all of them was read.

    Raises:
        StorageError: If the storage cannot be read.
    """
    storage = records.storage
    found = []
    with storage_errors(storage):
        names = storage.list_names()
        runs = (storage / "runs").list_names() if "runs" in names else []
        has_definition = storage.exists("study.json")
    if (has_definition or runs) and records.read_context() is None:
        found.append(LeftOutFile(str(storage / "export.json"), "missing or damaged"))
    for name in sorted(set(runs).difference(intact)):
        found += _check_run(records.open_run(name))
    return found


def _check_run(run: RunRecord) -> Iterator[LeftOutFile]:
    """Yield the files of a run that cannot be read."""
    storage = run.storage
    file = f"{run.location}/run.json"
    with storage_errors(storage):
        if not storage.exists("run.json"):
            yield LeftOutFile(file, "missing: not a training run, or half-written")
            return
    try:
        is_readable = run.read_description() is not None
    except UserError as error:  # of another version
        yield LeftOutFile(file, str(error).removeprefix(f"'{file}' "))
        return
    if not is_readable:
        found = read_stored_json(storage, "run.json")
        yield LeftOutFile(file, _describe(found, "a run's description"))
        return
    with storage_errors(storage):
        has_end, has_rows = storage.exists("end.json"), storage.exists("rows.json")
    if has_end:
        found = read_stored_json(storage, "end.json")
        if not isinstance(found, dict) or RunEnd.from_dict(found) is None:
            yield LeftOutFile(
                f"{run.location}/end.json", f"{_describe(found, 'how a run ended')}; it counts as "
                "unfinished"
            )  # fmt: skip
    elif has_rows:
        found = read_stored_json(storage, "rows.json")
        try:
            decode_rows(found)
        except (TypeError, ValueError):
            yield LeftOutFile(
                f"{run.location}/rows.json", f"{_describe(found, 'rows of epochs')}; it counts as "
                "a run without epochs"
            )  # fmt: skip


def _describe(found: object, expected: str) -> str:
    return "not valid JSON" if found is None else f"not {expected}"
