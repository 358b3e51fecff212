"""The lock that lets one command at a time work on a method's records.

A folder has a lock of the operating system, which ends with its process. An object store has none:
there, an object names the process and host that hold the lock and the time of its last heartbeat.
A holder on the same host that has ended is detected at once. Any holder without a heartbeat for
:data:`STALE_SECONDS` counts as dead, even if it was only suspended. Two commands that start within
the same second may both get the lock; that costs time and nothing else, since two copies of a run
write the same content.
"""

import itertools
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Self

from common.errors import UserError
from common.files import try_lock_file
from tuning.records.decoding import decode_fields
from tuning.records.local_storage import LocalStorage
from tuning.records.storage import Storage

LOCK_NAME = ".lock"
HOLDER_NAME = ".holder.json"  # beside a lock of the operating system, which names nobody
HEARTBEAT_SECONDS = 15.0
STALE_SECONDS = 60.0  # without a heartbeat, after which a holder counts as dead
SETTLE_SECONDS = 0.5  # after which both of two writers see the later one


@dataclass(frozen=True)
class LockHolder:
    """The content of a lock object: the process that holds the lock.

    Args:
        host: Name of its host.
        process: Its number there.
        nonce: Random text that tells apart two locks of the same process.
        heartbeat: Time of its last heartbeat, in seconds since 1970.
        since: Time at which it got the lock.
    """

    host: str
    process: int
    nonce: str
    heartbeat: float = field(default_factory=time.time)
    since: float = field(default_factory=time.time)

    def encode(self) -> bytes:
        """Return the content of the lock object."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self | None:
        """Return the holder that :meth:`encode` encoded; None for anything else."""
        try:
            return decode_fields(
                cls,
                json.loads(data),
                host=str,
                process=int,
                nonce=str,
                heartbeat=float,
                since=float,
            )
        except (ValueError, TypeError):
            return None

    @property
    def has_ended(self) -> bool:
        """Whether its process is known to have ended, which only its own host knows."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False

    def describe(self) -> str:
        """Return process, host and start for messages."""
        since = datetime.fromtimestamp(self.since).strftime("%Y-%m-%d %H:%M:%S")
        return f"process {self.process} on {self.host}, since {since}"

    def is_alive(self) -> bool:
        """Return whether the holder still counts as alive."""
        if self.has_ended:
            return False
        # On the same host too: after a restart, another process may have the same number.
        return time.time() - self.heartbeat < STALE_SECONDS


def is_empty(storage: Storage) -> bool:
    """Return whether a storage contains nothing except hidden files, such as a lock."""
    return not storage.list_names()


@contextmanager
def exclusive_lock(storage: Storage) -> Iterator[None]:
    """Hold the lock of a storage.

    Raises:
        UserError: If another command holds it.
    """
    with _lock_folder(storage) if isinstance(storage, LocalStorage) else _lock_object(storage):
        yield


@contextmanager
def _lock_folder(storage: LocalStorage) -> Iterator[None]:
    with ExitStack() as stack:
        made: list[Path] = []
        while True:
            # Another command may remove its folders at any time between the checks here.
            with suppress(FileNotFoundError, FileExistsError):
                made += _make_folder(storage.path)
                is_held = stack.enter_context(try_lock_file(storage.path / LOCK_NAME))
                break
        if not is_held:
            holder = _read_holder(storage, HOLDER_NAME)
            by = f": {holder.describe()}" if holder else ""
            raise UserError(f"another command is running the study in '{storage}'{by}")
        storage.write_bytes(HOLDER_NAME, _make_holder().encode())
        try:
            yield
        finally:
            # Under the lock: who has opened the file that is deleted here cannot lock it any more.
            if is_empty(storage):  # a command that was refused leaves no folders
                storage.delete(HOLDER_NAME)
                storage.delete(LOCK_NAME)
                for folder in made:
                    with suppress(OSError):  # not empty: others use it
                        folder.rmdir()


def _make_folder(path: Path) -> list[Path]:
    """Make a folder and its parents; return those that did not exist, the innermost first."""
    missing = list(itertools.takewhile(lambda folder: not folder.exists(), [path, *path.parents]))
    path.mkdir(parents=True, exist_ok=True)
    return missing


@contextmanager
def _lock_object(storage: Storage) -> Iterator[None]:
    holder = _read_holder(storage)
    if holder is not None and holder.is_alive():
        raise _refuse_lock(storage, holder)
    own = _make_holder()
    _write_heartbeat(storage, own)
    time.sleep(SETTLE_SECONDS)
    holder = _read_holder(storage)
    if holder is not None and holder.nonce != own.nonce:
        raise _refuse_lock(storage, holder)
    ended = threading.Event()
    heart = threading.Thread(target=_write_heartbeats, args=(storage, own, ended), daemon=True)
    heart.start()
    try:
        yield
    finally:
        ended.set()
        heart.join()
        storage.delete(LOCK_NAME)


def _write_heartbeats(storage: Storage, holder: LockHolder, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT_SECONDS):
        with suppress(OSError):  # of the network; the next heartbeat may succeed
            _write_heartbeat(storage, holder)


def _write_heartbeat(storage: Storage, holder: LockHolder) -> None:
    storage.write_bytes(LOCK_NAME, replace(holder, heartbeat=time.time()).encode())


def _make_holder() -> LockHolder:
    return LockHolder(socket.gethostname(), os.getpid(), uuid.uuid4().hex)


def describe_holder(storage: Storage) -> str | None:
    """Return process, host and start of the command that works on a storage; None without one."""
    if not isinstance(storage, LocalStorage):
        holder = _read_holder(storage)
        return holder.describe() if holder is not None and holder.is_alive() else None
    holder = _read_holder(storage, HOLDER_NAME)
    if holder is None or holder.has_ended:
        return None
    with suppress(OSError), try_lock_file(storage.path / LOCK_NAME) as is_free:
        return None if is_free else holder.describe()
    return holder.describe()  # records that cannot be written, and so not locked


def _read_holder(storage: Storage, name: str = LOCK_NAME) -> LockHolder | None:
    data = storage.read_bytes(name)
    return None if data is None else LockHolder.decode(data)


def _refuse_lock(storage: Storage, holder: LockHolder) -> UserError:
    return UserError(
        f"another command is running the study in '{storage}': {holder.describe()}; if that "
        f"process is dead, its lock expires {STALE_SECONDS:g} s after its last heartbeat"
    )
