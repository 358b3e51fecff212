"""CelebA's own files: attributes and partition, as in the release or as on Kaggle.

The release has text files, flat or in ``Anno`` and ``Eval``, and images in ``Img``. On Kaggle, and
for WILDS and the code of Sagawa et al., the lists are comma-separated ``.csv`` files.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.errors import UserError, suggest_name, truncate_problems
from common.files import read_text
from datasets.formats.csv_tables import read_csv

ATTRIBUTES = "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
IMAGES = "img_align_celeba"
OTHER_FOLDERS = ("celebA_v1.0", "celebA", "CelebA", "celeba-dataset")  # of WILDS, Sagawa, Kaggle
LANDMARKS = (IMAGES, "Img", "Anno", ATTRIBUTES, ATTRIBUTES.replace(".txt", ".csv"))
SPLIT_NUMBERS = ("0", "1", "2")


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
        UserError: If the file is malformed, or an attribute is neither 1 nor -1; the message names
            the line.
    """
    lines = read_text(path).rstrip("\n").split("\n")
    if "," in lines[0]:
        header, *rows = _read_csv_rows(path)
        names, count, first = header[1:], len(rows), 2
    elif len(lines) < 3 or not lines[0].strip().isdigit():
        raise UserError(
            f"{path}: expected the number of images, then a line of attribute names, then a line "
            "per image; or comma-separated columns"
        )
    else:
        names, *rows = [line.split() for line in lines[1:]]
        count, first = int(lines[0]), 3
    problems = [
        f"{path}: line {number}: {len(row)} fields, expected a file name and {len(names)} "
        "attributes"
        for number, row in enumerate(rows, start=first)
        if len(row) != len(names) + 1
    ]
    if problems:
        raise truncate_problems(problems)
    table = pd.DataFrame([row[1:] for row in rows], columns=names, index=[row[0] for row in rows])
    invalid = ~table.isin(["1", "-1"]).to_numpy()
    for row, column in np.argwhere(invalid)[:1]:
        raise UserError(
            f"{path}: line {row + first}: {names[column]}: received {table.iat[row, column]!r}, "
            "expected 1 or -1"
        )
    _check_unique(path, table.index)
    return (table == "1").astype(np.int8), count


def read_partition(path: Path) -> "pd.Series[int]":
    """Return each image's split, 0, 1 or 2, by file name, in the file's order.

    Raises:
        UserError: If a line is not a file name and such a number; the message names the line.
    """
    lines = read_text(path).rstrip("\n").split("\n")
    if "," in lines[0]:
        rows, first = _read_csv_rows(path), 1
        if rows[0][-1] not in SPLIT_NUMBERS:  # a header
            rows, first = rows[1:], 2
    else:
        rows, first = [line.split() for line in lines], 1
    problems = [
        f"{path}: line {number}: received '{' '.join(row)}', expected a file name and 0, 1 or 2"
        for number, row in enumerate(rows, start=first)
        if len(row) != 2 or row[1] not in SPLIT_NUMBERS
    ]
    if problems:
        raise truncate_problems(problems)
    splits = pd.Series([int(row[1]) for row in rows], index=[row[0] for row in rows])
    _check_unique(path, splits.index)
    return splits


def _read_csv_rows(path: Path) -> list[list[str]]:
    """Return the cells of a comma-separated file, the header's first."""
    table = read_csv(path, [])
    cells = [[str(name) for name in table.columns], *table.to_numpy().tolist()]
    return [[cell.strip() for cell in row] for row in cells]


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
