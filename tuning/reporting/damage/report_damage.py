"""Names files that exports leave out."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tuning.records.method_records import MethodRecords
from tuning.records.open_storage import open_storage
from tuning.reporting.damage.find_damage import LeftOutFile, find_damaged_records
from tuning.reporting.summary import scan_summaries


def find_damage(results: Path, storage: str) -> list[LeftOutFile]:
    """Return the damaged records of the methods in a results folder.

    Args:
        results: The results folder.
        storage: The records.
    """
    return [
        file
        for summary in scan_summaries(results)[0]
        for file in find_damaged_records(
            MethodRecords(open_storage(storage) / summary.dataset / summary.method)
        )
    ]


def report_left_out(files: Sequence[LeftOutFile]) -> int:
    """Print a line per file on standard error; return the exit code, 1 where there are any."""
    for file in files:
        print(file, file=sys.stderr)
    return 1 if files else 0
