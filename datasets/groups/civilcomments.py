"""``civilcomments``: is a comment toxic, against the identities that it mentions.

The data of WILDS (Koh et al., ICML 2021), grouped as by Idrissi et al. (CLeaR 2022). In training
("coarse") a comment's attribute is whether it mentions no identity; in validation and test a
comment stands once for each of eight identities that it mentions, and not at all without one.
"""

from pathlib import Path
from typing import ClassVar, NoReturn

import numpy as np
import pandas as pd

from common.errors import UserError, truncate_problems
from common.files import lock_file, wrap_os_errors
from datasets.data_card import DataCard
from datasets.formats import csv_tables as tables
from datasets.groups.base import Groups
from datasets.groups.multinli import whole
from datasets.groups.table import WRITABLE, TextBenchmark

IDENTITIES = ("male", "female", "LGBTQ", "christian", "muslim", "other_religions", "black", "white")
CLASSES = ("not toxic", "toxic")
ORIGINAL = "all_data_with_identities.csv"
SPLITS = {"test": 2, "train": 0, "val": 1}  # in the order of the published tables
TEXT = "comment_text"


class CivilComments(TextBenchmark):
    """Toxicity, judged by the worst of 16 groups; 4 groups in training."""

    name = "civilcomments"
    version = "1"
    folder_name = "civilcomments"
    grouping: ClassVar[str] = "coarse"
    groups = Groups(CLASSES, tuple(name.replace("_", " ") for name in IDENTITIES))
    training_groups: Groups | None = Groups(CLASSES, ("some identity", "no identity"))
    longest = 220
    card = DataCard(
        title="Comments on news sites, toxic or not, and the identities that they mention.",
        source="CivilComments-WILDS: https://wilds.stanford.edu/datasets/#civilcomments",
        licence="CC0",
        paper="Borkan et al., Nuanced Metrics for Measuring Unintended Bias with Real Data for "
        "Text Classification, WWW 2019; Koh et al., WILDS, ICML 2021",
        notes=(
            "Toxic, or mentioning an identity, is what at least half of the annotators say.",
            "Validation and test hold a comment once per identity that it mentions.",
            "The texts contain slurs and insults.",
        ),
    )

    @property
    def stem(self) -> str:
        """The name that the published files of this grouping share."""
        return f"{self.folder_name}_{self.grouping}"

    @property
    def table_name(self) -> str:
        """The file name of the common table."""
        return f"metadata_{self.stem}.csv"

    @property
    def text_path(self) -> Path:
        """The file that holds the text of each row of the common table."""
        return self.folder / f"{self.stem}.csv"

    @property
    def original(self) -> Path:
        """The file of WILDS."""
        return self.folder / ORIGINAL

    def organise(self) -> None:
        """Write table and texts of this grouping, each unless it is there."""
        if self.table_path.is_file() and self.text_path.is_file():
            return
        with (
            wrap_os_errors(self.folder, WRITABLE),
            lock_file(self.folder / ".prepare.lock", f"{self.name}: in use"),
        ):
            rows = self._expanded()
            own = rows[list(tables.COLUMNS)]
            if not self.text_path.is_file():
                if self.table_path.is_file():
                    self._refuse_another(own)
                tables.write_table(self.text_path, rows[[TEXT]])
            if not self.table_path.is_file():
                tables.write_table(self.table_path, own)

    def make_table(self) -> pd.DataFrame:
        """Return the common table of the file of WILDS."""
        return self._expanded()[list(tables.COLUMNS)]

    def _expanded(self) -> pd.DataFrame:
        if not self.original.is_file():
            self._refuse()
        return expand(self.original, self.grouping)

    def _refuse_another(self, own: pd.DataFrame) -> None:
        """Refuse to make texts for a table whose rows are not those of the file of WILDS."""
        table = tables.read_table(self.table_path)[["split", "y", "a"]]
        if not np.array_equal(table.to_numpy(), own[["split", "y", "a"]].to_numpy()):
            raise UserError(
                f"{self.text_path}: missing, and the rows of {self.table_path.name} are not those "
                f"of {self.original.name}, of which it could be made"
            )

    def _refuse(self) -> NoReturn:
        missing = [str(path) for path in (self.table_path, self.text_path) if not path.is_file()]
        raise UserError(
            f"{' and '.join(missing)}: missing, and so is {self.original}, of which they are made"
        )

    def sources(self) -> list[Path]:
        """The file that holds the texts."""
        if not self.text_path.is_file():
            self.organise()
        return [self.text_path]

    def file_problems(self) -> list[str]:
        """Return which rows of the table have no text."""
        try:
            if not self.text_path.is_file():  # it can be made, as the table was
                return [] if self.original.is_file() else self._refuse()
            texts = tables.read_csv(self.text_path, [TEXT])[TEXT]
            rows = whole(self.table_path, self.table["filename"])
        except UserError as error:
            return [str(error)]
        if rows.max() >= len(texts):
            return [
                f"{self.text_path}: {len(texts)} texts, but {self.table_path.name} names row "
                f"{rows.max()} (counted from 0): truncated?"
            ]
        return tables.empty_texts(self.text_path, texts)

    def texts(self) -> tuple[list[str], list[str] | None]:
        """Return the text of each row of the table."""
        texts = tables.read_csv(self.text_path, [TEXT])[TEXT]
        return texts.iloc[whole(self.table_path, self.table["filename"])].tolist(), None


