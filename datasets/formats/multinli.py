"""MultiNLI's own files: the corpus as JSON lines, GLUE's tables, and the published split."""

import json
import string
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from common.errors import UserError, truncate_problems
from common.files import read_text
from datasets.formats.csv_tables import read_csv

LABELS = ("contradiction", "entailment", "neutral")
FIELDS = ("sentence1", "sentence2", "gold_label")
NEGATIONS = frozenset({"nobody", "no", "never", "nothing"})  # Gururangan et al., NAACL 2018
VALIDATION, TEST = 0.2, 0.3
SPLIT_SEED = 0


def read_pairs(files: Sequence[Path]) -> pd.DataFrame:
    """Return the labeled pairs of all files: ``sentence1``, ``sentence2`` and ``y``.

    Pairs without a label (``-``) are left out, as in GLUE.

    Raises:
        UserError: If a row is malformed; the message names it.
    """
    parts = [_read_json(path) if path.suffix == ".jsonl" else _read_tsv(path) for path in files]
    return pd.concat(parts, ignore_index=True)


def has_negation(sentences: "pd.Series[str]") -> np.ndarray:
    """Return whether each sentence has a word of negation, ``(n,)`` bool.

    Words are separated by single spaces after punctuation is removed, as in the code of Sagawa
    et al.
    """
    removal = str.maketrans("", "", string.punctuation)
    return np.array(
        [
            not NEGATIONS.isdisjoint(sentence.translate(removal).lower().split(" "))
            for sentence in sentences
        ],
        dtype=bool,
    )


def draw_split(count: int) -> np.ndarray:
    """Return a split 0, 1 or 2 for each of ``count`` pairs: 50, 20 and 30 percent at random."""
    validation, test = int(VALIDATION * count), int(TEST * count)
    splits = np.repeat([0, 1, 2], [count - validation - test, validation, test])
    # RandomState, unlike numpy's newer generators, promises the same stream for ever.
    return np.random.RandomState(SPLIT_SEED).permutation(splits)


def read_split(path: Path) -> pd.DataFrame:
    """Return ``split``, ``y`` and ``a`` of all pairs in the order of the files, as published."""
    columns = ["split", "gold_label", "sentence2_has_negation"]
    table = read_csv(path, columns)[columns]
    for column, high in zip(columns, (3, 3, 2), strict=True):
        text = table[column].str.strip()
        bad = ~text.isin([str(number) for number in range(high)])
        for row in table.index[bad][:1]:
            raise UserError(
                f"{path}: row {row + 1}: {column}: received '{table[column][row]}', expected 0 to "
                f"{high - 1}"
            )
        table[column] = text.astype(np.int64)
    table.columns = pd.Index(["split", "y", "a"])
    return table


def _read_json(path: Path) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            row = {name: data[name] for name in FIELDS}
        except KeyError as error:
            raise UserError(f"{path}: line {number}: no field {error}") from None
        except (ValueError, TypeError):
            raise UserError(f"{path}: line {number}: no JSON object") from None
        if not all(isinstance(value, str) for value in row.values()):
            raise UserError(f"{path}: line {number}: {', '.join(FIELDS)}: texts are expected")
        rows.append({**row, "line": number})
    return _select_labeled(path, pd.DataFrame(rows, columns=[*FIELDS, "line"]))


def _read_tsv(path: Path) -> pd.DataFrame:
    table = read_csv(path, FIELDS, separator="\t")[list(FIELDS)]
    return _select_labeled(path, table.assign(line=np.arange(len(table)) + 2))


def _select_labeled(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs that have a label, with ``y``."""
    labels = table.gold_label.str.strip()
    kept = labels != "-"
    y = labels.map({name: number for number, name in enumerate(LABELS)})
    found = [
        f"{path}: line {table.line[row]}: gold_label: received '{labels[row]}', expected "
        f"{', '.join(LABELS)} or -"
        for row in table.index[kept & y.isna()]
    ]
    for field in FIELDS[:2]:
        found += [
            f"{path}: line {table.line[row]}: empty {field}"
            for row in table.index[kept & (table[field].str.strip() == "")]
        ]
    if found:
        raise truncate_problems(found)
    return table.loc[kept, list(FIELDS[:2])].assign(y=y[kept].astype(np.int64))
