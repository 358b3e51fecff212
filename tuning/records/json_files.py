"""JSON files, local and in a storage; a damaged file counts as missing."""

import json
from pathlib import Path
from typing import Any

from common.files import write_text
from tuning.records.storage import Storage, storage_errors


def write_json(path: Path, data: object) -> None:
    """Write a JSON file atomically."""
    write_text(path, _encode(data))


def read_json(path: Path) -> object:
    """Return the content of a JSON file; None where it is missing or damaged."""
    try:
        return _decode(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_stored_json(storage: Storage, name: str, data: object) -> None:
    """Write a JSON file of a storage atomically.

    Raises:
        StorageError: If it cannot be written.
    """
    with storage_errors(storage):
        storage.write_bytes(name, _encode(data).encode("utf-8"))


def read_stored_json(storage: Storage, name: str) -> object:
    """Return the content of a JSON file of a storage; None where it is missing or damaged.

    Raises:
        StorageError: If the storage cannot be read.
    """
    with storage_errors(storage):
        data = storage.read_bytes(name)
    return None if data is None else _decode(data)


def read_stored_object(storage: Storage, name: str) -> dict[str, object] | None:
    """Return a JSON object of a storage; None where it is missing, damaged or no object."""
    found = read_stored_json(storage, name)
    return found if isinstance(found, dict) else None


def read_stored_list(storage: Storage, name: str) -> list[dict[str, Any]]:
    """Return a JSON list of objects; an empty one where it is missing, damaged or no such list."""
    found = read_stored_json(storage, name)
    return found if isinstance(found, list) else []


def _encode(data: object) -> str:
    return json.dumps(data, indent=1) + "\n"


def _decode(data: bytes) -> object:
    try:
        found: object = json.loads(data.decode("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return found
