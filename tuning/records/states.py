"""States of runs that have not ended: torch files, read with ``weights_only``."""

import errno
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from tuning.records.storage import Storage, storage_errors

State = dict[str, Any]  # of a run, by "Run.state_dict"

# A state with other entries is from another version of the project and counts as missing.
STATE_ENTRIES = {
    "epochs_done", "model", "optimizer", "schedule", "weighting", "sample_counts", "microbatch"
}  # fmt: skip


def write_state_file(path: Path, state: State) -> None:
    """Write a state into a local file."""
    with path.open("wb") as file:
        torch.save(dict(state), file)


def read_state_file(storage: Storage, name: str) -> State | None:
    """Return a stored state; None where it is missing or damaged.

    Raises:
        StorageError: If the storage cannot be read; the state may be undamaged.
    """
    with storage_errors(storage):
        file = storage.open_file(name)
        if file is None:
            return None
        try:
            with file:
                with zipfile.ZipFile(file) as archive:  # torch does not verify the checksums
                    if archive.testzip() is not None:
                        return None
                file.seek(0)
                state: State = torch.load(file, weights_only=True)
        except (RuntimeError, EOFError, ValueError, UnpicklingError, zipfile.BadZipFile):
            return None
        except OSError as error:
            if error.errno not in (None, errno.EINVAL):  # a wrong offset raises EINVAL
                raise
            return None
    return state if isinstance(state, dict) and set(state) >= STATE_ENTRIES else None
