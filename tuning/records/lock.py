"""One command at a time works on a method's records.

A folder has a lock of the operating system, which ends with its process. An object store has none:
there an object tells which process of which host holds it and when that was last alive. A holder
that has ended is known at once on its own host; any that gives no sign of life for :data:`STALE`
seconds counts as gone, one that was stopped and goes on later included. Two commands that begin
within the same second may both go on; that costs time and nothing else, since two copies of a run
write the same.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from filelock import FileLock, Timeout

from common.errors import UserError
from tuning.records.local_storage import LocalStorage
from tuning.records.storage import Storage

LOCK = ".lock"
BEAT = 15.0  # seconds between two signs of life
STALE = 60.0  # seconds without one after which a holder counts as gone
SETTLE = 0.5  # seconds after which the later of two writers is seen by both


def is_empty(where: Storage) -> bool:
    """Return whether a place holds nothing but a lock."""
    return all(name == LOCK for name in where.list_names())


@contextmanager
def exclusive_lock(where: Storage) -> Iterator[None]:
    """Hold a place's lock during the block.

    Raises:
        UserError: If another command holds it.
    """
    with _folder(where) if isinstance(where, LocalStorage) else _bucket(where):
        yield


@contextmanager
def _folder(where: LocalStorage) -> Iterator[None]:
    where.path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(where.path / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"another command is running the study in '{where}'") from None
    try:
        yield
    finally:
        lock.release()
        if is_empty(where):  # refused before it began: leave nothing
            where.delete(LOCK)
            for folder in (where.path, where.path.parent, where.path.parent.parent):
                with suppress(OSError):  # not empty: somebody else's
                    folder.rmdir()


@contextmanager
def _bucket(where: Storage) -> Iterator[None]:
    mine = {"token": uuid.uuid4().hex, "host": socket.gethostname(), "process": os.getpid()}
    holder = _holder(where)
    if holder is not None and _alive(holder):
        raise _held(where, holder)
    _beat(where, mine)
    time.sleep(SETTLE)
    holder = _holder(where)
    if holder is not None and holder["token"] != mine["token"]:
        raise _held(where, holder)
    ended = threading.Event()
    beating = threading.Thread(target=_keep, args=(where, mine, ended), daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        where.delete(LOCK)


def _keep(where: Storage, mine: dict[str, Any], ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with suppress(OSError):  # the network; the next beat may pass
            _beat(where, mine)


def _beat(where: Storage, mine: dict[str, Any]) -> None:
    where.write_bytes(LOCK, json.dumps({**mine, "time": time.time()}).encode())


def _holder(where: Storage) -> dict[str, Any] | None:
    try:
        found = json.loads(where.read_bytes(LOCK) or b"null")
    except ValueError:
        return None
    known = isinstance(found, dict) and {"token", "host", "process", "time"} <= set(found)
    return found if known else None


def _alive(holder: dict[str, Any]) -> bool:
    if holder["host"] == socket.gethostname():
        try:
            os.kill(int(holder["process"]), 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
    # Also on its own host: after a restart its number may be another process's.
    return time.time() - float(holder["time"]) < STALE


def _held(where: Storage, holder: dict[str, Any]) -> UserError:
    return UserError(
        f"another command is running the study in '{where}': process {holder['process']} on "
        f"{holder['host']}; if that is dead, its lock ends {STALE:g} s after its last sign of life"
    )
