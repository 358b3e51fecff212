"""The common table of group data sets: ``id,filename,split,y,a``, a row per example.

``split`` is 0, 1 or 2 (training, validation, test; names are taken too), ``y`` the class and ``a``
the attribute, numbered from 0. All texts are UTF-8.

Rows are written and read by rules of this module alone, since those of Python's csv module and of
pandas for a carriage return differ between releases: rows end as the first line does, with a line
feed, both characters, or a carriage return (old Macs); any other one is part of its field.
"""

import csv
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from common.errors import UserError, suggest_name, truncate_problems
from common.files import hash_text, read_text, write_text
from datasets.benchmark import SPLITS

COLUMNS = ("id", "filename", "split", "y", "a")
PRIVATE_USE = range(0xE000, 0xF900)  # characters without a meaning
QUOTED = re.compile('[,"\\r\\n]')  # cells with one of these are quoted
SPLIT_NUMBERS = {
    **{str(number): number for number in range(3)},
    **{"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2},
    **{"validate": 1, "dev": 1, "devel": 1, "development": 1, "testing": 2},
}


def read_csv(
    path: Path,
    columns: Sequence[str],
    separator: str = ",",
    optional: Sequence[str] = (),
    is_any: bool = False,
) -> pd.DataFrame:
    """Return a table as text, unconverted: ``NA`` and ``null`` are texts like others.

    Args:
        path: The file.
        columns: The expected columns.
        separator: A tab means that quotes have no meaning, as in GLUE's files.
        optional: Those of the columns that may be absent.
        is_any: Whether a file may have any separator, the one given, and quotes beside tabs.

    Raises:
        UserError: If the file is missing, empty or malformed, is not UTF-8, or lacks a column.
    """
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
    if separator == "\t" and not is_any:
        quoting = csv.QUOTE_NONE
    rows = _split_rows(read_text(path), quoting)
    text, first = rows.text, rows.text.split("\n", 1)[0]
    for other in ";\t":  # as spreadsheets of some languages write
        if other in first and separator not in first and not is_any:
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
            )
    except pd.errors.EmptyDataError:
        raise UserError(f"{path}: empty, expected the columns {', '.join(columns)}") from None
    except (pd.errors.ParserError, pd.errors.ParserWarning):
        raise UserError(f"{path}: {_describe_malformed(text, separator, quoting)}") from None
    table = rows.restore(table)
    table.columns = pd.Index([str(name).strip() for name in table.columns])
    return require_columns(path, table, [name for name in columns if name not in optional])


