"""CelebA's own files: attributes and partition, as in the release or as on Kaggle.

The release has text files, flat or in ``Anno`` and ``Eval``, and images in ``Img``. On Kaggle, and
for WILDS and the code of Sagawa et al., the lists are comma-separated ``.csv`` files, which
spreadsheets and pandas may have saved again.
"""

import csv
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.errors import UserError, suggest_name, truncate_problems
from common.files import read_text

ATTRIBUTES = "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
IMAGES = "img_align_celeba"
OTHER_FOLDERS = ("celebA_v1.0", "celebA", "CelebA", "celeba-dataset")  # of WILDS, Sagawa, Kaggle
LANDMARKS = (IMAGES, "Img", "Anno", ATTRIBUTES, ATTRIBUTES.replace(".txt", ".csv"))
SPLIT_NUMBERS = ("0", "1", "2")
WHOLE_FLOAT = re.compile(r"(-?\d+)\.0*")  # an integer as pandas writes it beside a missing value
INDEX_NAME = re.compile(r"(?:index|level_0|unnamed: \d+)?", re.IGNORECASE)  # of pandas' index
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


class CelebAFiles(NamedTuple):
    """The paths of CelebA's parts.

    Args:
        images: The folder of the aligned images.
        attributes: The list of 40 attributes of each image.
        partition: The list of each image's split.
    """

    images: Path
    attributes: Path
    partition: Path


class CelebALists(NamedTuple):
    """The lists for the images of the partition, in its order.

    Args:
        attributes: The attributes, 0 or 1, a row per image, indexed by file name.
        splits: The images' splits, 0, 1 or 2, indexed by file name.
    """

    attributes: pd.DataFrame
    splits: "pd.Series[int]"

    @property
    def file_names(self) -> list[str]:
        """The file names of the images."""
        return [str(name) for name in self.splits.index]


def locate_files(folder: Path) -> CelebAFiles:
    """Return CelebA's files in the layout of the release, flat, or as on Kaggle."""
    candidates = _list_candidates(folder)
    return CelebAFiles(
        *(next((path for path in paths if path.exists()), paths[0]) for paths in candidates)
    )


def describe_choices(folder: Path) -> list[str]:
    """Return a sentence for each part of which there are two, naming the one that is read."""
    choices = []
    for paths in _list_candidates(folder):
        found = [str(path) for path in paths if path.exists()]
        if len(found) > 1:
            choices.append(f"{' and '.join(found)} are both there: {found[0]} is read")
    return choices


def find_missing_parts(files: CelebAFiles) -> list[str]:
    """Return a sentence for the folder of images and each list that is missing."""
    missing = [] if files.images.is_dir() else [f"{files.images}: no such folder"]
    return missing + _find_missing_lists(files)


def _find_missing_lists(files: CelebAFiles) -> list[str]:
    return [
        f"{path}: missing; so is {path.with_suffix('.csv').name}, the list's form on Kaggle"
        for path in (files.attributes, files.partition)
        if not path.is_file()
    ]


