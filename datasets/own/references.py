"""The names of own data sets: ``folder:NAME`` below the data root, or the path of a folder."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.paths import expand_path
from datasets.storage.named_files import locate_named_files

KIND = "folder"  # the benchmark of own data, and the folder below the data root without a name
PREFIX = f"{KIND}:"
SIGNS = ("metadata.csv", "dataset.yaml")  # files, one of which a listed folder has


@dataclass(frozen=True)
class OwnData:
    """A folder of own data.

    Args:
        name: The name in results, records and tables: ``folder:NAME``.
        path: The folder.
        reference: The name, or the absolute path of a folder outside the data root.
    """

    name: str
    path: Path
    reference: str


def find_own_data(text: str, data_root: Path, known: Iterable[str] = ()) -> OwnData | None:
    """Return the folder that a command names; None for the name of another data set.

    Args:
        text: The name or path, as typed.
        data_root: The folder of all data sets.
        known: Names of data sets, which are no paths.

    Raises:
        UserError: If the name is empty, or a path cannot be expanded.
    """
    if text in known:
        return None
    rest = text.removeprefix(PREFIX)
    is_named = rest != text
    if not is_named and not _looks_like_path(text):
        return None
    try:
        expanded = expand_path(rest)
    except ValueError as error:
        raise UserError(f"data set '{text}': {error}; write {PREFIX}NAME or a path") from None
    path = Path(os.path.abspath(data_root / expanded if is_named else expanded))
    if not path.name or not path.name.isprintable():
        raise UserError(f"data set '{text}': expected {PREFIX}NAME or the path of a folder")
    return _describe_folder(path, data_root)


def _looks_like_path(text: str) -> bool:
    return "/" in text or os.sep in text or text in (".", "..") or text[:1] in ("~", "$")


def _describe_folder(path: Path, data_root: Path) -> OwnData:
    (own,) = locate_named_files(data_root, [path.name])
    if _is_same_folder(path.parent, data_root):
        name = KIND if path.name == KIND else f"{PREFIX}{own.name}"
        return OwnData(name, own, name)
    return OwnData(f"{PREFIX}{path.name}", path, str(path))


def _is_same_folder(one: Path, other: Path) -> bool:
    if one == Path(os.path.abspath(other)):
        return True
    return one.is_dir() and other.is_dir() and one.samefile(other)


def list_own_data(data_root: Path, known: Iterable[str]) -> list[str]:
    """Return the names of the folders of own data below the data root, sorted.

    Args:
        data_root: The folder of all data sets.
        known: Names of data sets, whose folders are not own data.
    """
    if not data_root.is_dir():
        return []
    others = {name for name in known if name != KIND}
    return sorted(
        _describe_folder(path.absolute(), data_root).name
        for path in data_root.iterdir()
        if path.name not in others and any((path / file).is_file() for file in SIGNS)
    )


def suggest_own_data(text: str, data_root: Path) -> str:
    """Return how to write own data, with a folder that has the name of an unknown data set."""
    for name, folder in ((f"{PREFIX}{text}", data_root / text), (f"./{text}", Path(text))):
        if text and folder.is_dir():
            return f"; for the folder {folder} write {name}"
    return f"; own data: {PREFIX}NAME, or a path with a slash such as ./{text or 'NAME'}"
