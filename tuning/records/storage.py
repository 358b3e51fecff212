"""A place for records: a folder, or a prefix in an object store (``s3://``, ``gs://``).

The few things that records need, the same for both. What is written appears as a whole or not at
all: a folder's file takes its name when it is complete, and an object exists once it is uploaded.
"""

import contextlib
import io
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from pyarrow import fs

from common.errors import UserError

SCHEMES = ("s3", "gs")
PART = 8 * 1024**2  # bytes of a file that are handed to an upload at once
TEMPORARY = ".new-"  # how a folder's file begins that is not complete
SHORT_TIMEOUTS: dict[str, dict[str, Any]] = {  # arguments of pyarrow's file systems, for a check
    "s3": {
        "connect_timeout": 3.0,
        "request_timeout": 5.0,
        "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=2),
    },
    "gs": {"retry_time_limit": timedelta(seconds=10)},
}


class StorageError(UserError):
    """Records could not be read or written: a full disk, a lost mount, a silent network."""


@contextmanager
def storage_errors(where: "Storage") -> Iterator[None]:
    """Turn what a file system or an object store fails with into one sentence.

    Raises:
        StorageError: If it fails.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot read or write in '{where}': {describe_error(error)}; what is "
            "recorded stays: once that is mended, the same command with --resume goes on"
        ) from error


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a new file to write, which takes ``path``'s place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{TEMPORARY}{path.name}.")
    os.close(handle)
    new = Path(name)
    try:
        yield new
        new.chmod(0o644)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


class Storage(ABC):
    """Named bytes; a name may have parts, separated by ``/``."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """Return what is stored under a name; None where nothing is."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Store bytes under a name, in place of what was there, as a whole."""

    @abstractmethod
    def atomic_write(self, name: str) -> AbstractContextManager[Path]:
        """Give a file to write, which is stored under a name when the block ends well."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO | None:
        """Return what is stored under a name as a file to read; None where nothing is."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a name, if it is there."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return the first parts of all names, sorted: a folder's files and folders."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of where it is."""

    @abstractmethod
    def __truediv__(self, name: str) -> "Storage":
        """Return the place below a name, as ``pathlib`` does."""

    def exists(self, name: str) -> bool:
        """Return whether something is stored under a name."""
        return self.read(name) is not None

    def with_short_timeouts(self) -> "Storage":
        """Return the same place, which answers or fails within seconds: for a check."""
        return self

    @abstractmethod
    def __str__(self) -> str:
        """Return where it is, as a message says it and :func:`open_storage` takes it."""


def is_url(where: str | Path) -> bool:
    """Return whether this is a URL, not a path."""
    return "://" in str(where)


def make_absolute(where: str | Path) -> str:
    """Return an absolute path; a URL stays as it is."""
    return str(where) if is_url(where) else os.path.abspath(where)