class _Rows(NamedTuple):
    """A table's text in which nothing but a line feed ends a line.

    Args:
        text: The text.
        other: The line feed or carriage return that ends no row.
        mark: Its replacement, a character that the original text lacks.
        is_dos: Whether the mark also stands before the line feed of each row.
    """

    text: str
    other: str
    mark: str
    is_dos: bool

    def restore(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the table that was read from the text, with its own line breaks."""
        if self.mark not in self.text and self.other == "\r":
            return table
        columns = {str(name): column.astype(str) for name, column in table.items()}
        last = str(table.columns[-1])
        if self.is_dos:
            columns[last] = columns[last].str.removesuffix(self.mark)
        return pd.DataFrame(
            {
                self._restore_breaks(name): column.map(self._restore_breaks)
                for name, column in columns.items()
            }
        )

    def _restore_breaks(self, cell: str) -> str:
        if self.other == "\n":  # a carriage return ends rows, and stands in cells as a line feed
            cell = cell.replace("\n", "\r")
        return cell.replace(self.mark, self.other)


def _split_rows(text: str, quoting: Literal[0, 3]) -> _Rows:
    """Return a table's text with a line feed at the end of each row, and of no other use."""
    line = r"[^\r\n]*" if quoting == csv.QUOTE_NONE else r'(?:[^"\r\n]|"[^"]*")*'
    first = re.match(line, text)
    after = text[first.end() : first.end() + 2] if first else ""
    end = "\r" if after[:1] == "\r" and after != "\r\n" else "\n"
    is_dos = after == "\r\n"
    rows = text.rstrip("\r\n")  # blank lines at the end are no rows
    last_cell = text[len(rows) :].partition(end)[0].removesuffix("\r" if is_dos else "")
    rows += last_cell + ("\r\n" if is_dos else end)
    mark = next(mark for mark in map(chr, PRIVATE_USE) if mark not in text)
    if end == "\r":
        return _Rows(rows.replace("\n", mark).replace("\r", "\n"), "\n", mark, False)
    return _Rows(rows.replace("\r", mark), "\r", mark, is_dos)


def require_columns(path: Path, table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the table if it has these columns.

    Raises:
        UserError: If it lacks one.
    """
    missing = [name for name in columns if name not in table.columns]
    if missing:
        suggestion = suggest_name(missing[0], [str(name) for name in table.columns])
        raise UserError(
            f"{path}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}{suggestion}; "
            f"the file has {', '.join(map(str, table.columns)) or 'none'}"
        )
    return table


def _describe_malformed(text: str, separator: str, quoting: Literal[0, 3]) -> str:
    """Return the reason why a text is no table, with the first line that has too many fields."""
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
    return "not a table of comma-separated values"


def read_table(path: Path) -> pd.DataFrame:
    """Return a common table with numbers, validated row by row.

    Returns:
        ``id`` and ``filename`` as text, ``split``, ``y`` and ``a`` as int64, further columns as
        they are.

    Raises:
        UserError: If columns are missing, or a row has an unknown split, a label or attribute
            that is no number from 0 up, or a duplicate id.
    """
    return parse_table(path, read_csv(path, COLUMNS))


def parse_table(path: Path, table: pd.DataFrame, split_remedy: str = "") -> pd.DataFrame:
    """Return a common table of texts with numbers, validated as by :func:`read_table`.

    Args:
        path: The table, for messages.
        table: Its rows.
        split_remedy: An end of the messages on unknown splits.
    """
    words = table.split.str.strip().str.lower()
    numbers = words.map(SPLIT_NUMBERS)
    expected = "0, 1 or 2 (training, validation, test)"
    for name in table.split[numbers.isna()][:1]:
        is_word = len(name) > 4  # True is no test
        expected += suggest_name(name, ("training", "validation", "test")) if is_word else ""
    if set(words) == {"1", "2", "3"}:
        expected += "; subtract 1 from each"
    expected += split_remedy
    problems = _describe_rows(path, table, "split", numbers.isna(), expected)
    columns = {"split": numbers.fillna(0).astype(np.int64)}
    for column in ("y", "a"):
        text = table[column].str.strip()
        valid = text.str.fullmatch(r"[0-9]{1,9}(\.0*)?")
        problems += _describe_rows(path, table, column, ~valid, "a number from 0 up")
        columns[column] = text.where(valid, "0").astype(np.float64).astype(np.int64)
    problems += _describe_rows(path, table, "id", table.id.duplicated(), "unique ids")
    problems += _describe_rows(path, table, "filename", table.filename == "", "a name")
    if problems:
        raise truncate_problems(problems)
    if table.empty:
        raise UserError(f"{path}: no rows")
    return table.assign(**columns)


def parse_row_numbers(path: Path, names: "pd.Series[str]") -> np.ndarray:
    """Return the row numbers that a table has in place of file names, ``(n,)`` int64.

    Raises:
        UserError: If one is not a number.
    """
    invalid = ~names.str.fullmatch("[0-9]{1,9}")
    for row in names.index[invalid][:1]:
        raise UserError(
            f"{path}: row {row + 1}: filename: received '{names[row]}', expected a row's number"
        )
    return names.astype(np.int64).to_numpy()


def find_out_of_range(
    path: Path, table: pd.DataFrame, column: str, high: int, splits: Sequence[int]
) -> list[str]:
    """Return a sentence for each row of some splits whose number is not below ``high``."""
    invalid = (table[column] >= high) & table.split.isin(splits)
    return _describe_rows(path, table, column, invalid, f"0 to {high - 1}")


def find_missing_splits(path: Path, table: pd.DataFrame) -> list[str]:
    """Return a sentence for each split without a row."""
    present = set(table.split.tolist())
    return [
        f"{path}: no row of split {number} ({name})"
        for number, name in enumerate(SPLITS)
        if number not in present
    ]


def find_outside_names(path: Path, names: "pd.Series[str]") -> list[str]:
    """Return a sentence for each file name that leads out of its folder."""
    parts = names.str.replace("\\", "/", regex=False)
    is_url = parts.str.contains("^[a-z][a-z0-9+.-]+://", case=False, regex=True)
    outside = (
        is_url | parts.str.startswith("/") | parts.str.contains(r"(?:^|/)\.\.(?:/|$)", regex=True)
    )
    return [
        f"{path}: row {row + 1}: filename: received '{names[row]}', expected a name inside the "
        f"data set's folder{'; download the files first' * bool(is_url[row])}"
        for row in names.index[outside]
    ]


def find_empty_texts(path: Path, texts: "pd.Series[str]", name: str = "text") -> list[str]:
    """Return a sentence for each empty text."""
    empty = texts.index[texts.str.strip() == ""]
    return [f"{path}: row {row + 1}: empty {name}" for row in empty]


def to_csv(table: pd.DataFrame) -> str:
    """Return a table as CSV; equal tables have equal texts."""
    columns = [[str(name), *column.astype(str)] for name, column in table.items()]
    return "".join(",".join(_quote_cells(row)) + "\n" for row in zip(*columns, strict=True))


def _quote_cells(row: tuple[str, ...]) -> Iterator[str]:
    """Yield the cells of a row, in quotes where they need them."""
    for cell in row:
        needs_quotes = QUOTED.search(cell) or (not cell and len(row) == 1)
        yield '"' + cell.replace('"', '""') + '"' if needs_quotes else cell


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically."""
    write_text(path, to_csv(table))


def hash_table(table: pd.DataFrame) -> str:
    """Return a hash of a table's content, 16 hexadecimal digits."""
    return hash_text(to_csv(table))


def _describe_rows(
    path: Path, table: pd.DataFrame, column: str, invalid: "pd.Series[bool]", expected: str
) -> list[str]:
    """Return a sentence for each invalid row; the first row after the header is row 1."""
    rows = table[invalid.to_numpy(dtype=bool)]
    return describe_values(path, rows.id, rows[column], column, expected)


def describe_values(
    path: Path, ids: "pd.Series[str]", values: "pd.Series[str]", column: str, expected: str
) -> list[str]:
    """Return a sentence for each different value of invalid rows, with the first that has it.

    Args:
        path: The table.
        ids: The ids of the rows.
        values: Their values.
        column: The column's name in messages.
        expected: The values that the column takes.
    """
    counts = values.value_counts()
    first = ~values.duplicated()
    sentences = []
    for row, name, value in zip(values.index[first], ids[first], values[first], strict=True):
        more = f" and {counts[value] - 1:,} more" if counts[value] > 1 else ""
        sentences.append(
            f"{path}: row {row + 1} (id {name}){more}: {column}: received '{value}', "
            f"expected {expected}"
        )
    return sentences
