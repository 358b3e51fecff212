"""The splits of own tables: their usual words, and a split that is drawn."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from common.errors import UserError
from datasets.formats.csv_tables import SPLIT_NUMBERS

EVALUATION = ("eval", "evaluation")  # validation or test, the one that no other word names
LEAST_ROWS = 3  # of a group, so that each split has one


@dataclass(frozen=True)
class DrawnSplit:
    """How a split is drawn.

    Args:
        shares: The shares of training, validation and test.
        seed: The seed.
    """

    shares: tuple[float, float, float]
    seed: int = 0


def parse_shares(text: str) -> tuple[float, float, float]:
    """Return the shares of ``--split 0.7/0.1/0.2``.

    Raises:
        UserError: If there are not three above 0 with the sum 1 (or 100).
    """
    try:
        shares = [float(part) for part in text.split("/")]
    except ValueError:
        shares = []
    return check_shares("--split", text, shares)


def check_shares(where: str, given: object, shares: Sequence[float]) -> tuple[float, float, float]:
    """Return three shares whose sum is 1.

    Raises:
        UserError: If there are others.
    """
    total = 100 if sum(shares) > 2 else 1
    if len(shares) != 3 or not min(shares) > 0 or not abs(sum(shares) - total) < 1e-6 * total:
        raise UserError(
            f"{where}: received {given}, expected shares of training, validation and test whose "
            "sum is 1, such as 0.7/0.1/0.2"
        )
    train, validation, test = (share / total for share in shares)
    return train, validation, test


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

    A row's place in its group's order is a hash of the seed and its id, so that it does not depend
    on the order of the rows or on a library's random numbers.

    Args:
        path: The table, for messages.
        table: Its rows, with columns ``id``, ``y`` and ``a``.
        names: The name of each row's group.
        drawn: The shares and the seed.

    Raises:
        UserError: If a group has fewer than three rows.
    """
    split = pd.Series("0", table.index)
    for group, rows in table.groupby(["y", "a"]).groups.items():
        if len(rows) < LEAST_ROWS:
            raise UserError(
                f"{path}: group {names[rows[0]]} has {len(rows)} row(s), expected at least "
                f"{LEAST_ROWS}, one for each split; leave it out, or join it with another"
            )
        del group
        ordered = sorted(rows, key=lambda row: _hash_id(table.id[row], drawn.seed))
        _, validation, test = (max(1, round(share * len(rows))) for share in drawn.shares)
        test = min(test, len(rows) - 2)
        validation = min(validation, len(rows) - test - 1)
        split[ordered[:validation]] = "1"
        split[ordered[validation : validation + test]] = "2"
    return split


def _hash_id(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}\0{name}".encode()).hexdigest()
