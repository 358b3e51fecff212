"""CelebA's own files: attributes and partition, in either of the layouts in use."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.errors import UserError, suggest_name, truncate_problems
from common.files import read_text

ATTRIBUTES = "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
IMAGES = "img_align_celeba"


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
    """Return CelebA's files: flat, or in ``Img``, ``Anno`` and ``Eval`` as in the release."""

    def find_path(part: str, name: str) -> Path:
        nested = folder / part / name
        return nested if nested.exists() and not (folder / name).exists() else folder / name

    return CelebAFiles(
        find_path("Img", IMAGES), find_path("Anno", ATTRIBUTES), find_path("Eval", PARTITION)
    )


def read_lists(files: CelebAFiles) -> CelebALists:
    """Return the attributes and the splits of the images that the partition lists.

    Raises:
        UserError: If one list lacks images of the other. Attributes may be of more images, if the
            list itself is a part of the whole (fewer rows than its first line says).
    """
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
        A row per image, in the file's order, int8; and the number in its first line.

    Raises:
        UserError: If the file is malformed, or an attribute is neither 1 nor -1; the message names
            the line.
    """
    lines = read_text(path).rstrip("\n").split("\n")
    if len(lines) < 3 or not lines[0].strip().isdigit():
        raise UserError(
            f"{path}: expected the number of images, then a line of attribute names, then a line "
            "per image"
        )
    names = lines[1].split()
    rows = [line.split() for line in lines[2:]]
    problems = [
        f"{path}: line {number}: {len(row)} fields, expected a file name and {len(names)} "
        "attributes"
        for number, row in enumerate(rows, start=3)
        if len(row) != len(names) + 1
    ]
    if problems:
        raise truncate_problems(problems)
    table = pd.DataFrame([row[1:] for row in rows], columns=names, index=[row[0] for row in rows])
    invalid = ~table.isin(["1", "-1"]).to_numpy()
    for row, column in np.argwhere(invalid)[:1]:
        raise UserError(
            f"{path}: line {row + 3}: {names[column]}: received {table.iat[row, column]!r}, "
            "expected 1 or -1"
        )
    _check_unique(path, table.index)
    return (table == "1").astype(np.int8), int(lines[0])


def read_partition(path: Path) -> "pd.Series[int]":
    """Return each image's split, 0, 1 or 2, by file name, in the file's order.

    Raises:
        UserError: If a line is not a file name and such a number; the message names the line.
    """
    rows = [line.split() for line in read_text(path).rstrip("\n").split("\n")]
    problems = [
        f"{path}: line {number}: received '{' '.join(row)}', expected a file name and 0, 1 or 2"
        for number, row in enumerate(rows, start=1)
        if len(row) != 2 or row[1] not in ("0", "1", "2")
    ]
    if problems:
        raise truncate_problems(problems)
    splits = pd.Series([int(row[1]) for row in rows], index=[row[0] for row in rows])
    _check_unique(path, splits.index)
    return splits


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
    return f"{path}: line 2: no attribute {name}{suggestion}"


def _check_unique(path: Path, names: pd.Index) -> None:
    if names.has_duplicates:
        raise UserError(f"{path}: {names[names.duplicated()][0]} is listed twice")
