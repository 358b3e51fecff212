"""The files of own tables: CSV with any usual separator, TSV, Parquet, JSON lines."""

from pathlib import Path

import pandas as pd

from common.errors import UserError
from common.files import is_hidden, read_text
from datasets.formats.csv_tables import COLUMNS, read_csv

ENDINGS = (".csv", ".tsv", ".parquet", ".jsonl")  # a folder's tables are those of the first found
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
PREFERRED = ("metadata", "metadata_folder")
ZIP, OLD_EXCEL = b"PK\3\4", b"\xd0\xcf\x11\xe0"  # the first bytes of spreadsheets' files
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
SAVE_AS = "save it as CSV (UTF-8)"


def find_table(folder: Path) -> Path:
    """Return the table of a folder: ``metadata.csv``, or the only one.

    Raises:
        UserError: If there are several, or a spreadsheet only.
    """
    endings = (*ENDINGS, *SPREADSHEETS)
    files = sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() in endings and not is_hidden(path) and path.is_file()
    )
    for ending in ENDINGS:
        found = [path for path in files if path.suffix.lower() == ending]
        for name in PREFERRED:
            if folder / f"{name}{ending}" in found:
                return folder / f"{name}{ending}"
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise UserError(f"{folder}: {names}: which one is the table? Call it metadata{ending}")
        if found:
            return found[0]
    for path in files:
        if path.suffix.lower() in SPREADSHEETS:
            raise UserError(f"{path}: this is a spreadsheet; {SAVE_AS}")
    return folder / f"{PREFERRED[0]}{ENDINGS[0]}"


def read_table_file(path: Path) -> pd.DataFrame:
    """Return a table as text; missing values are empty.

    Raises:
        UserError: If it is missing, empty or malformed, or of another kind than its name says.
    """
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    _check_encoding(path)
    if path.suffix.lower() == ".jsonl":
        return _read_json_lines(path)
    try:
        first = read_text(path).lstrip("\r\n").partition("\n")[0]
    except UserError as error:
        raise UserError(f"{error}; {SAVE_AS}" if path.is_file() else str(error)) from None
    separator = max((",", ";", "\t", "|"), key=first.count)
    if path.suffix.lower() == ".csv" and "," in first and separator != "\t":
        separator = ","
    return read_csv(path, COLUMNS, separator, optional=COLUMNS, is_any=True)


def _check_encoding(path: Path) -> None:
    """Refuse spreadsheets and texts of two bytes per character that are called ``.csv``."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        return  # the reader tells
    if start in (ZIP, OLD_EXCEL):
        raise UserError(f"{path}: this is a spreadsheet under another name; {SAVE_AS}")
    if start[:2] in UTF_16:
        raise UserError(f"{path}: not UTF-8 but UTF-16; {SAVE_AS}")


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no Parquet file: {_first_line(error)}") from None
    named = any(name is not None for name in table.index.names)
    return _convert_to_text(table.reset_index() if named else table)


def _read_json_lines(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_json(path, lines=True, dtype=False)
    except ValueError as error:
        raise UserError(f"{path}: no JSON object in each line: {_first_line(error)}") from None
    return _convert_to_text(table)


def _convert_to_text(table: pd.DataFrame) -> pd.DataFrame:
    columns = {str(n): c.astype(str).where(c.notna(), "") for n, c in table.items()}
    return pd.DataFrame(columns).reset_index(drop=True)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
