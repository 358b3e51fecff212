"""Comments with the identities that they mention: the base of all CivilComments benchmarks."""

from contextlib import suppress
from pathlib import Path
from typing import ClassVar, NoReturn

import numpy as np
import pandas as pd

from common.errors import UserError
from common.files import CannotWrite, lock_file, wrap_os_errors
from datasets.data_card import DataCard
from datasets.formats import csv_tables as tables
from datasets.formats.civilcomments import (
    CLASSES,
    IDENTITIES,
    ORIGINAL,
    TEXT,
    Grouping,
    expand_comments,
)
from datasets.groups.base import Groups
from datasets.groups.text_table import TextBenchmark, TextPairs

COARSE_GROUPS = Groups(CLASSES, ("some identity", "no identity"))


class CommentBenchmark(TextBenchmark):
    """Toxicity, judged by the worst of 16 groups; training has 4 groups, or the same 16.

    A table and the texts of its rows are read where they are found, or made from the file of
    WILDS.
    """

    grouping: ClassVar[Grouping]
    original_name: ClassVar[str] = ORIGINAL
    groups = Groups(CLASSES, tuple(name.replace("_", " ") for name in IDENTITIES))
    max_tokens = 220

    @property
    def file_stem(self) -> str:
        """The name that the published files of this grouping share."""
        return f"{self.folder_name}_{self.grouping}"

    @property
    def table_name(self) -> str:
        """The file name of the common table."""
        return f"metadata_{self.file_stem}.csv"

    @property
    def text_path(self) -> Path:
        """The file with the text of each row of the common table."""
        return self.folder / f"{self.file_stem}.csv"

    @property
    def original(self) -> Path:
        """The file of WILDS, from which table and texts can be made."""
        return self.folder / self.original_name

    def write_metadata(self) -> None:
        """Write table and texts of this grouping, each unless it exists."""
        if self.table_path.is_file() and self.text_path.is_file():
            return
        with (
            wrap_os_errors(self.folder),
            lock_file(self.folder / ".prepare.lock", f"{self.name}: in use"),
        ):
            rows = self._expand_original()
            table = rows[list(tables.COLUMNS)]
            if not self.text_path.is_file():
                if self.table_path.is_file():
                    self._check_same_rows(table)
                tables.write_table(self.text_path, rows[[TEXT]])
            if not self.table_path.is_file():
                tables.write_table(self.table_path, table)

    def make_table(self) -> pd.DataFrame:
        """Return the common table, made from the file of WILDS."""
        return self._expand_original()[list(tables.COLUMNS)]

    def _expand_original(self) -> pd.DataFrame:
        if not self.original.is_file():
            self._raise_missing()
        return expand_comments(self.original, self.grouping)

    def _check_same_rows(self, made: pd.DataFrame) -> None:
        """Refuse to write texts for a table whose rows are not those of the file of WILDS."""
        table = tables.read_table(self.table_path)[["split", "y", "a"]]
        if not np.array_equal(table.to_numpy(), made[["split", "y", "a"]].to_numpy()):
            raise UserError(
                f"{self.text_path}: missing, and the rows of {self.table_path.name} are not those "
                f"of {self.original.name}, from which it could be made"
            )

    def _raise_missing(self) -> NoReturn:
        paths = (self.table_path, self.text_path)
        missing = " and ".join(str(path) for path in paths if not path.is_file())
        raise UserError(
            f"{missing}: missing, and so is {self.original}, from which they are made; put one of "
            f"them there, or run: python -m datasets.prepare {self.name} --data-root "
            f"{self.data_root} --download"
        )

    def list_source_files(self) -> list[Path]:
        """Return the file with the texts, or the one from which it is made."""
        if not self.text_path.is_file():
            with suppress(CannotWrite):  # the original file has the texts too
                self.write_metadata()
        if not (self.text_path.is_file() or self.original.is_file()):
            self._raise_missing()
        return [self.text_path if self.text_path.is_file() else self.original]

    def find_file_problems(self) -> list[str]:
        """Return a sentence for each row of the table without a text."""
        try:
            if not self.text_path.is_file():  # it can be made, as the table was
                if not self.original.is_file():
                    self._raise_missing()
                return []
            texts = tables.read_csv(self.text_path, [TEXT])[TEXT]
            rows = tables.parse_row_numbers(self.table_path, self.table.filename)
        except UserError as error:
            return [str(error)]
        if len(texts) != len(self.table):
            return [
                f"{self.text_path}: {len(texts):,} texts, but {self.table_path.name} has "
                f"{len(self.table):,} rows: expected a text per row"
            ]
        if rows.max() >= len(texts):
            return [
                f"{self.table_path}: row {rows.argmax() + 1}: filename: received '{rows.max()}', "
                f"expected a row of {self.text_path.name}, counted from 0 to {len(texts) - 1}"
            ]
        return tables.find_empty_texts(self.text_path, texts)

    def load_texts(self) -> TextPairs:
        """Return the text of each row of the table."""
        if self.text_path.is_file():
            texts = tables.read_csv(self.text_path, [TEXT])[TEXT]
        else:
            made = self._expand_original()
            if self.table_path.is_file():
                self._check_same_rows(made)
            texts = made[TEXT]
        rows = tables.parse_row_numbers(self.table_path, self.table.filename)
        return TextPairs(texts.iloc[rows].tolist())


class FullComments(CommentBenchmark):
    """All of CivilComments, in either grouping."""

    folder_name = "civilcomments"
    other_folder_names = ("civilcomments_v1.0", "jigsaw")
    landmarks = (ORIGINAL, "civilcomments_coarse.csv", "civilcomments_fine.csv")
    card = DataCard(
        title="Comments on news sites, toxic or not, and the identities that they mention.",
        source="CivilComments-WILDS: https://wilds.stanford.edu/datasets/#civilcomments",
        license="CC0",
        paper="Borkan et al., Nuanced Metrics for Measuring Unintended Bias with Real Data for "
        "Text Classification, WWW 2019; Koh et al., WILDS, ICML 2021",
        notes=(
            "Toxic, or mentioning an identity, means that at least half of the annotators say so.",
            "Validation and test list a comment once per identity that it mentions.",
            "The texts contain slurs and insults.",
        ),
    )


class SmallComments(CommentBenchmark):
    """The part of CivilComments on which System 1 reports its results, in either grouping."""

    folder_name = "civilcomments_small"
    original_name = "all_data_with_identities_small.csv"
    published_counts: ClassVar = {
        "validation": (277, 335, 118, 282, 148, 97, 107, 176, 73, 70, 54, 51, 70, 34, 67, 80),
        "test": (710, 802, 271, 709, 374, 254, 283, 380, 156, 171, 120, 107, 132, 72, 157, 168),
    }
    card = DataCard(
        title="A part of CivilComments: comments, toxic or not, and the identities they mention.",
        source="texts and tables: "
        "https://github.com/athrvkk/MTL-group-robustness/tree/main/data/civilcomments_small",
        license="tables MIT, texts CC0",
        paper="Kulkarni et al., Multitask Learning Can Improve Worst-Group Outcomes, TMLR 2024; "
        "texts: Borkan et al., WWW 2019",
        notes=(
            "A table and the texts of its rows (column comment_text) are two files; both can be "
            "made from all_data_with_identities_small.csv.",
            "The texts contain slurs and insults.",
        ),
    )
