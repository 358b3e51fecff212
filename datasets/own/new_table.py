"""Tables of new examples: files or texts, with labels and attributes where they are known."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from common.errors import UserError, suggest_name, truncate_problems
from common.files import read_text
from datasets.own.columns import MEANINGS, assign_roles
from datasets.own.labels import WHOLE_NUMBER
from datasets.own.table_files import find_table, read_table_file
from datasets.storage.named_files import locate_named_files, suggest_file


@dataclass(frozen=True)
class NewTable:
    """The rows of a table of new examples.

    Args:
        path: The table.
        names: The file that each row names, or its id.
        files: The path of each file; empty where the table holds texts.
        texts: The text of each row; empty where it names images.
        labels: The class of each row by number; None where the table has none.
        attributes: The attribute of each row by name; None where the table has none.
    """

    path: Path
    names: list[str]
    files: list[Path]
    texts: list[str]
    labels: list[int] | None
    attributes: list[str] | None


def read_new_table(
    path: Path,
    classes: Sequence[str],
    has_images: bool,
    columns: Mapping[str, str],
    own_columns: Mapping[str, str],
) -> NewTable:
    """Read a table of new examples.

    Args:
        path: The table, or a folder that has one.
        classes: The names of the classes.
        has_images: Whether the rows are to name images.
        columns: A usual name for some of its columns.
        own_columns: The same of the data set's table, for those that this one has too.

    Raises:
        UserError: If the table is malformed, names missing files, or has labels that are no class.
    """
    path = find_table(path) if path.is_dir() else path
    read = read_table_file(path)
    listed = [str(column) for column in read.columns]
    known = {name: role for name, role in own_columns.items() if name in listed}
    roles = assign_roles(path, listed, {**known, **columns})
    table = pd.DataFrame({role: read[column].str.strip() for role, column in roles.items()})
    if table.empty:
        raise UserError(f"{path}: no rows")
    wanted = "filename" if has_images or "text" not in table else "text"
    if wanted not in table:
        meaning = MEANINGS.get(wanted, wanted)
        raise UserError(
            f"{path}: no column of {'images' if has_images else 'texts'}; the file has "
            f"{', '.join(listed)}; name one with --columns COLUMN={meaning}"
        )
    files = [] if wanted == "text" else _locate_files(path, table)
    texts = read[roles["text"]].tolist() if wanted == "text" else []
    if not has_images and wanted == "filename":
        texts = [read_text(file) for file in files]
    names = table.filename if wanted == "filename" else table.get("id", _number_rows(table))
    return NewTable(
        path,
        names.tolist(),
        files,
        texts,
        _read_labels(path, table, classes, roles["y"]) if "y" in roles else None,
        _name_values(table, "a", roles["a"]).tolist() if "a" in roles else None,
    )


def _number_rows(table: pd.DataFrame) -> "pd.Series[str]":
    return pd.Series([str(row + 1) for row in range(len(table))])


def _locate_files(path: Path, table: pd.DataFrame) -> list[Path]:
    names = table.filename.str.replace("\\", "/", regex=False)
    files = locate_named_files(path if path.is_dir() else path.parent, names)
    problems = [
        f"{path}: row {row + 1}: {file}: missing{suggest_file(file)}"
        for row, file in enumerate(files)
        if not file.is_file()
    ]
    if problems:
        raise truncate_problems(problems)
    return files


def _name_values(table: pd.DataFrame, role: str, column: str) -> "pd.Series[str]":
    """Return the names of classes or attributes, as own data have them."""
    if f"{role}_name" in table:
        return table[f"{role}_name"]
    whole = table[role].str.fullmatch(WHOLE_NUMBER)
    numbers = table[role].where(whole, "0").astype(float).astype(int).astype(str)
    return table[role].where(~whole, f"{column} = " + numbers)


def _read_labels(path: Path, table: pd.DataFrame, classes: Sequence[str], column: str) -> list[int]:
    names = dict(enumerate(classes))
    are_numbered = any(re.search(r" = \d+$", name) for name in classes)  # by the written value
    numbers = {} if are_numbered else {str(number): number for number in names}
    numbers |= {re.sub(r"^.* = ", "", name): number for number, name in names.items()}
    numbers |= {name: number for number, name in names.items()}
    written = table.y.str.replace(r"\.0*$", "", regex=True)
    found = _name_values(table, "y", column).map(numbers).fillna(written.map(numbers))
    problems = [
        f"{path}: row {row + 1}: {column}: received '{table.y[row]}'"
        f"{suggest_name(table.y[row], classes)}, expected a class: {', '.join(classes)}"
        for row in table.index[found.isna()]
    ]
    if problems:
        raise truncate_problems(problems)
    return found.astype(int).tolist()