def expand(path: Path, grouping: str) -> pd.DataFrame:
    """Return the rows of a grouping, in the order of the published tables.

    Args:
        path: ``all_data_with_identities.csv`` of WILDS.
        grouping: ``coarse``: training comments once, with ``a`` = 1 where they mention no
            identity; ``fine``: training as validation and test, once per identity mentioned.

    Raises:
        UserError: If a row is malformed: it is named.
    """
    data = tables.read_csv(path, [TEXT, "split", "toxicity", *IDENTITIES])
    found = tables.empty_texts(path, data[TEXT], TEXT)
    found += [
        f"{path}: row {row + 1}: split: received '{data['split'][row]}', expected train, val or "
        "test"
        for row in data.index[~data["split"].isin(list(SPLITS))]
    ]
    shares = {name: _shares(path, data[name], found) for name in ("toxicity", *IDENTITIES)}
    if found:
        raise truncate_problems(found)
    mentioned = np.stack([shares[name] >= 0.5 for name in IDENTITIES], axis=1)
    y = (shares["toxicity"] >= 0.5).astype(np.int64)
    parts: list[tuple[np.ndarray, int, np.ndarray]] = []
    if grouping == "coarse":
        rows = np.flatnonzero(data["split"] == "train")
        alone = np.asarray(~mentioned[rows].any(axis=1))
        parts.append((rows, 0, alone.astype(np.int64)))
    for split, number in SPLITS.items():
        if grouping == "coarse" and split == "train":
            continue
        inside = (data["split"] == split).to_numpy()
        for a in range(len(IDENTITIES)):
            rows = np.flatnonzero(inside & mentioned[:, a])
            parts.append((rows, number, np.full(len(rows), a)))
    rows = np.concatenate([part[0] for part in parts])
    place = np.arange(len(rows))
    return pd.DataFrame(
        {
            "id": place,
            "filename": place,
            "split": np.concatenate([np.full(len(part[0]), part[1]) for part in parts]),
            "y": y[rows],
            "a": np.concatenate([part[2] for part in parts]),
            TEXT: data[TEXT].to_numpy()[rows],
        }
    )


def _shares(path: Path, column: "pd.Series[str]", found: list[str]) -> np.ndarray:
    """Return shares of annotators; identities that nobody judged are blank and count as 0."""
    text = column.str.strip()
    numbers = pd.to_numeric(text, errors="coerce")
    blank = (text == "") & (column.name != "toxicity")
    bad = (numbers.isna() | (numbers < 0) | (numbers > 1)) & ~blank
    found += [
        f"{path}: row {row + 1}: {column.name}: received '{column[row]}', expected a number from "
        "0 to 1"
        for row in column.index[bad]
    ]
    return numbers.fillna(0.0).to_numpy(np.float64)