def describe_error(error: Exception) -> str:
    """Return the first line of an error of the system or of an object store."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).strip().splitlines()
    # Google's end with all that is known, which says the same again.
    return lines[0].partition(" error_info=")[0] if lines else type(error).__name__


def open_storage(where: str | Path) -> Storage:
    """Return the place that a path or URL names.

    Raises:
        UserError: If the URL is of another kind, or its object store cannot be reached.
    """
    text = str(where)
    if not is_url(text):
        return LocalStorage(Path(os.path.abspath(text)))
    told, _, query = text.partition("?")
    scheme, _, rest = told.partition("://")
    bucket = rest.partition("/")[0]
    # A URL is told in messages and command lines. A secret may contain a slash; a bucket's name
    # contains no colon.
    if "@" in bucket or ":" in bucket:
        raise UserError(
            "--storage: a URL without credentials is expected; they belong into "
            "~/.aws/credentials, a role of the machines, or the environment"
        )
    if scheme not in SCHEMES:
        raise UserError(
            f"--storage: received '{told}', expected a folder, or a URL that begins with "
            f"{' or '.join(f'{known}://' for known in SCHEMES)}"
        )
    if not bucket:
        raise UserError(f"--storage: received '{told}', expected {scheme}://BUCKET/PREFIX")
    try:
        store, path = fs.FileSystem.from_uri(text)
    except (OSError, ValueError) as error:
        raise UserError(f"--storage: '{told}': {describe_error(error)}") from None
    return ObjectStorage(store, path, scheme, query)


def check_storage(where: Storage) -> None:
    """Refuse a place in which nothing can be written, read and removed.

    Raises:
        UserError: With the reason.
    """
    name = f"{TEMPORARY}check-{os.getpid()}"
    asked = where.with_short_timeouts()
    try:
        asked.write(name, b"evenhand")
        back = asked.read(name)
        asked.delete(name)
    except OSError as error:
        raise UserError(f"--storage: cannot write in '{where}': {describe_error(error)}") from None
    if back != b"evenhand":
        raise UserError(f"--storage: '{where}' does not give back what was written")


class LocalStorage(Storage):
    """A folder of a file system.

    Args:
        path: Its path; the folder need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where there is no such file."""
        try:
            return (self.path / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write a file beside the old one, which it then replaces."""
        with self.atomic_write(name) as new:
            new.write_bytes(data)

    def atomic_write(self, name: str) -> AbstractContextManager[Path]:
        """Give a file beside the old one, which it replaces when the block ends well."""
        return atomic_write(self.path / name)

    def open(self, name: str) -> BinaryIO | None:
        """Return a file; None where there is none."""
        try:
            return (self.path / name).open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(NotADirectoryError):
            (self.path / name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Return the names of files and folders, without files that are being written."""
        try:
            return sorted(n for n in os.listdir(self.path) if not n.startswith(TEMPORARY))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        return (self.path / name).is_file()

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    def __truediv__(self, name: str) -> "LocalStorage":
        """Return a folder in this one."""
        return LocalStorage(self.path / name)

    def __str__(self) -> str:
        """Return the path."""
        return str(self.path)


class ObjectStorage(Storage):
    """A prefix in an object store.

    Args:
        store: The store, as pyarrow reaches it.
        path: Bucket and prefix.
        scheme: What a URL of it begins with.
        query: What a URL of it ends with, after a question mark: options of pyarrow's.
    """

    def __init__(self, store: Any, path: str, scheme: str, query: str = "") -> None:
        self.store = store
        self.path = path.rstrip("/")
        self.scheme = scheme
        self.query = query

    def with_short_timeouts(self) -> "ObjectStorage":
        """Return the same prefix with few and short attempts; by default they take minutes."""
        rebuild, (options,) = self.store.__reduce__()
        store = rebuild({**options, **SHORT_TIMEOUTS[self.scheme]})
        return ObjectStorage(store, self.path, self.scheme, self.query)

    def _of(self, name: str) -> str:
        return str(PurePosixPath(self.path) / name)

    def read(self, name: str) -> bytes | None:
        """Return an object; None where there is no such object."""
        try:
            with self.store.open_input_file(self._of(name)) as file:
                data: bytes = file.read()
                return data
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Upload an object, which replaces the old one when it is complete."""
        with self.store.open_output_stream(self._of(name), buffer_size=0) as file:
            file.write(data)

    @contextmanager
    def atomic_write(self, name: str) -> Iterator[Path]:
        """Give a file of this machine, which is uploaded when the block ends well."""
        with tempfile.TemporaryDirectory(prefix="evenhand-") as folder:
            new = Path(folder) / "new"
            new.touch()
            yield new
            with new.open("rb") as source, self.store.open_output_stream(self._of(name)) as file:
                shutil.copyfileobj(source, file, PART)

    def open(self, name: str) -> BinaryIO | None:
        """Return an object's content as a file: one request, whatever its reader does."""
        data = self.read(name)
        return None if data is None else io.BytesIO(data)

    def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self.store.delete_file(self._of(name))

    def names(self) -> list[str]:
        """Return the first parts of the names of all objects."""
        chosen = fs.FileSelector(self.path, recursive=False, allow_not_found=True)
        return sorted(info.base_name for info in self.store.get_file_info(chosen))

    def exists(self, name: str) -> bool:
        """Return whether there is such an object."""
        found = self.store.get_file_info(self._of(name))
        return bool(found.type == fs.FileType.File)

    @property
    def name(self) -> str:
        """The last part of the prefix."""
        return PurePosixPath(self.path).name

    def __truediv__(self, name: str) -> "ObjectStorage":
        """Return a longer prefix."""
        return ObjectStorage(self.store, self._of(name), self.scheme, self.query)

    def __str__(self) -> str:
        """Return the URL."""
        return f"{self.scheme}://{self.path}" + (f"?{self.query}" if self.query else "")
