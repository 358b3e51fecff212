"""The common table of group data sets: ``id,filename,split,y,a``, a row per example.

``split`` is 0, 1 or 2 (training, validation, test; names are taken too), ``y`` the class and ``a``
the attribute, numbered from 0. All texts are UTF-8.
"""

import csv
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from common.errors import UserError, suggest_name, truncate_problems
from common.files import hash_text, read_text, write_text
from datasets.benchmark import SPLITS

COLUMNS = ("id", "filename", "split", "y", "a")
SPLIT_NUMBERS = {
    **{str(number): number for number in range(3)},
    **{"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2},
}


def read_csv(
    path: Path, columns: Sequence[str], separator: str = ",", optional: Sequence[str] = ()
) -> pd.DataFrame:
    """Return a table as text, whatever stands in it: ``NA`` and ``null`` are texts like others.

    Args:
        path: The file.
        columns: The columns that must be there, or may.
        separator: A tab means that quotes are no quotes, as in GLUE's files.
        optional: Those of the columns that may be absent.

    Raises:
        UserError: If the file is missing, empty or malformed, is not UTF-8, or lacks a column.
    """
    quoting: Literal[0, 3] = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    text = read_text(path).rstrip("\r\n")  # blank lines at the end are no rows
    first = text.split("\n", 1)[0]
    for other in ";\t":  # as spreadsheets of some languages write
        if other in first and separator not in first:
            raise UserError(f"{path}: columns are separated by {other!r}, expected {separator!r}")
    try:
        with warnings.catch_warnings():
            # Rows that are longer than the header would be cut with a warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table: pd.DataFrame = pd.read_csv(
                io.StringIO(text, newline=""),
                sep=separator,
                dtype=str,
                na_filter=False,
                quoting=quoting,
                index_col=False,
                skip_blank_lines=False,  # a blank line is an empty text, not nothing
                lineterminator="\n" if separator == "\t" else None,
            )
    except pd.errors.EmptyDataError:
        raise UserError(f"{path}: empty, expected the columns {', '.join(columns)}") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning):
        raise UserError(f"{path}: {_malformed(text, separator)}") from None
    table.columns = pd.Index([str(name).strip() for name in table.columns])
    return demanded(path, table, [name for name in columns if name not in optional])


def demanded(path: Path, table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return a table that has these columns.

    Raises:
        UserError: If it lacks one.
    """
    lacking = [name for name in columns if name not in table.columns]
    if lacking:
        near = suggest_name(lacking[0], [str(name) for name in table.columns])
        raise UserError(
            f"{path}: missing column{'s' * (len(lacking) > 1)} {', '.join(lacking)}{near}; "
            f"the file has {', '.join(map(str, table.columns)) or 'none'}"
        )
    return table


def _malformed(text: str, separator: str) -> str:
    """Return why a text is no table: the first line with more fields than the header."""
    quoting: Literal[0, 3] = csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, quoting=quoting, strict=True
    )
    start = 1
    try:
        header = len(next(reader))
        start = reader.line_num + 1
        for row in reader:
            if len(row) > header:
                return f"line {start}: {len(row)} fields, expected {header} as in the first line"
            start = reader.line_num + 1
    except csv.Error:
        return f"line {start}: a quote is wrong, or opened and never closed"
    return "no table of comma-separated values"


def read_table(path: Path) -> pd.DataFrame:
    """Return a common table with numbers, checked row by row.

    Returns:
        ``id`` and ``filename`` as text, ``split``, ``y`` and ``a`` as int64, further columns as
        they are.

    Raises:
        UserError: If columns are missing, or a row has an unknown split, a label or attribute
            that is no number from 0 up, or an id that stands twice.
    """
    return parse(path, read_csv(path, COLUMNS))


def parse(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Return a common table of texts with numbers, checked as by :func:`read_table`."""
    found: list[str] = []
    splits = table["split"].str.strip().str.lower().map(SPLIT_NUMBERS)
    expected = "0, 1 or 2 (training, validation, test)"
    for name in table["split"][splits.isna()][:1]:
        expected += suggest_name(name, ("training", "validation", "test"))
    found += _rows(path, table, "split", splits.isna(), expected)
    table["split"] = splits.fillna(0).astype(np.int64)
    for column in ("y", "a"):
        text = table[column].str.strip()
        right = text.str.fullmatch(r"[0-9]{1,9}(\.0*)?")
        found += _rows(path, table, column, ~right, "a number from 0 up")
        table[column] = text.where(right, "0").astype(np.float64).astype(np.int64)
    found += _rows(path, table, "id", table["id"].duplicated(), "ids that stand once")
    found += _rows(path, table, "filename", table["filename"] == "", "a name")
    if found:
        raise truncate_problems(found)
    if table.empty:
        raise UserError(f"{path}: no rows")
    return table


def in_range(
    path: Path, table: pd.DataFrame, column: str, high: int, splits: Sequence[int]
) -> list[str]:
    """Return a sentence for each row of some splits whose number is not below ``high``."""
    bad = (table[column] >= high) & table["split"].isin(splits)
    return _rows(path, table, column, bad, f"0 to {high - 1}")


def contiguous(path: Path, table: pd.DataFrame, column: str, least: int) -> list[str]:
    """Return a sentence if a column's numbers are not 0 to k - 1, with k at least ``least``."""
    values = sorted(set(table[column].tolist()))
    if values == list(range(len(values))) and len(values) >= least:
        return []
    shown = ", ".join(map(str, values[:12])) + (", ..." if len(values) > 12 else "")
    more = f" with at least {least} of them" if least > 1 else ""
    return [f"{path}: column {column}: received {shown}; expected 0 to k - 1{more}"]


def missing_splits(path: Path, table: pd.DataFrame) -> list[str]:
    """Return a sentence for each split that has no row."""
    present = set(table["split"].tolist())
    return [
        f"{path}: no row of split {number} ({name})"
        for number, name in enumerate(SPLITS)
        if number not in present
    ]


def text_of(table: pd.DataFrame) -> str:
    """Return a table as CSV; equal tables have equal texts."""
    return str(table.to_csv(index=False, lineterminator="\n"))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table, whole or not at all."""
    write_text(path, text_of(table))


def digest(table: pd.DataFrame) -> str:
    """Return a table's name by content, 16 hexadecimal digits."""
    return hash_text(text_of(table))


def empty_texts(path: Path, texts: pd.Series, what: str = "text") -> list[str]:
    """Return a sentence for each empty text."""
    bad = texts.index[texts.str.strip() == ""]
    return [f"{path}: row {row + 1}: empty {what}" for row in bad]


def _rows(
    path: Path, table: pd.DataFrame, column: str, bad: "pd.Series[bool]", expected: str
) -> list[str]:
    """Return a sentence for each bad row; the first row after the header is row 1."""
    return [
        f"{path}: row {row + 1} (id {table['id'][row]}): {column}: "
        f"received '{table[column][row]}', expected {expected}"
        for row in table.index[bad.to_numpy(dtype=bool)]
    ]
