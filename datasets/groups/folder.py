"""``folder``: your own images or texts, with no code.

A folder ``<data root>/NAME`` (data set ``folder:NAME``) or of any other place (its path) holds a
table ``metadata.csv`` (or one other ``.csv`` file) with the columns ``id,filename,split,y,a``:

* images: ``filename`` names image files inside the folder;
* texts: a further column ``text`` holds them, and ``filename`` may be blank or left out; or
  ``filename`` names ``.txt`` files.

Classes ``y`` and attributes ``a`` are numbered from 0; columns ``y_name`` and ``a_name`` may name
them. ``split`` is 0, 1 or 2 (training, validation, test).
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from common.errors import UserError, truncate_problems
from common.files import is_hidden, read_text
from common.hyperparameters import Hyperparameter
from datasets.benchmark import SPLITS, Benchmark, Inputs
from datasets.data_card import DataCard
from datasets.formats import csv_tables as tables
from datasets.groups.base import GroupBenchmark, Groups
from datasets.groups.image_table import ImageBenchmark
from datasets.groups.text_table import TextBenchmark, TextPairs
from datasets.own.references import KIND, OwnData
from datasets.storage.array_cache import ArrayWriter
from datasets.storage.images import (
    find_damaged_images,
    find_missing_files,
    read_images,
    write_images,
)
from datasets.storage.named_files import locate_named_files
from datasets.training_config import TrainingConfig

PREFERRED = ("metadata.csv", "metadata_folder.csv")


class Folder(TextBenchmark):
    """Any folder of images or texts, judged by the worst group of its table."""

    name = "folder"
    version = "1"
    folder_name = "folder"
    max_tokens = 220
    card = DataCard(
        title="Your own data: a folder of images or texts and a table of groups.",
        source="this machine",
        licence="as you say",
        paper="none",
    )

    def __init__(self, data_root: Path) -> None:
        super().__init__(data_root)
        self._own = OwnData(KIND, data_root / KIND, KIND)

    def use_folder(self, own: OwnData) -> None:
        """Read the data of another folder, and have its name."""
        self._own, self.name = own, own.name

    @property
    def reference(self) -> str:
        """The name, or the absolute path of a folder outside the data root."""
        return self._own.reference

    @property
    def folder(self) -> Path:
        """The folder that holds the data set."""
        return self._own.path

    @property
    def table_path(self) -> Path:
        """The table: ``metadata.csv``, or the only ``.csv`` file."""
        found = sorted(path for path in self.folder.glob("*.csv") if not is_hidden(path))
        for name in PREFERRED:
            if self.folder / name in found:
                return self.folder / name
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise UserError(f"{self.folder}: {names}: which one is the table? Call it metadata.csv")
        return found[0] if found else self.folder / PREFERRED[0]

    @property
    def key_version(self) -> str:
        """The version and a hash of the table: other data are another benchmark."""
        return f"{self.version}, table {tables.hash_table(self.table)}"

    @property
    def groups(self) -> Groups:  # type: ignore[override]
        """The groups, as the table names and numbers them."""
        return self._contents.groups

    @property
    def table(self) -> pd.DataFrame:
        """The table with numbers and a column ``group``, validated."""
        return self._contents.table

    @cached_property
    def _contents(self) -> "_Contents":
        path = self.table_path
        if not self.folder.is_dir():
            raise truncate_problems(self.find_problems())
        read = tables.read_csv(path, tables.COLUMNS, optional=("filename",))
        if "text" in read.columns:  # file names have no meaning then
            names = read.get("filename", pd.Series("", read.index))
            read["filename"] = names.where(names.str.strip() != "", "text")
        table = tables.parse_table(path, tables.require_columns(path, read, tables.COLUMNS))
        problems = tables.find_missing_splits(path, table)
        if "text" not in read.columns:
            problems += tables.find_outside_names(path, table.filename)
        problems += tables.find_gaps(path, table, "y", 2) + tables.find_gaps(path, table, "a", 1)
        if problems:
            raise truncate_problems(problems)
        groups = Groups(_read_names(path, table, "y"), _read_names(path, table, "a"))
        return _Contents(table.assign(group=len(groups.attributes) * table.y + table.a), groups)

    @property
    def _has_texts(self) -> bool:
        """Whether the table itself holds the texts."""
        return "text" in self.table.columns

    @property
    def modality(self) -> str:  # type: ignore[override]
        """``text`` if the table has a column ``text`` or names ``.txt`` files, else ``images``."""
        names_texts = self.table.filename.str.lower().str.endswith(".txt")
        return "text" if self._has_texts or names_texts.all() else "images"

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        """The properties of group benchmarks, and the modality."""
        return GroupBenchmark.provides | {self.modality, "encoder"}

    @property
    def training_config(self) -> TrainingConfig:  # type: ignore[override]
        """The default of text benchmarks for texts, of image benchmarks for images."""
        return self._defaults.training_config

    @property
    def search_space(self) -> Mapping[str, Hyperparameter]:  # type: ignore[override]
        """The search space of the same benchmarks as the training config."""
        return self._defaults.search_space

    @property
    def _defaults(self) -> type[Benchmark]:
        return TextBenchmark if self.modality == "text" else ImageBenchmark

    def make_table(self) -> pd.DataFrame:
        """Refuse: the table is the user's."""
        raise UserError(f"{self.table_path}: missing; expected {','.join(tables.COLUMNS)}")

    def write_metadata(self) -> None:
        """Change nothing: the folder is the user's."""

    @property
    def _named_files(self) -> list[Path]:
        """The files that the table names: images, or texts outside the table."""
        return [] if self._has_texts else locate_named_files(self.folder, self.table.filename)

    def list_source_files(self) -> list[Path]:
        """Return the files that the table names; texts inside it count as its content."""
        return self._named_files

    @property
    def cache_parameters(self) -> Mapping[str, Any]:
        """The table's content, and the tokenizer's for texts."""
        if self.modality == "images":
            return {"table": tables.hash_table(self.table)}
        return super().cache_parameters

    def find_problems(self) -> list[str]:
        """Return a sentence for each file that is missing or malformed."""
        if not self.folder.is_dir():
            return [
                f"{self.folder}: missing; put a table metadata.csv with the columns "
                f"{','.join(tables.COLUMNS)} and the images or texts there"
            ]
        return super().find_problems()

    def find_file_problems(self) -> list[str]:
        """Return a sentence for each missing file, and each text that is empty or not UTF-8."""
        if self.modality == "images":
            return find_missing_files(self._named_files)
        if self._has_texts:
            return tables.find_empty_texts(self.table_path, self.table.text)
        problems = []
        for path in self._named_files:
            try:
                if not read_text(path).strip():
                    problems.append(f"{path}: empty text")
            except UserError as error:
                problems.append(str(error))
        return problems

    def verify_files(self) -> list[str]:
        """Return a sentence for each image that cannot be decoded."""
        if self.modality == "text":
            return []
        return find_damaged_images(self._named_files, self.name)

    def load_texts(self) -> TextPairs:
        """Return the text of each row of the table."""
        if self._has_texts:
            return TextPairs(self.table.text.tolist())
        return TextPairs([read_text(path) for path in self._named_files])

    def write_inputs(self, writer: ArrayWriter) -> None:
        """Decode the images, or tokenize the texts."""
        if self.modality == "text":
            super().write_inputs(writer)
            return
        for split in SPLITS:
            paths = locate_named_files(self.folder, self.select_rows(split).filename)
            write_images(writer, split, paths, f"{self.name}, {split}")

    def read_inputs(self, split: str) -> Inputs:
        """Return the images or the texts of a split."""
        if self.modality == "text":
            return super().read_inputs(split)
        return read_images(self.cache.arrays, split)


class _Contents(NamedTuple):
    table: pd.DataFrame
    groups: Groups


def _read_names(path: Path, table: pd.DataFrame, column: str) -> tuple[str, ...]:
    """Return the names of classes or attributes: of the column ``<column>_name``, or numbers."""
    numbers = range(int(table[column].max()) + 1)
    name_column = f"{column}_name"
    if name_column not in table.columns:
        return tuple(f"{column} = {number}" for number in numbers)
    pairs = table[[column, name_column]].drop_duplicates()
    for key, other in ((column, name_column), (name_column, column)):
        for value in pairs[key][pairs[key].duplicated()][:1]:
            received = ", ".join(map(repr, pairs[other][pairs[key] == value].tolist()))
            raise UserError(
                f"{path}: {key} {value!r} goes with {other} {received}, expected one of them"
            )
    return tuple(pairs.set_index(column)[name_column].loc[list(numbers)].tolist())