def _list_candidates(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """Return the possible paths of images, attributes and partition, the preferred ones first."""
    images = [folder / IMAGES, folder / "Img" / IMAGES]
    nested = [path / IMAGES for path in images]  # as Kaggle's archive is extracted
    lists = (
        [
            folder / part / name
            for name in (text, text.replace(".txt", ".csv"))
            for part in ("", inner)
        ]
        for text, inner in ((ATTRIBUTES, "Anno"), (PARTITION, "Eval"))
    )
    attributes, partition = lists
    filled = [path for path in nested if path.is_dir() and not _has_images(path.parent)]
    return filled or images, attributes, partition


def _has_images(folder: Path) -> bool:
    return any(folder.glob("[!.]*.jpg"))


def read_lists(files: CelebAFiles) -> CelebALists:
    """Return the attributes and the splits of the images that the partition lists.

    Raises:
        UserError: If one list lacks images of the other. Attributes may be of more images, if the
            list itself is a part of the whole (fewer rows than its first line says).
    """
    problems = _find_missing_lists(files)
    if problems:
        raise truncate_problems(problems)
    (attributes, count), splits = read_attributes(files.attributes), read_partition(files.partition)
    missing = splits.index.difference(attributes.index)
    if len(missing):
        raise UserError(
            f"{files.attributes}: no attributes of {missing[0]}, which {files.partition.name} "
            f"lists ({len(missing):,} such images): truncated?"
        )
    unlisted = attributes.index.difference(splits.index)
    if len(unlisted) and len(attributes) >= count:
        raise UserError(
            f"{files.partition}: no split of {unlisted[0]}, which {files.attributes.name} lists "
            f"({len(unlisted):,} such images): truncated?"
        )
    return CelebALists(attributes.loc[splits.index], splits)


def read_attributes(path: Path) -> tuple[pd.DataFrame, int]:
    """Return the attributes, 0 or 1, by file name, and the count of images that the file states.

    Returns:
        A row per image, in the file's order, int8; and the number in its first line, or of rows.

    Raises:
        UserError: If the file is malformed, or an attribute is neither 1 nor -1 (nor 0, in a list
            without -1); the message names the line.
    """
    rows, is_csv = _read_rows(path)
    if is_csv:
        names, count, rows = rows[0].cells[1:], len(rows) - 1, rows[1:]
    elif len(rows) < 3 or len(rows[0].cells) != 1 or not rows[0].cells[0].isdecimal():
        raise UserError(
            f"{path}: expected the number of images, then a line of attribute names, then a line "
            "per image; or comma-separated columns"
        )
    else:
        names, count, rows = rows[1].cells, int(rows[0].cells[0]), rows[2:]
    problems = [
        f"{path}: line {row.line}: {len(row.cells)} fields, expected a file name and {len(names)} "
        "attributes"
        for row in rows
        if len(row.cells) != len(names) + 1
    ]
    if problems:
        raise truncate_problems(problems)
    table = pd.DataFrame(
        [row.cells[1:] for row in rows], columns=names, index=[row.cells[0] for row in rows]
    )
    spellings = {cell for row in rows for cell in row.cells[1:]}
    values = {cell: _strip_fraction(cell) for cell in spellings}
    # Without a -1 in the whole list, 0 can only mean that an attribute is absent.
    expected = {"1", "-1" if "-1" in values.values() else "0"}
    invalid = ~table.isin([cell for cell, value in values.items() if value in expected]).to_numpy()
    for place, column in np.argwhere(invalid)[:1]:
        raise UserError(
            f"{path}: line {rows[place].line}: {names[column]}: received "
            f"{table.iat[place, column]!r}, expected 1 or -1 (or 1 and 0 in the whole list)"
        )
    _check_unique(path, table.index)
    present = [cell for cell, value in values.items() if value == "1"]
    return table.isin(present).astype(np.int8), count


def read_partition(path: Path) -> "pd.Series[int]":
    """Return each image's split, 0, 1 or 2, by file name, in the file's order.

    Raises:
        UserError: If a line is not a file name and such a number; the message names the line.
    """
    rows, is_csv = _read_rows(path)
    if not rows:
        raise UserError(f"{path}: empty, expected a line per image: a file name and 0, 1 or 2")
    if is_csv and _strip_fraction(rows[0].cells[-1]) not in SPLIT_NUMBERS:
        header, *rows = rows
        if "partition" in header.cells:
            column = header.cells.index("partition")
            rows = [_Row(row.line, [row.cells[0], row.cells[column]]) for row in rows]
    rows = [_Row(row.line, [*row.cells[:1], *map(_strip_fraction, row.cells[1:])]) for row in rows]
    problems = [
        f"{path}: line {row.line}: received '{' '.join(row.cells)}', expected a file name and 0, 1 "
        "or 2"
        for row in rows
        if len(row.cells) != 2 or row.cells[1] not in SPLIT_NUMBERS
    ]
    if problems:
        raise truncate_problems(problems)
    splits = pd.Series(
        [int(row.cells[1]) for row in rows], index=[row.cells[0] for row in rows], dtype=np.int64
    )
    _check_unique(path, splits.index)
    return splits


class _Row(NamedTuple):
    """A row that is not blank.

    Args:
        line: Its line in the file, from 1.
        cells: Its cells, without spaces around them.
    """

    line: int
    cells: list[str]


def _read_rows(path: Path) -> tuple[list[_Row], bool]:
    """Return the rows of a list, and whether commas separate their cells, in place of spaces.

    Raises:
        UserError: If neither does, or the comma-separated table is malformed.
    """
    lines = read_text(path).splitlines()
    first = next((line for line in lines if line.strip(" \t,;")), "").strip()
    if "," in first:
        return _select_columns(path, _split_cells(path, lines)), True
    is_partition = first.endswith(SPLIT_NUMBERS)  # without a header
    for separator, name in OTHER_SEPARATORS.items():
        if separator in first and not (separator == "\t" and is_partition):
            raise UserError(f"{path}: columns are separated by {name}, expected commas")
    rows = [_Row(number, line.split()) for number, line in enumerate(lines, start=1)]
    return [row for row in rows if row.cells], False


def _split_cells(path: Path, lines: list[str]) -> list[_Row]:
    """Return the rows of a comma-separated table, all as long as the first, the blank ones dropped.

    Raises:
        UserError: If a quote is wrong, or a row is longer or shorter.
    """
    reader = csv.reader(lines, strict=True)
    try:
        rows = [_Row(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error:
        raise UserError(
            f"{path}: line {reader.line_num}: a quote is wrong, or opened and never closed"
        ) from None
    rows = [row for row in rows if any(row.cells)]
    width = max(place for place, name in enumerate(rows[0].cells, start=1) if name)
    problems = [
        f"{path}: line {row.line}: {len(row.cells)} fields, expected {width} as in the first line"
        for row in rows
        if len(row.cells) < width or any(row.cells[width:])
    ]
    if problems:
        raise truncate_problems(problems)
    return [row if len(row.cells) == width else _Row(row.line, row.cells[:width]) for row in rows]


def _select_columns(path: Path, rows: list[_Row]) -> list[_Row]:
    """Return the rows with the images' names first, without blank columns and pandas' index.

    Raises:
        UserError: If another column has no name.
    """
    header = rows[0].cells
    key = header.index("image_id") if "image_id" in header else 0
    columns = [
        column
        for column in (key, *(place for place in range(len(header)) if place != key))
        if not INDEX_NAME.fullmatch(header[column])
        or (column >= key and any(row.cells[column] for row in rows[1:]))
    ]
    for column in columns[1:]:
        if not header[column]:
            raise UserError(f"{path}: line {rows[0].line}: column {column + 1} has no name")
    if columns == list(range(len(header))):
        return rows
    return [_Row(row.line, [row.cells[column] for column in columns]) for row in rows]


def _strip_fraction(cell: str) -> str:
    """Return an integer without the decimals that are 0; any other text as it is."""
    found = WHOLE_FLOAT.fullmatch(cell)
    return found[1] if found else cell


def select_attribute(attributes: pd.DataFrame, name: str, path: Path) -> np.ndarray:
    """Return one attribute of all images, ``(n,)``.

    Raises:
        UserError: If the list lacks it.
    """
    if name not in attributes.columns:
        raise UserError(missing_attribute_message(attributes, name, path))
    return attributes[name].to_numpy()


def missing_attribute_message(attributes: pd.DataFrame, name: str, path: Path) -> str:
    """Return the error message for an attribute that the list lacks."""
    suggestion = suggest_name(name, map(str, attributes.columns))
    line = 1 if path.suffix == ".csv" else 2
    return f"{path}: line {line}: no attribute {name}{suggestion}"


def _check_unique(path: Path, names: pd.Index) -> None:
    if names.has_duplicates:
        raise UserError(f"{path}: {names[names.duplicated()][0]} is listed twice")
