"""The content of an own table as the common table, with the names of its groups."""

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from common.errors import UserError, truncate_problems
from common.text import format_count
from datasets.benchmark import SPLITS
from datasets.formats import csv_tables as tables
from datasets.groups.base import Groups
from datasets.own.columns import assign_roles, require_roles
from datasets.own.dataset_file import DatasetFile
from datasets.own.folder_tables import describe_folder_table
from datasets.own.labels import number_values
from datasets.own.splits import draw_splits, read_split_words
from datasets.own.table_files import list_tables, read_table_file

PARTS_OF_TRAINING = ("train", "validation")  # into which two shares divide the training rows
SPLIT_REMEDY = (
    ", or train, val, test; or remove the column and draw a split with datasets.prepare --split "
    "0.7/0.1/0.2"
)
NO_ATTRIBUTE = "there is no column of attributes: the groups are the classes"


@dataclass(frozen=True)
class Contents:
    """A table of own data.

    Args:
        table: The common table with numbers and a column ``group``.
        groups: The names of classes and attributes.
        has_texts: Whether a column holds the texts.
        notes: Sentences on how the table was understood.
    """

    table: pd.DataFrame
    groups: Groups
    has_texts: bool
    notes: tuple[str, ...]


def read_contents(path: Path, file: DatasetFile) -> Contents:
    """Read an own table.

    Args:
        path: The table.
        file: The folder's own file.

    Raises:
        UserError: If a column or a split is missing, or rows are wrong, by row.
    """
    table, names, notes = _read_roles(path, file)
    if table.empty:
        raise UserError(f"{path}: no rows")
    if "id" not in table:
        table = table.assign(id=[str(row + 1) for row in range(len(table))])
    for role in ("y", "a"):
        found = number_values(path, table, role, names[role])
        if found.names is not None and f"{role}_name" not in table:
            table[f"{role}_name"] = found.names
        table[role] = found.numbers
        notes += [found.note] if found.note else []
    has_texts = "text" in table
    folder = path if path.is_dir() else path.parent
    table = table.assign(filename=_clean_file_names(folder, table, has_texts))
    if "split" in table:
        table = table.assign(split=read_split_words(table.split))
    if file.split is not None:
        drawn = draw_splits(path, table, _name_groups(table, names), file.split)
        shares = "/".join(f"{share:g}" for share in file.split.shares)
        drawn_from = "the training rows of each group" if "split" in table else "each group"
        notes.append(f"the split is drawn: {shares} of {drawn_from}, seed {file.split.seed}")
        table = table.assign(split=drawn)
    parsed = tables.parse_table(path, table, split_remedy=SPLIT_REMEDY)
    problems = _find_problems(path, parsed, has_texts, names)
    if problems:
        raise truncate_problems(problems)
    notes += _describe_repeated_rows(parsed, has_texts)
    groups = Groups(*(_read_names(path, parsed, role, names[role]) for role in ("y", "a")))
    parsed = parsed.assign(group=len(groups.attributes) * parsed.y + parsed.a)
    return Contents(parsed, groups, has_texts, tuple(notes))


def _read_roles(path: Path, file: DatasetFile) -> tuple[pd.DataFrame, dict[str, str], list[str]]:
    """Return the table with columns named by their roles, the names in the file, and notes."""
    read = read_table_file(path)
    columns = [str(column) for column in read.columns]
    roles = assign_roles(path, columns, file.columns)
    if file.split is not None:
        _check_drawn_split(path, file, read[roles["split"]] if "split" in roles else None)
    require_roles(path, columns, {"split": "", **roles} if file.split is not None else roles)
    replaced = [role for role, column in roles.items() if role != column and role in columns]
    table = read.drop(columns=replaced).rename(columns={c: role for role, c in roles.items()})
    notes = [describe_folder_table(read, bool(list_tables(path)))] if path.is_dir() else []
    if "a" not in roles:
        table = table.assign(a="0", a_name="")
        others = [column for column in columns if column not in roles.values()]
        way = f"; to name one: datasets.prepare --columns {others[0]}=attribute" if others else ""
        notes.append(f"{NO_ATTRIBUTE} (the columns are {', '.join(columns)}){way}")
    return table, {"y": roles["y"], "a": roles.get("a", "a")}, notes


