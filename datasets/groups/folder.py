"""``folder``: your own images or texts, with no code.

``<data root>/folder`` (another name: the environment variable ``EVENHAND_FOLDER``) holds a table
``metadata.csv`` (or one other ``.csv`` file) with the columns ``id,filename,split,y,a``:

* images: ``filename`` names image files inside the folder;
* texts: a further column ``text`` holds them, and ``filename`` may be blank or left out; or
  ``filename`` names ``.txt`` files.

Classes ``y`` and attributes ``a`` are numbered from 0; columns ``y_name`` and ``a_name`` may name
them. ``split`` is 0, 1 or 2 (training, validation, test).
"""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from common.errors import UserError, truncate_problems
from common.files import read_text
from common.hyperparameters import Hyperparameter
from datasets.benchmark import SPLITS, Inputs, TrainingConfig
from datasets.data_card import DataCard
from datasets.formats import csv_tables as tables
from datasets.groups.base import GroupBenchmark, Groups
from datasets.groups.celeba import CelebA
from datasets.groups.civilcomments import CivilComments
from datasets.groups.table import TextBenchmark, outside
from datasets.storage.array_cache import Writer
from datasets.storage.images import damaged_images, missing_files, read_images, write_images

VARIABLE = "EVENHAND_FOLDER"
PREFERRED = ("metadata.csv", "metadata_folder.csv")


