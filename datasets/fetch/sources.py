"""Addresses of data sets: ``sources.yaml``, a file of its form, or a mirror."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError, suggest_name
from common.yaml_files import read_yaml_file
from datasets.fetch.archives import is_archive

SOURCES = Path(__file__).parent / "sources.yaml"
KEYS = ("url", "file", "to", "sha256", "git_blob")


@dataclass(frozen=True)
class Source:
    """One file of a data set.

    Args:
        url: Its address.
        file: Its name on this machine.
        to: The folder inside the data set's folder into which it is put or extracted.
        sha256: Its checksum, hexadecimal, or None where it is not known.
        git_blob: The id by which git stores it, or the first digits, or None.
    """

    url: str
    file: str
    to: str = "."
    sha256: str | None = None
    git_blob: str | None = None


def read_sources(path: Path = SOURCES) -> dict[str, list[Source]]:
    """Return the sources by folder of the data set.

    Raises:
        UserError: If the file is malformed; the message names the entry.
    """
    data = read_yaml_file(path) or {}
    if not isinstance(data, dict) or not all(isinstance(part, list) for part in data.values()):
        raise UserError(f"{path}: expected a list of files under the name of each data set")
    return {
        str(name): [
            _parse_source(f"{path}: {name}, entry {i}", part) for i, part in enumerate(parts, 1)
        ]
        for name, parts in data.items()
    }


def mirror_sources(url: str, sources: list[Source]) -> list[Source]:
    """Return the sources at another address.

    Args:
        url: An archive of the whole folder of the data set, or a folder on a server with the files
            of ``sources`` under their names. Checksums are not compared: they are of the originals.
        sources: The files at their own addresses.
    """
    name = url.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
    if is_archive(Path(name)) and not any(source.file == name for source in sources[1:]):
        to = sources[0].to if [source.file for source in sources] == [name] else "."
        return [Source(url, name, to)]
    return [Source(f"{url.rstrip('/')}/{part.file}", part.file, part.to) for part in sources]


def _parse_source(where: str, data: Any) -> Source:
    if not isinstance(data, dict):
        raise UserError(f"{where}: received {data!r}, expected the keys {', '.join(KEYS)}")
    for key in data:
        if key not in KEYS:
            raise UserError(f"{where}: unknown key '{key}'{suggest_name(str(key), KEYS)}")
    for key in ("url", "file"):
        if not isinstance(data.get(key), str) or not data[key]:
            raise UserError(f"{where}: {key}: received {data.get(key)!r}, expected a text")
    for key in ("file", "to"):
        text = str(data.get(key, "."))
        if text.startswith("/") or ".." in Path(text).parts or (key == "file" and "/" in text):
            raise UserError(f"{where}: {key}: received '{text}', expected a name inside the folder")
    checksums = {
        "sha256": _parse_checksum(where, data, "sha256", "{64}", "64"),
        "git_blob": _parse_checksum(where, data, "git_blob", "{7,40}", "7 to 40"),
    }
    return Source(**{**data, "to": str(data.get("to", ".")), **checksums})


def _parse_checksum(
    where: str, data: dict[str, Any], key: str, repeats: str, digits: str
) -> str | None:
    value = data.get(key)
    if value is None:
        return None
    if not re.fullmatch(f"[0-9a-fA-F]{repeats}", str(value)):
        raise UserError(f"{where}: {key}: received {value!r}, expected {digits} hexadecimal digits")
    return str(value).lower()