def _check_drawn_split(path: Path, file: DatasetFile, split: "pd.Series[str] | None") -> None:
    """Refuse to draw a split where the table has it, or lacks the rest.

    Raises:
        UserError: If the file says to.
    """
    shares = file.split.shares if file.split is not None else ()
    if split is None:
        if len(shares) == len(PARTS_OF_TRAINING):
            raise UserError(
                f"{file.path}: split: received two shares, but {path} has no column split; "
                "expected three: training, validation and test, such as 0.7/0.1/0.2"
            )
    elif len(shares) > len(PARTS_OF_TRAINING):
        raise UserError(
            f"{file.path}: split: the table has a column '{split.name}' already; remove one, or "
            "draw only validation from training by two shares, 0.8/0.2"
        )
    elif (read_split_words(split) == "1").any():
        raise UserError(
            f"{file.path}: split: the table has rows of validation already; remove the shares"
        )


def _clean_file_names(folder: Path, table: pd.DataFrame, has_texts: bool) -> "pd.Series[str]":
    """Return file names with slashes, relative to the folder; of texts in the table, a word."""
    names = table.get("filename", pd.Series("", table.index))
    if has_texts:  # file names have no meaning then
        return names.where(names.str.strip() != "", "text")

    start = f"{os.path.abspath(folder)}/"

    def clean_name(name: str) -> str:
        if "\\" in name and not os.path.lexists(folder / name):
            name = name.replace("\\", "/")
        return name.removeprefix(start) if name.startswith(start) else name

    return names.map(clean_name)


def _name_groups(table: pd.DataFrame, names: dict[str, str]) -> "pd.Series[str]":
    parts = [
        table.get(f"{role}_name", column + " = " + table[role].astype(str))
        for role, column in names.items()
    ]
    return (parts[0] + ", " + parts[1]).str.removesuffix(", ")


def _find_problems(
    path: Path, table: pd.DataFrame, has_texts: bool, names: dict[str, str]
) -> list[str]:
    problems = tables.find_missing_splits(path, table)
    if len(problems) == 1:
        has_validation = (table.split == SPLITS.index("validation")).any()
        remedy = (
            "remove the column and draw all splits with datasets.prepare --split 0.7/0.1/0.2"
            if has_validation
            else "draw it from the training rows with datasets.prepare --split 0.8/0.2"
        )
        problems = [f"{problems[0]}; {remedy}"]
    if not has_texts:
        problems += tables.find_outside_names(path, table.filename)
    if table.y.nunique() < 2:
        problems.append(f"{path}: column {names['y']}: one class, expected at least two")
    if not problems:
        shown = table.get("y_name", table.y.astype(str))
        untrained = set(table.y) - set(table.y[table.split == 0])
        problems += [
            f"{path}: class {shown[table.y == number].iloc[0]} has no row in training, expected "
            "each class there"
            for number in sorted(untrained)
        ]
    return problems


def _describe_repeated_rows(table: pd.DataFrame, has_texts: bool) -> list[str]:
    """Return a sentence on images or texts that are in several splits; none without one."""
    column = "text" if has_texts else "filename"
    counts = table.groupby(column).split.nunique()
    repeated = counts.index[counts > 1]
    if repeated.empty:
        return []
    verb = "is" if len(repeated) == 1 else "are"
    rows = ", ".join(str(row + 1) for row in table.index[table[column] == repeated[0]][:3])
    return [
        f"{format_count(len(repeated), 'text' if has_texts else 'file')} {verb} in several splits "
        f"(rows {rows}{', ...' * (len(repeated) > 1)}), which makes their results too good"
    ]


def _read_names(path: Path, table: pd.DataFrame, role: str, column: str) -> tuple[str, ...]:
    """Return the names of classes or attributes: of the column ``<role>_name``, or numbers."""
    numbers = range(int(table[role].max()) + 1)
    name_column = f"{role}_name"
    if name_column not in table.columns:
        return tuple(f"{column} = {number}" for number in numbers)
    pairs = table[[role, name_column]].drop_duplicates()
    for key, other in ((role, name_column), (name_column, role)):
        for value in pairs[key][pairs[key].duplicated()][:1]:
            received = ", ".join(map(repr, pairs[other][pairs[key] == value].tolist()))
            raise UserError(
                f"{path}: {key} {value!r} goes with {other} {received}, expected one of them"
            )
    return tuple(pairs.set_index(role)[name_column].loc[list(numbers)].tolist())