class Folder(TextBenchmark):
    """Any folder of images or texts, judged by the worst group of its table."""

    name = "folder"
    version = "1"
    folder_name = "folder"
    longest = 220
    card = DataCard(
        title="Your own data: a folder of images or texts and a table of groups.",
        source="this machine",
        licence="as you say",
        paper="none",
        notes=(f"The folder's name is 'folder', or what the variable {VARIABLE} says.",),
    )

    @property
    def folder(self) -> Path:
        """The folder that holds the data set."""
        return self.data_root / (os.environ.get(VARIABLE) or self.folder_name)

    @property
    def table_path(self) -> Path:
        """The table: ``metadata.csv``, or the only ``.csv`` file."""
        found = sorted(self.folder.glob("*.csv"))
        for name in PREFERRED:
            if self.folder / name in found:
                return self.folder / name
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise UserError(f"{self.folder}: {names}: which one is the table? Call it metadata.csv")
        return found[0] if found else self.folder / PREFERRED[0]

    @property
    def key_version(self) -> str:
        """The version and the table's content: other data are another benchmark."""
        return f"{self.version}, table {tables.digest(self.table)}"

    @cached_property
    def groups(self) -> Groups:  # type: ignore[override]
        """The groups, as the table names and numbers them."""
        _ = self.table
        return self._groups

    @cached_property
    def table(self) -> pd.DataFrame:
        """The table with numbers, and a column ``group``; checked."""
        path = self.table_path
        if not self.folder.is_dir():
            raise truncate_problems(self.problems())
        read = tables.read_csv(path, tables.COLUMNS, optional=("filename",))
        if "text" in read.columns:  # names of files mean nothing then
            names = read.get("filename", pd.Series("", read.index))
            read["filename"] = names.where(names.str.strip() != "", "text")
        table = tables.parse(path, tables.demanded(path, read, tables.COLUMNS))
        found = tables.missing_splits(path, table)
        if "text" not in read.columns:
            found += outside(path, table["filename"])
        found += tables.contiguous(path, table, "y", 2) + tables.contiguous(path, table, "a", 1)
        if found:
            raise truncate_problems(found)
        classes, attributes = _names(path, table, "y"), _names(path, table, "a")
        self._groups = Groups(classes, attributes)
        table["group"] = len(attributes) * table["y"] + table["a"]
        return table

    @property
    def modality(self) -> str:  # type: ignore[override]
        """``text`` if the table has a column ``text`` or names ``.txt`` files, else ``images``."""
        written = self.table["filename"].str.lower().str.endswith(".txt")
        return "text" if "text" in self.table.columns or written.all() else "images"

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        """What group benchmarks provide, and the modality."""
        return GroupBenchmark.provides | {self.modality, "encoder"}

    @property
    def training_config(self) -> TrainingConfig:  # type: ignore[override]
        """The training config of ``civilcomments`` for texts, of ``celeba`` for images."""
        return (CivilComments if self.modality == "text" else CelebA).training_config

    @property
    def search(self) -> dict[str, Hyperparameter]:  # type: ignore[override]
        """The search space of the same benchmark as the training config."""
        return dict((CivilComments if self.modality == "text" else CelebA).search)

    def make_table(self) -> pd.DataFrame:
        """Refuse: the table is yours."""
        raise UserError(f"{self.table_path}: missing; expected {','.join(tables.COLUMNS)}")

    def organise(self) -> None:
        """Change nothing: the folder is yours."""

    @property
    def _named(self) -> list[Path]:
        """The files that the table names: images, or texts outside the table."""
        if "text" in self.table.columns:
            return []
        return [self.folder / name for name in self.table["filename"]]

    def sources(self) -> list[Path]:
        """The files that the table names; texts inside it count as its content."""
        return self._named

    def settings(self) -> Mapping[str, Any]:
        """The table's content, and the tokenizer's for texts."""
        if self.modality == "images":
            return {"table": tables.digest(self.table)}
        return super().settings()

    def problems(self) -> list[str]:
        """Return what is missing or malformed, file by file."""
        if not self.folder.is_dir():
            return [
                f"{self.folder}: missing; put a table metadata.csv with the columns "
                f"{','.join(tables.COLUMNS)} and the images or texts there"
            ]
        return super().problems()

    def file_problems(self) -> list[str]:
        """Return what is missing, and the texts that are empty or not UTF-8."""
        if self.modality == "images":
            return missing_files(self._named)
        if "text" in self.table.columns:
            return tables.empty_texts(self.table_path, self.table["text"])
        found = []
        for path in self._named:
            try:
                if not read_text(path).strip():
                    found.append(f"{path}: empty text")
            except UserError as error:
                found.append(str(error))
        return found

    def damage(self) -> list[str]:
        """Return the images that cannot be decoded."""
        return damaged_images(self._named, self.name) if self.modality == "images" else []

    def texts(self) -> tuple[list[str], list[str] | None]:
        """Return the text of each row of the table."""
        if "text" in self.table.columns:
            return self.table["text"].tolist(), None
        return [read_text(path) for path in self._named], None

    def write_inputs(self, writer: Writer) -> None:
        """Decode the images, or tokenise the texts."""
        if self.modality == "images":
            for name in SPLITS:
                paths = [self.folder / file for file in self.rows(name)["filename"]]
                write_images(writer, name, paths, f"{self.name}, {name}")
        else:
            super().write_inputs(writer)

    def read_inputs(self, split: str) -> Inputs:
        """Return the images or the texts of a split."""
        if self.modality == "text":
            return super().read_inputs(split)
        return read_images(self.cache.arrays, split)


def _names(path: Path, table: pd.DataFrame, column: str) -> tuple[str, ...]:
    """Return the names of classes or attributes: of the column ``<column>_name``, or numbers."""
    numbers = range(int(table[column].max()) + 1)
    if f"{column}_name" not in table.columns:
        return tuple(f"{column} = {number}" for number in numbers)
    pairs = table[[column, f"{column}_name"]].drop_duplicates()
    for label in (column, f"{column}_name"):
        for value in pairs[label][pairs[label].duplicated()][:1]:
            other = f"{column}_name" if label == column else column
            received = ", ".join(map(repr, pairs[other][pairs[label] == value].tolist()))
            raise UserError(
                f"{path}: {label} {value!r} goes with {other} {received}, expected one of them"
            )
    return tuple(pairs.set_index(column)[f"{column}_name"].loc[list(numbers)].tolist())
