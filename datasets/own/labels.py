"""The classes and attributes of own tables: words or numbers, numbered in sorted order."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from common.errors import UserError, truncate_problems
from datasets.formats.csv_tables import describe_values

MISSING = {"", "nan", "na", "n/a", "null", "<na>", "nat"}
WHOLE_NUMBER = r"[+-]?[0-9]{1,9}(\.0*)?"
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
MAX_UNCHECKED_CLASSES = 20  # up to which as many classes as rows are no sign of a wrong column


@dataclass(frozen=True)
class NumberedColumn:
    """A column's numbers and names.

    Args:
        numbers: The number of each row's value, as text.
        names: Its name; None where the values are the numbers 0 to k - 1 themselves.
        note: A sentence on numbers that differ from the values; may be empty.
    """

    numbers: "pd.Series[str]"
    names: "pd.Series[str] | None"
    note: str


def number_values(path: Path, table: pd.DataFrame, role: str, column: str) -> NumberedColumn:
    """Number the values of a column: whole numbers by size, words alphabetically.

    Args:
        path: The table, for messages.
        table: Its rows, with a column ``id``.
        role: The column in ``table``.
        column: Its name in the file.

    Raises:
        UserError: If values are missing, have decimals, mix numbers and words, or differ in nearly
            every row.
    """
    text = table[role].str.strip().map(partial(unicodedata.normalize, "NFC"))
    whole = text.str.fullmatch(WHOLE_NUMBER)
    wrong = text.str.casefold().isin(MISSING)
    expected = "a value: fill it in, or delete the row"
    if not wrong.any() and not whole.all():
        if (text.str.fullmatch(NUMBER) & ~whole).any():
            wrong, expected = ~whole, "classes: whole numbers, or words"
        elif whole.any():
            is_number = bool(whole.mean() >= 0.5)
            wrong = ~whole if is_number else whole
            kind = "a number" if is_number else "a word"
            expected = f"{kind} as in the other rows, since numbers and words are not mixed"
    if wrong.any():
        raise truncate_problems(
            describe_values(path, table.id[wrong], text[wrong], column, expected)
        )
    different = text.unique()
    if len(different) > max(MAX_UNCHECKED_CLASSES, len(text) / 2):
        raise UserError(
            f"{path}: column {column}: {len(different):,} different values in {len(text):,} rows, "
            "expected classes; is it the right column?"
        )
    if not whole.all():
        number_of = {name: str(number) for number, name in enumerate(sorted(different))}
        is_boolean = {name.casefold() for name in number_of} <= {"true", "false"}
        names = f"{column} = " + text if is_boolean else text
        return NumberedColumn(text.map(number_of), names, _describe_similar(column, number_of))
    values = text.astype(float).astype(int)
    ordered = sorted(set(values.tolist()))
    if ordered == list(range(len(ordered))):
        return NumberedColumn(values.astype(str), None, "")
    number_of_value = {value: str(number) for number, value in enumerate(ordered)}
    names = values.map(lambda value: f"{column} = {value}")
    listed = ", ".join(map(str, ordered[:6])) + (", ..." if len(ordered) > 6 else "")
    note = f"column {column}: the values {listed} are the classes 0 to {len(ordered) - 1}"
    return NumberedColumn(values.map(number_of_value), names, note)


def _describe_similar(column: str, words: Iterable[str]) -> str:
    """Return a sentence on words that differ in case or spaces only; empty without such."""
    similar: dict[str, list[str]] = {}
    for word in words:
        similar.setdefault("".join(word.casefold().split()), []).append(word)
    found = [" and ".join(map(repr, same)) for same in similar.values() if len(same) > 1]
    return f"column {column}: {'; '.join(found)} are different values" if found else ""
