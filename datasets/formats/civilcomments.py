"""CivilComments as published by WILDS, and its groupings.

Grouped as by Idrissi et al. (CLeaR 2022). In training ("coarse") a comment's attribute is whether
it mentions no identity; in validation and test a comment is listed once for each of eight
identities that it mentions, and not at all without one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from common.errors import truncate_problems
from datasets.formats import csv_tables as tables

Grouping = Literal["coarse", "fine"]

IDENTITIES = ("male", "female", "LGBTQ", "christian", "muslim", "other_religions", "black", "white")
CLASSES = ("not toxic", "toxic")
ORIGINAL = "all_data_with_identities.csv"
SPLIT_NAMES = ("test", "train", "val")  # in the order of the published tables
TEXT = "comment_text"


class _Rows(NamedTuple):
    """Rows of the original file with the same split and a value of the attribute for each."""

    rows: np.ndarray
    split: np.ndarray
    attribute: np.ndarray


def expand_comments(path: Path, grouping: Grouping) -> pd.DataFrame:
    """Return the rows of a grouping, in the order of the published tables.

    Args:
        path: ``all_data_with_identities.csv`` of WILDS.
        grouping: ``coarse``: training comments once, with ``a`` = 1 where they mention no
            identity; ``fine``: training like validation and test, once per identity mentioned.

    Raises:
        UserError: If a row is malformed; the message names it.
    """
    data = tables.read_csv(path, [TEXT, "split", "toxicity", *IDENTITIES])
    problems = tables.find_empty_texts(path, data[TEXT], TEXT)
    problems += [
        f"{path}: row {row + 1}: split: received '{data.split[row]}', expected train, val or test"
        for row in data.index[~data.split.isin(SPLIT_NAMES)]
    ]
    toxicity = _parse_shares(path, data.toxicity, problems)
    shares = [_parse_shares(path, data[name], problems) for name in IDENTITIES]
    if problems:
        raise truncate_problems(problems)
    mentioned = np.stack(shares, axis=1) >= 0.5
    y = (toxicity >= 0.5).astype(np.int64)
    parts = list(_select_parts(data.split.to_numpy(), mentioned, grouping))
    rows = np.concatenate([part.rows for part in parts])
    number = np.arange(len(rows))
    return pd.DataFrame(
        {
            "id": number,
            "filename": number,
            "split": np.concatenate([part.split for part in parts]),
            "y": y[rows],
            "a": np.concatenate([part.attribute for part in parts]),
            TEXT: data[TEXT].to_numpy()[rows],
        }
    )


def _select_parts(splits: np.ndarray, mentioned: np.ndarray, grouping: Grouping) -> Iterator[_Rows]:
    """Yield the rows of each split, of fine groups identity by identity."""
    if grouping == "coarse":
        rows = np.flatnonzero(splits == "train")
        alone = np.asarray(~mentioned[rows].any(axis=1))
        yield _Rows(rows, np.zeros(len(rows), np.int64), alone.astype(np.int64))
    for name in SPLIT_NAMES:
        if grouping == "coarse" and name == "train":
            continue
        number = {"train": 0, "val": 1, "test": 2}[name]
        inside = splits == name
        for a in range(len(IDENTITIES)):
            rows = np.flatnonzero(inside & mentioned[:, a])
            yield _Rows(rows, np.full(len(rows), number), np.full(len(rows), a))


def _parse_shares(path: Path, column: "pd.Series[str]", problems: list[str]) -> np.ndarray:
    """Return shares of annotators; blank identities, which nobody judged, count as 0."""
    text = column.str.strip()
    numbers = pd.to_numeric(text, errors="coerce")
    blank = (text == "") & (column.name != "toxicity")
    invalid = (numbers.isna() | (numbers < 0) | (numbers > 1)) & ~blank
    problems += [
        f"{path}: row {row + 1}: {column.name}: received '{column[row]}', expected a number from "
        "0 to 1"
        for row in column.index[invalid]
    ]
    return numbers.fillna(0.0).to_numpy(np.float64)
