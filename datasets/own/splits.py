"""The splits of own tables: their usual words, and a split that is drawn."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from common.errors import UserError
from common.text import format_count
from datasets.formats.csv_tables import SPLIT_NUMBERS

EVALUATION = ("eval", "evaluation")  # validation or test, the one that no other word names
LEAST_ROWS = 3  # of a group, so that each of three splits has one


@dataclass(frozen=True)
class DrawnSplit:
    """How a split is drawn.

    Args:
        shares: The shares of training, validation and test; or of training and validation in the
            training rows of a table without validation.
        seed: The seed.
    """

    shares: tuple[float, ...]
    seed: int = 0


def parse_shares(text: str) -> tuple[float, ...]:
    """Return the shares of ``--split 0.7/0.1/0.2`` or ``--split 0.8/0.2``.

    Raises:
        UserError: If there are not two or three above 0 with the sum 1 (or 100).
    """
    try:
        shares = [float(part) for part in text.split("/")]
    except ValueError:
        shares = []
    return check_shares("--split", text, shares)


def check_shares(where: str, given: object, shares: Sequence[float]) -> tuple[float, ...]:
    """Return two or three shares whose sum is 1.

    Raises:
        UserError: If there are others.
    """
    total = 100 if sum(shares) > 2 else 1
    are_parts = bool(shares) and min(shares) > 0 and abs(sum(shares) - total) < 1e-6 * total
    if len(shares) not in (2, 3) or not are_parts:
        raise UserError(
            f"{where}: received {given}, expected shares of training, validation and test whose "
            "sum is 1, such as 0.7/0.1/0.2; or of training and validation, such as 0.8/0.2, where "
            "the table has a test split but no validation split"
        )
    return tuple(share / total for share in shares)


def read_split_words(words: "pd.Series[str]") -> "pd.Series[str]":
    """Return the words of a column of splits with 0, 1 and 2 for those that are known."""
    plain = words.str.strip().str.lower().str.replace(r"\.0+$", "", regex=True)
    numbers = {word: str(number) for word, number in SPLIT_NUMBERS.items()}
    found = plain.map(numbers)
    others = set(found.dropna())
    if not {"1", "2"} <= others:
        numbers |= dict.fromkeys(EVALUATION, "2" if "1" in others else "1")
    return plain.map(numbers).where(plain.isin(numbers), words)


def draw_splits(
    path: Path, table: pd.DataFrame, names: "pd.Series[str]", drawn: DrawnSplit
) -> "pd.Series[str]":
    """Return a split of each row, 0, 1 or 2 as text, in which each group has its shares.

    Two shares divide the training rows of a table that has splits.

    A row's place in its group's order is a hash of the seed and its id, so that it does not depend
    on the order of the rows or on a library's random numbers.

    Args:
        path: The table, for messages.
        table: Its rows, with columns ``id``, ``y`` and ``a``; with two shares also ``split``, as
            :func:`read_split_words` returns it.
        names: The name of each row's group.
        drawn: The shares and the seed.

    Raises:
        UserError: If a group has fewer rows than there are shares.
    """
    has_test = len(drawn.shares) < LEAST_ROWS
    split = table.split.copy() if has_test else pd.Series("0", table.index)
    divided = table[split == "0"]
    for rows in divided.groupby(["y", "a"]).groups.values():
        if len(rows) < len(drawn.shares):
            raise UserError(
                f"{path}: group {names[rows[0]]} has "
                f"{format_count(len(rows), 'row')}{' in training' * has_test}, expected at least "
                f"{len(drawn.shares)}, one for each split; leave it out, or join it with another"
            )
        ordered = sorted(rows, key=lambda row: _hash_id(table.id[row], drawn.seed))
        _, *others = (max(1, round(share * len(rows))) for share in drawn.shares)
        test = 0 if has_test else min(others[1], len(rows) - 2)
        validation = min(others[0], len(rows) - test - 1)
        split[ordered[:validation]] = "1"
        split[ordered[validation : validation + test]] = "2"
    return split


def _hash_id(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}\0{name}".encode()).hexdigest()
