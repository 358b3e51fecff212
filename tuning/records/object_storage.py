"""Records under a prefix of an object store (``s3://``, ``gs://``), by pyarrow."""

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import parse_qsl, urlencode

from pyarrow import fs

from tuning.records.storage import Storage

UPLOAD_CHUNK_BYTES = 8 * 1024**2
CHECK_CONNECT_SECONDS = 3.0
CHECK_REQUEST_SECONDS = 5.0
CHECK_ATTEMPTS = 2
CHECK_RETRY_SECONDS = 10
# The options that pyarrow reads from the query of an S3 URL.
S3_FLAGS = ("allow_bucket_creation", "allow_bucket_deletion", "allow_delayed_open")
S3_TEXTS = ("region", "scheme", "endpoint_override", "tls_ca_file_path")


class ObjectStorage(Storage):
    """A prefix in an object store.

    Args:
        store: The pyarrow file system of the store.
        path: Bucket and prefix.
        scheme: Scheme of the URL, one of :data:`tuning.records.storage.SCHEMES`.
        query: Query of the URL: options of pyarrow's file systems.
    """

    def __init__(self, store: fs.FileSystem, path: str, scheme: str, query: str = "") -> None:
        self.store = store
        self.path = path.rstrip("/")
        self.scheme = scheme
        self.query = query

    def with_short_timeouts(self) -> "ObjectStorage":
        """Return the same prefix with few and short attempts; by default they take minutes."""
        if self.scheme == "s3":
            store: fs.FileSystem = _connect_s3_briefly(self.store.region, self.query)
        else:
            options = {**dict(parse_qsl(self.query)), "retry_limit_seconds": CHECK_RETRY_SECONDS}
            store, _ = fs.FileSystem.from_uri(f"gs://{self.path}?{urlencode(options)}")
        return ObjectStorage(store, self.path, self.scheme, self.query)

    def _full_name(self, name: str) -> str:
        return str(PurePosixPath(self.path) / name)

    def read_bytes(self, name: str) -> bytes | None:
        """Return the content of an object; None where it does not exist."""
        try:
            with self.store.open_input_file(self._full_name(name)) as file:
                data: bytes = file.read()
                return data
        except FileNotFoundError:
            return None

    def write_bytes(self, name: str, data: bytes) -> None:
        """Upload an object, which replaces the old one once it is complete."""
        with self.store.open_output_stream(self._full_name(name), buffer_size=0) as file:
            file.write(data)

    @contextmanager
    def atomic_write(self, name: str) -> Iterator[Path]:
        """Yield a temporary local file, which is uploaded when the block succeeds."""
        with tempfile.TemporaryDirectory(prefix="evenhand-") as folder:
            new = Path(folder) / "new"
            new.touch()
            yield new
            target = self._full_name(name)
            with new.open("rb") as source, self.store.open_output_stream(target) as file:
                shutil.copyfileobj(source, file, UPLOAD_CHUNK_BYTES)

    def open_file(self, name: str) -> BinaryIO | None:
        """Return the content of an object as a file in memory, read with one request."""
        data = self.read_bytes(name)
        return None if data is None else io.BytesIO(data)

    def delete(self, name: str) -> None:
        """Delete an object if it exists."""
        with contextlib.suppress(FileNotFoundError):
            self.store.delete_file(self._full_name(name))

    def list_names(self) -> list[str]:
        """Return the first part of every object's name, sorted, without hidden ones."""
        selector = fs.FileSelector(self.path, recursive=False, allow_not_found=True)
        names = [info.base_name for info in self.store.get_file_info(selector)]
        return sorted(name for name in names if not name.startswith("."))

    def exists(self, name: str) -> bool:
        """Return whether an object exists."""
        info = self.store.get_file_info(self._full_name(name))
        return bool(info.type == fs.FileType.File)

    def list_modification_times(self) -> dict[str, float]:
        """Return when each object was written, in seconds since 1970, by one listing."""
        selector = fs.FileSelector(self.path, recursive=True, allow_not_found=True)
        return {
            info.path.removeprefix(f"{self.path}/"): float(info.mtime.timestamp())
            for info in self.store.get_file_info(selector)
            if info.type == fs.FileType.File and info.mtime is not None
        }

    @property
    def name(self) -> str:
        """The last part of the prefix."""
        return PurePosixPath(self.path).name

    def __truediv__(self, name: str) -> "ObjectStorage":
        """Return a longer prefix."""
        return ObjectStorage(self.store, self._full_name(name), self.scheme, self.query)

    def __str__(self) -> str:
        """Return the URL."""
        return f"{self.scheme}://{self.path}" + (f"?{self.query}" if self.query else "")


def open_object_storage(scheme: str, path: str, query: str) -> ObjectStorage:
    """Return the storage at a URL without credentials.

    Raises:
        OSError: If the store cannot be reached.
        ValueError: If the query holds an option that pyarrow does not know.
    """
    url = f"{scheme}://{path}" + (f"?{query}" if query else "")
    store, found = fs.FileSystem.from_uri(url)
    return ObjectStorage(store, found, scheme, query)


def _connect_s3_briefly(region: str, query: str) -> fs.S3FileSystem:
    """Return a connection with short timeouts and the options of a URL's query."""
    given = dict(parse_qsl(query))
    texts = {name: given[name] for name in S3_TEXTS if name in given}
    flags = {name: given[name].lower() in ("true", "1") for name in S3_FLAGS if name in given}
    # pyarrow reads these variables for URLs alone; only a full URL is an endpoint for its options.
    address = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    scheme, _, endpoint = address.partition("://")
    if endpoint and "endpoint_override" not in texts:
        texts = {"scheme": scheme, **texts, "endpoint_override": endpoint}
    return fs.S3FileSystem(
        **{"region": region, **texts, **flags},
        connect_timeout=CHECK_CONNECT_SECONDS,
        request_timeout=CHECK_REQUEST_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=CHECK_ATTEMPTS),
    )
