"""Records in a folder of a file system."""

import contextlib
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from common.files import atomic_write
from tuning.records.storage import Storage


class LocalStorage(Storage):
    """A folder of a file system.

    Args:
        path: Its path; the folder need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read_bytes(self, name: str) -> bytes | None:
        """Return the content of a file; None where it does not exist."""
        try:
            return (self.path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def write_bytes(self, name: str, data: bytes) -> None:
        """Replace a file atomically."""
        with self.atomic_write(name) as new:
            new.write_bytes(data)

    def atomic_write(self, name: str) -> AbstractContextManager[Path]:
        """Yield a temporary file, which replaces the named one when the block succeeds."""
        return atomic_write(self.path / name)

    def open_file(self, name: str) -> BinaryIO | None:
        """Open a file for reading; return None where it does not exist."""
        try:
            return (self.path / name).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def delete(self, name: str) -> None:
        """Delete a file if it exists."""
        with contextlib.suppress(NotADirectoryError):
            (self.path / name).unlink(missing_ok=True)

    def list_names(self) -> list[str]:
        """Return the names of files and folders, without hidden ones such as temporary files."""
        try:
            return sorted(name for name in os.listdir(self.path) if not name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def exists(self, name: str) -> bool:
        """Return whether a file exists."""
        return (self.path / name).is_file()

    def list_modification_times(self) -> dict[str, float]:
        """Return when each file was last written, in seconds since 1970, also in subfolders."""
        found: dict[str, float] = {}
        for folder, _, names in os.walk(self.path):
            for path in (Path(folder, name) for name in names):
                with contextlib.suppress(OSError):  # removed meanwhile
                    found[path.relative_to(self.path).as_posix()] = path.stat().st_mtime
        return found

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.name

    def __truediv__(self, name: str) -> "LocalStorage":
        """Return a folder in this one."""
        return LocalStorage(self.path / name)

    def __str__(self) -> str:
        """Return the path."""
        return str(self.path)
