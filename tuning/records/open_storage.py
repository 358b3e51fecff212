"""Open the storage that a path or URL names, and check that it works."""

import os
import tempfile
from pathlib import Path

from common.errors import UserError
from common.files import TEMPORARY_PREFIX, find_existing_parent
from tuning.records.local_storage import LocalStorage
from tuning.records.object_storage import open_object_storage
from tuning.records.storage import Storage, describe_error, is_url, refuse_misspelled_url


def open_storage(location: str | Path) -> Storage:
    """Return the storage at a path or URL.

    Raises:
        UserError: If the URL is malformed or holds credentials, or if the object store cannot be
            reached.
    """
    text = str(location)
    if isinstance(location, Path):  # a path that was read as one, such as --results
        return LocalStorage(Path(os.path.abspath(text)))
    if not is_url(text):
        refuse_misspelled_url(text)
        return LocalStorage(Path(os.path.abspath(text)))
    shown, _, query = text.partition("?")
    scheme, _, rest = shown.partition("://")
    bucket = rest.partition("/")[0]
    # URLs appear in messages and command lines. A secret may contain a slash; the name of a bucket
    # contains no colon.
    if "@" in bucket or ":" in bucket:
        raise UserError(
            "--storage: expected a URL without credentials; put them into ~/.aws/credentials, an "
            "instance role, or the environment"
        )
    refuse_misspelled_url(shown)
    if not bucket:
        raise UserError(f"--storage: received '{shown}', expected {scheme}://BUCKET/PREFIX")
    try:
        return open_object_storage(scheme, rest, query)
    except (OSError, ValueError) as error:
        raise UserError(f"--storage: '{shown}': {describe_error(error)}") from None


def check_storage(storage: Storage) -> None:
    """Check that a storage can be written, read and deleted from.

    Raises:
        UserError: If it cannot, with the reason.
    """
    name = f"{TEMPORARY_PREFIX}check-{os.getpid()}"
    checked = storage.with_short_timeouts()
    try:
        checked.write_bytes(name, b"evenhand")
        stored = checked.read_bytes(name)
        checked.delete(name)
    except OSError as error:
        raise UserError(
            f"--storage: cannot write in '{storage}': {describe_error(error)}"
        ) from None
    if stored != b"evenhand":
        raise UserError(f"--storage: '{storage}' does not return the bytes that were written")


def check_writable(option: str, folder: Path) -> None:
    """Check that a folder can be written, without creating it.

    Args:
        option: The option that names it, for the message.
        folder: The folder.

    Raises:
        UserError: If no file can be created in it or in its nearest existing parent.
    """
    existing = find_existing_parent(folder, follow_links=False)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise UserError(f"{option}: cannot write in '{folder}': {existing}: {reason}") from None
