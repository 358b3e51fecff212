"""Tables that a folder gives without one file that is it: a table per split, folders of classes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from common.files import is_hidden
from datasets.formats.csv_tables import SPLIT_NUMBERS
from datasets.own.splits import EVALUATION

SPLIT_WORDS = frozenset(word for word in (*SPLIT_NUMBERS, *EVALUATION) if not word.isdigit())
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")
FILE_ENDINGS = (*IMAGE_ENDINGS, ".txt")
MAX_LISTED = 6  # classes
LEAST_SPLITS = 2  # of tables or folders that are named by splits


def is_split_word(name: str) -> bool:
    """Return whether a name is a usual word for a split, such as ``dev``."""
    return name.strip().lower() in SPLIT_WORDS


def are_split_tables(tables: Sequence[Path]) -> bool:
    """Return whether files are tables of a split each: ``train.csv``, ``test.csv``."""
    return len(tables) >= LEAST_SPLITS and all(is_split_word(table.stem) for table in tables)


def join_split_tables(tables: Sequence[Path], parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all splits' tables with a column ``split``, their names.

    Args:
        tables: The files.
        parts: Their rows.
    """
    named = [
        part.drop(columns="split", errors="ignore").assign(split=table.stem)
        for table, part in zip(tables, parts, strict=True)
    ]
    joined = pd.concat(named, ignore_index=True).fillna("")
    if "id" in joined and joined.id.duplicated().any():  # counted anew in each table
        joined["id"] = joined.split + "/" + joined.id
    return joined


def describe_folder_table(table: pd.DataFrame, has_tables: bool) -> str:
    """Return a sentence on how a folder without one table was understood.

    Args:
        table: Its rows.
        has_tables: Whether they come from tables, one of each split; else from folders of classes.
    """
    if not has_tables:
        kinds = ", ".join(sorted(set(table.y))[:MAX_LISTED])
        end = ", those above them the splits" if "split" in table else ""
        return f"there is no table: the folders {kinds} are the classes{end}"
    return f"the tables are the splits: {', '.join(table.split.unique())}"


def read_class_folders(folder: Path) -> pd.DataFrame | None:
    """Return the table of a folder ``[SPLIT/]CLASS/FILE``; None if it has another form.

    Columns: ``filename``, ``y`` (the name of its folder) and, with splits, ``split``.

    Args:
        folder: The folder.
    """
    folders = list(_list_folders(folder))
    splits = [path for path in folders if is_split_word(path.name)]
    has_splits = len(splits) >= LEAST_SPLITS
    parents = splits if has_splits else [folder]
    rows = [
        {"filename": file.relative_to(folder).as_posix(), "split": parent.name, "y": kind.name}
        for parent in parents
        for kind in _list_folders(parent)
        for file in sorted(kind.rglob("*"))
        if file.suffix.lower() in FILE_ENDINGS and not is_hidden(file) and file.is_file()
    ]
    table = pd.DataFrame(rows)
    if table.empty or table.y.nunique() < 2:
        return None
    return table if has_splits else table.drop(columns="split")


def _list_folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        folders = (path for path in sorted(folder.iterdir()) if path.is_dir())
        yield from (path for path in folders if not is_hidden(path))
