"""Files: reading, atomic writes, locks, hashes, and errors of the disk in one line."""

import errno
import hashlib
import os
import re
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from common.errors import UserError

TEMPORARY_PREFIX = ".new-"  # of files that are not complete
TEMPORARY_NAME = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}.+\.[0-9a-f]{{8}}")  # of atomic_write
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_PERMISSION_ERRNOS = (errno.EACCES, errno.EPERM, errno.EROFS)
LOCK_NOTICE_SECONDS = 1.0


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file.

    Raises:
        UserError: If it is missing, cannot be read, or is not UTF-8; the message names the line.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start : error.start + 1].hex()
        raise UserError(f"{path}: line {line}: not UTF-8 (byte 0x{byte})") from None


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a new file to write, which replaces ``path`` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def lock_file(path: Path, notice: str = "") -> Iterator[None]:
    """Hold a lock between processes on a file; wait for it as long as it takes.

    Args:
        path: The file of the lock.
        notice: A line to print to stderr after a second of waiting, without the lock's path.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=LOCK_NOTICE_SECONDS)
    except Timeout:
        if notice:
            print(f"{notice}; waiting for it ({path})", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def try_lock_file(path: Path) -> Iterator[bool]:
    """Hold a lock between processes on a file if it is free; yield whether it was."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def is_hidden(path: Path) -> bool:
    """Return whether a file's name begins with a dot, as macOS's ``._0.npy`` in archives."""
    return path.name.startswith(".")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_git_blob(path: Path) -> str:
    """Return the id by which git stores a file: a SHA-1 of its size and content, hexadecimal."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def hash_text(text: str, digits: int = 16) -> str:
    """Return the first hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def find_existing_parent(path: Path, follow_links: bool = True) -> Path:
    """Return the path itself if it exists, else its nearest parent that does, absolute.

    Args:
        path: A file or folder.
        follow_links: Whether a link to a missing target counts as missing.
    """
    exists = os.path.exists if follow_links else os.path.lexists
    found = Path(os.path.abspath(path))
    while not exists(found) and found != found.parent:
        found = found.parent
    return found


class CannotWrite(UserError):
    """A folder without free space or permission: on a full disk, read-only, or of somebody else."""


@contextmanager
def wrap_os_errors(folder: Path, hint: str = "") -> Iterator[None]:
    """Turn the errors of a full disk and of missing permissions into errors of one line.

    Args:
        folder: The folder that is written.
        hint: Advice beside freeing space or making the folder writable.

    Raises:
        CannotWrite: If the disk is full or the folder is not writable.
        UserError: If a file elsewhere, a source, is not readable.
    """
    try:
        yield
    except OSError as error:
        others = f", or {hint}" if hint else ""
        if error.errno in DISK_FULL_ERRNOS:
            raise CannotWrite(
                f"{folder}: the disk is full; incomplete files were removed; free some space"
                f"{others}"
            ) from None
        if error.errno in NO_PERMISSION_ERRNOS:
            if error.filename and not _contains_other(folder, Path(error.filename)):
                raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None
            raise CannotWrite(
                f"{folder}: cannot be written ({error.strerror}: {error.filename}); make it "
                f"writable{others}"
            ) from None
        raise


def _contains_other(one: Path, other: Path) -> bool:
    """Return whether one of two paths is inside the other, or the same."""
    paths = Path(os.path.abspath(one)), Path(os.path.abspath(other))
    return paths[0].is_relative_to(paths[1]) or paths[1].is_relative_to(paths[0])
