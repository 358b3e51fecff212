"""The files that a table names."""

import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path


def suggest_file(path: Path) -> str:
    """Return a hint if a folder has a file of another ending, or in other letters' case."""
    if not path.parent.is_dir():
        return ""
    names = {path.name.casefold(), path.stem.casefold()}
    for other in sorted(path.parent.iterdir()):
        if names & {other.name.casefold(), other.stem.casefold()}:
            return f" (did you mean '{other.name}'?)"
    return ""


def locate_named_files(folder: Path, names: Iterable[str]) -> list[Path]:
    """Return the path of each file that a table names, whether it exists or not.

    An accented letter can be one character or two (Unicode's forms NFC and NFD), and some systems
    and archives change one into the other. Where no file has the name as the table writes it, the
    file is taken whose name is the same text.

    Args:
        folder: The folder to which the names are relative.
        names: The names, with a slash between folders.
    """
    listed: dict[Path, dict[str, str]] = {}

    def find_entry(parent: Path, name: str) -> str:
        if parent not in listed:
            try:
                entries = sorted(os.listdir(parent))
            except OSError:
                entries = []
            composed = {unicodedata.normalize("NFC", entry): entry for entry in entries}
            listed[parent] = {**composed, **{entry: entry for entry in entries}}
        return listed[parent].get(name) or listed[parent].get(
            unicodedata.normalize("NFC", name), name
        )

    def locate(name: str) -> Path:
        path = folder / name
        if name.isascii():
            return path
        found = folder
        for part in Path(name).parts:
            found /= find_entry(found, part)
        return found

    return [locate(name) for name in names]
