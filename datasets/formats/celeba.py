"""CelebA's own files: attributes and partition, in either of the layouts in use."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from common.errors import UserError, truncate_problems
from common.files import read_text

ATTRIBUTES = "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
IMAGES = "img_align_celeba"


class CelebAFiles(NamedTuple):
    """Where the parts of CelebA lie.

    Args:
        images: The folder of the aligned images.
        attributes: The list of 40 attributes of each image.
        partition: The list of each image's split.
    """

    images: Path
    attributes: Path
    partition: Path


def locate(folder: Path) -> CelebAFiles:
    """Return CelebA's files: flat, or in ``Img``, ``Anno`` and ``Eval`` as in the release."""

    def place(part: str, name: str) -> Path:
        nested = folder / part / name
        return nested if nested.exists() and not (folder / name).exists() else folder / name

    return CelebAFiles(place("Img", IMAGES), place("Anno", ATTRIBUTES), place("Eval", PARTITION))


def read_attributes(path: Path) -> pd.DataFrame:
    """Return the attributes, 0 or 1, by file name.

    Returns:
        A row per image, in the file's order, int8; the file's count of images, its first line, is
        ``attrs["count"]``.

    Raises:
        UserError: If the file is malformed, or an attribute is neither 1 nor -1: the line is named.
    """
    lines = read_text(path).rstrip("\n").split("\n")
    if len(lines) < 3 or not lines[0].strip().isdigit():
        raise UserError(
            f"{path}: expected the number of images, then a line of attribute names, then a line "
            "per image"
        )
    names = lines[1].split()
    rows = [line.split() for line in lines[2:]]
    found = [
        f"{path}: line {number}: {len(row)} fields, expected a file name and {len(names)} "
        "attributes"
        for number, row in enumerate(rows, start=3)
        if len(row) != len(names) + 1
    ]
    if found:
        raise truncate_problems(found)
    table = pd.DataFrame([row[1:] for row in rows], columns=names, index=[row[0] for row in rows])
    wrong = ~table.isin(["1", "-1"]).to_numpy()
    for row, column in np.argwhere(wrong)[:1]:
        raise UserError(
            f"{path}: line {row + 3}: {names[column]}: received {table.iat[row, column]!r}, "
            "expected 1 or -1"
        )
    _refuse_twice(path, table.index)
    table = (table == "1").astype(np.int8)
    table.attrs["count"] = int(lines[0])
    return table


def read_partition(path: Path) -> "pd.Series[int]":
    """Return each image's split, 0, 1 or 2, by file name, in the file's order.

    Raises:
        UserError: If a line is not a file name and such a number: the line is named.
    """
    rows = [line.split() for line in read_text(path).rstrip("\n").split("\n")]
    found = [
        f"{path}: line {number}: received '{' '.join(row)}', expected a file name and 0, 1 or 2"
        for number, row in enumerate(rows, start=1)
        if len(row) != 2 or row[1] not in ("0", "1", "2")
    ]
    if found:
        raise truncate_problems(found)
    splits = pd.Series([int(row[1]) for row in rows], index=[row[0] for row in rows])
    _refuse_twice(path, splits.index)
    return splits


def read_both(files: CelebAFiles) -> tuple[pd.DataFrame, "pd.Series[int]"]:
    """Return the attributes and the splits of the images that the partition lists, in its order.

    Raises:
        UserError: If one list lacks images of the other. Attributes may be of more images, if the
            list itself is a part of the whole (fewer rows than its first line says).
    """
    attributes, splits = read_attributes(files.attributes), read_partition(files.partition)
    lacking = splits.index.difference(attributes.index)
    if len(lacking):
        raise UserError(
            f"{files.attributes}: no attributes of {lacking[0]}, which {files.partition.name} "
            f"lists ({len(lacking):,} such images): truncated?"
        )
    unlisted = attributes.index.difference(splits.index)
    if len(unlisted) and len(attributes) >= attributes.attrs["count"]:
        raise UserError(
            f"{files.partition}: no split of {unlisted[0]}, which {files.attributes.name} lists "
            f"({len(unlisted):,} such images): truncated?"
        )
    return attributes.loc[splits.index], splits


def _refuse_twice(path: Path, names: pd.Index) -> None:
    if names.has_duplicates:
        raise UserError(f"{path}: {names[names.duplicated()][0]} stands twice")
