"""The files of own tables: CSV with any usual separator, TSV, Parquet, JSON lines."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from common.errors import UserError
from common.files import is_hidden, read_text
from datasets.formats.csv_tables import COLUMNS, read_csv
from datasets.own.folder_tables import are_split_tables, join_split_tables, read_class_folders

ENDINGS = (".csv", ".tsv", ".parquet", ".jsonl")  # a folder's tables are those of the first found
SPREADSHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
OTHER_ENDINGS = (".json", ".txt", ".gz", ".zip", ".xz", ".bz2", ".feather", ".pkl", ".arrow")
PREFERRED = ("metadata", "metadata_folder")
ZIP, OLD_EXCEL = b"PK\3\4", b"\xd0\xcf\x11\xe0"  # the first bytes of spreadsheets' files
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
SAVE_AS = "save it as CSV (UTF-8)"


def find_table(folder: Path) -> Path:
    """Return the table of a folder: ``metadata.csv``, or the only one.

    A folder of tables of a split each, or of folders of classes, is its own table.

    Raises:
        UserError: If there are several, or a spreadsheet only.
    """
    for ending in ENDINGS:
        found = list_tables(folder, ending)
        for name in PREFERRED:
            if folder / f"{name}{ending}" in found:
                return folder / f"{name}{ending}"
        if are_split_tables(found):
            return folder
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise UserError(f"{folder}: {names}: which one is the table? Call it metadata{ending}")
        if found:
            return found[0]
    for path in list_tables(folder, *SPREADSHEETS):
        raise UserError(f"{path}: this is a spreadsheet; {SAVE_AS}")
    if read_class_folders(folder) is not None:
        return folder
    if len(others := list_tables(folder, *OTHER_ENDINGS)) == 1:
        raise UserError(f"{others[0]}: expected a table {', '.join(ENDINGS)}; {SAVE_AS}")
    return folder / f"{PREFERRED[0]}{ENDINGS[0]}"


def read_table_file(path: Path) -> pd.DataFrame:
    """Return a table as text; missing values are empty.

    Args:
        path: The file, or the folder that :func:`find_table` returns.

    Raises:
        UserError: If it is missing, empty or malformed, or of another kind than its name says.
    """
    if path.is_dir():
        return _read_folder(path)
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


def _read_folder(folder: Path) -> pd.DataFrame:
    found = read_class_folders(folder)
    if found is not None and not list_tables(folder):
        return found
    tables = next(tables for ending in ENDINGS if (tables := list_tables(folder, ending)))
    return join_split_tables(tables, [read_table_file(table) for table in tables])


def list_tables(folder: Path, *endings: str) -> list[Path]:
    """Return the files of a folder with the endings of tables, or some of them, sorted."""
    return sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() in (endings or ENDINGS) and not is_hidden(path) and path.is_file()
    )


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
    for name, column in table.items():
        value = next(iter(column[column.notna()]), None)
        if isinstance(value, (bytes, Mapping)):  # as Hugging Face's datasets are stored
            cell = "cell['bytes']" if isinstance(value, Mapping) else "cell"
            raise UserError(
                f"{path}: column {name} holds files, expected their names: write each to a file "
                f"beside the table (in Python: open(name, 'wb').write({cell})), and a column image "
                "with the names"
            )
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
