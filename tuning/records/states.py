"""States of runs that have not ended: torch files, read with ``weights_only``."""

import errno
import zipfile
from pathlib import Path
from pickle import UnpicklingError

import torch

from core.training.run_state import EpochState, decode_state
from tuning.records.storage import Storage, storage_errors


def write_state_file(path: Path, state: EpochState) -> None:
    """Write a state into a local file."""
    with path.open("wb") as file:
        torch.save(state.as_dict(), file)


def read_state_file(storage: Storage, name: str) -> EpochState | None:
    """Return a stored state; None where it is missing, damaged or of another version.

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
                return decode_state(torch.load(file, weights_only=True))
        except (RuntimeError, EOFError, ValueError, UnpicklingError, zipfile.BadZipFile):
            return None
        except OSError as error:
            if error.errno not in (None, errno.EINVAL):  # a wrong offset raises EINVAL
                raise
            return None
