"""The storage contract of records: named bytes, which appear as a whole or not at all."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from common.errors import UserError
from common.paths import URL_START

SCHEMES = ("s3", "gs")  # of the URLs of records


class StorageError(UserError):
    """Records could not be read or written: a full disk, a lost mount, an unreachable network."""


class Storage(ABC):
    """A folder or an object-store prefix; a name may have parts, separated by ``/``."""

    @abstractmethod
    def read_bytes(self, name: str) -> bytes | None:
        """Return the bytes stored under a name; None where there are none."""

    @abstractmethod
    def write_bytes(self, name: str, data: bytes) -> None:
        """Replace the content of a name atomically."""

    @abstractmethod
    def atomic_write(self, name: str) -> AbstractContextManager[Path]:
        """Yield a temporary file, which is stored under the name when the block succeeds."""

    @abstractmethod
    def open_file(self, name: str) -> BinaryIO | None:
        """Open a name for reading; return None where nothing is stored under it."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete a name if it exists."""

    @abstractmethod
    def list_names(self) -> list[str]:
        """Return the first part of every stored name, sorted, without hidden ones."""

    @abstractmethod
    def exists(self, name: str) -> bool:
        """Return whether something is stored under a name."""

    @abstractmethod
    def list_modification_times(self) -> dict[str, float]:
        """Return when each name, of any number of parts, was written, in seconds since 1970.

        An object store is asked by one listing for all names.
        """

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of the location."""

    @abstractmethod
    def __truediv__(self, name: str) -> "Storage":
        """Return the storage below a name, as ``pathlib`` does."""

    def with_short_timeouts(self) -> "Storage":
        """Return the same storage with timeouts of seconds, for checks."""
        return self

    @abstractmethod
    def __str__(self) -> str:
        """Return the path or URL, which messages show and ``open_storage`` accepts."""


@contextmanager
def storage_errors(storage: Storage) -> Iterator[None]:
    """Convert errors of a file system or an object store into a :class:`StorageError`.

    Raises:
        StorageError: If the block raises an OSError.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot read or write in '{storage}': {describe_error(error)}; all recorded results "
            "are kept: fix the cause, then run the same command with --resume"
        ) from error


def describe_error(error: Exception) -> str:
    """Return the first line of an error of the system or of an object store."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    # Google's errors repeat themselves after this word.
    return lines[0].partition(" error_info=")[0] if lines else type(error).__name__


def is_url(location: str | Path) -> bool:
    """Return whether a location is a URL, not a path."""
    return "://" in str(location)


def make_absolute(location: str | Path) -> str:
    """Return a path as an absolute path and a URL unchanged."""
    if isinstance(location, Path):  # a path that was read as one, such as --results
        return os.path.abspath(location)
    if is_url(location):
        return location
    refuse_misspelled_url(location)
    return os.path.abspath(location)


def refuse_misspelled_url(location: str | Path) -> None:
    """Refuse what looks like a URL and is none of ours, such as ``s3:/bucket`` or ``host:/folder``.

    Raises:
        UserError: If it does; the message shows the right form.
    """
    text = str(location)
    scheme, colon, rest = text.partition(":")
    known = " or ".join(f"{name}://" for name in SCHEMES)
    if colon and scheme.lower() in SCHEMES:
        right = f"{scheme.lower()}://"
        if not text.startswith(right):
            bucket = rest.lstrip("/").rpartition("@")[2]  # credentials are not repeated
            raise UserError(
                f"--storage: received '{scheme}:...', expected {right}{bucket}; write "
                f"./{scheme}:... for a folder of that name"
            )
    elif URL_START.match(text):
        raise UserError(
            f"--storage: received '{text}', expected a folder, or a URL that begins with {known}; "
            f"write ./{scheme}:... for a folder of that name"
        )
