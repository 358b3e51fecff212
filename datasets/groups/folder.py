"""``folder``: your own images or texts, with no code.

A folder ``<data root>/NAME`` (data set ``folder:NAME``) or of any other place (its path) holds a
table ``metadata.csv`` (or one other table) with the columns ``id,filename,split,y,a``, or others
that mean the same (:mod:`datasets.own.columns`):

* images: ``filename`` names image files inside the folder;
* texts: a column ``text`` holds them, or ``filename`` names ``.txt`` files.

Classes and attributes are words or numbers. The folder's ``dataset.yaml`` may hold the meaning of
columns, a split to draw, ranges to search and a training config (:mod:`datasets.own.dataset_file`).
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from common.errors import UserError, suggest_name, truncate_problems
from common.files import read_text
from common.hyperparameters import Hyperparameter, Scalar
from datasets.benchmark import SPLITS, Benchmark, Inputs
from datasets.data_card import DataCard
from datasets.formats import csv_tables as tables
from datasets.groups.base import GroupBenchmark, Groups
from datasets.groups.image_table import ImageBenchmark
from datasets.groups.text_table import TextBenchmark, TextPairs
from datasets.own.contents import Contents, read_contents
from datasets.own.dataset_file import (
    IMAGE_SIZE,
    TEXT_LENGTH,
    DatasetFile,
    read_dataset_file,
    remember_choices,
)
from datasets.own.pictures import PictureReader
from datasets.own.references import KIND, OwnData, list_own_data
from datasets.own.splits import DrawnSplit
from datasets.own.table_files import find_table
from datasets.storage.array_cache import ArrayWriter
from datasets.storage.images import (
    find_damaged_images,
    list_missing_files,
    read_images,
    write_images,
)
from datasets.storage.named_files import locate_named_files, suggest_file
from datasets.training_config import TrainingConfig

PUT_TABLE = (
    f"put a table metadata.csv with the columns {','.join(tables.COLUMNS)} and the images or texts "
    "there"
)
MAX_TOKENS = 220  # to which texts are truncated


class Folder(TextBenchmark):
    """Any folder of images or texts, judged by the worst group of its table.

    Args:
        data_root: The folder of all data sets.
        own: The folder's name and place; None for ``<data root>/folder``.
    """

    name = "folder"
    version = "2"
    folder_name = "folder"
    card = DataCard(
        title="Your own data: a folder of images or texts and a table of groups.",
        source="this machine",
        license="as you say",
        paper="none",
    )

    def __init__(self, data_root: Path, own: OwnData | None = None) -> None:
        super().__init__(data_root)
        self._own = own or OwnData(KIND, data_root / KIND, KIND)
        self.name = self._own.name

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
        """The table: ``metadata.csv``, or the only one."""
        return find_table(self.folder)

    @cached_property
    def dataset_file(self) -> DatasetFile:
        """The folder's own file ``dataset.yaml``."""
        return read_dataset_file(self.folder)

    def remember_choices(self, columns: Mapping[str, str], split: DrawnSplit | None) -> list[str]:
        """Add the meaning of columns and a split to the own file; return a message.

        Raises:
            UserError: If they do not fit the table, or the file says otherwise.
        """
        if not self.folder.is_dir():
            raise truncate_problems(self.find_problems())
        file = self.dataset_file
        changed = replace(file, columns=columns or file.columns, split=split or file.split)
        read_contents(self.table_path, changed)
        added = remember_choices(self.folder, columns, split)
        return [f"{', '.join(added)} kept in {file.path}"] if added else []

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
    def _contents(self) -> Contents:
        if not self.folder.is_dir():
            raise truncate_problems(self.find_problems())
        path = self.table_path
        if not path.exists():
            raise UserError(
                f"{self.folder}: no table; {PUT_TABLE}, or a folder of images per class"
            )
        return read_contents(path, self.dataset_file)

    @property
    def _has_texts(self) -> bool:
        """Whether the table itself holds the texts."""
        return self._contents.has_texts

    @property
    def modality(self) -> str:  # type: ignore[override]
        """``text`` if the table has a column ``text`` or names ``.txt`` files, else ``images``."""
        names_texts = self.table.filename.str.lower().str.endswith(".txt")
        return "text" if self._has_texts or names_texts.all() else "images"

    @property
    def has_image_files(self) -> bool:  # type: ignore[override]
        """Whether the table names images."""
        return self.modality == "images"

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        """The properties of group benchmarks, and the modality."""
        return GroupBenchmark.provides | {self.modality, "encoder"}

    @property
    def max_tokens(self) -> int:  # type: ignore[override]
        """The length to which texts are truncated."""
        return self.own_sizes.get(TEXT_LENGTH, MAX_TOKENS)

    @property
    def default_config(self) -> TrainingConfig:
        """The training config of text benchmarks for texts, of image benchmarks for images."""
        return self._defaults.training_config

    @property
    def training_config(self) -> TrainingConfig:  # type: ignore[override]
        """The default training config with the values of the folder's own file."""
        return TrainingConfig(**{**self.default_config.as_dict(), **self.own_protocol})  # type: ignore[arg-type]

    @property
    def search_space(self) -> Mapping[str, Hyperparameter]:  # type: ignore[override]
        """The search space of the same benchmarks, without the values that the own file fixes."""
        return {n: d for n, d in self._defaults.search_space.items() if n not in self.own_protocol}

    @property
    def own_file(self) -> str:  # type: ignore[override]
        """The folder's own file."""
        return str(self.dataset_file.path)

    @property
    def own_protocol(self) -> Mapping[str, Scalar]:  # type: ignore[override]
        """The training-config fields that the own file sets."""
        return self.dataset_file.protocol

    @property
    def own_sizes(self) -> Mapping[str, int]:  # type: ignore[override]
        """The sizes of texts and images that the own file sets."""
        return self.dataset_file.sizes

    @property
    def own_ranges(self) -> Mapping[str, Hyperparameter]:  # type: ignore[override]
        """The domains of the own file, with the training config's values as defaults."""
        file, config = self.dataset_file, self.training_config.as_dict()
        return {
            name: domain.take_default(domain.to_canonical(config[name]))
            if name in config
            else domain
            for name, domain in file.search.items()
        }

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
        """Return the files that the table names; texts inside it count as its content.

        Raises:
            ValidationErrors: If one is missing, by row.
        """
        if self.modality == "images" and (problems := self.find_file_problems()):
            raise truncate_problems(problems)
        return self._named_files

    @property
    def cache_parameters(self) -> Mapping[str, Any]:
        """The table's content, and the tokenizer's for texts."""
        if self.modality == "images":
            size = self.own_sizes.get(IMAGE_SIZE)
            reduced = {} if size is None else {IMAGE_SIZE: size}
            return {"table": tables.hash_table(self.table), **reduced}
        return super().cache_parameters

    def find_problems(self) -> list[str]:
        """Return a sentence for each file that is missing or malformed."""
        if not self.folder.is_dir():
            if self.folder.is_file():
                return [f"{self.folder}: a file, expected its folder: {self.folder.parent}"]
            known = list_own_data(self.data_root, ())
            return [f"{self.folder}: missing{suggest_name(self.name, known)}; {PUT_TABLE}"]
        return super().find_problems()

    def find_file_problems(self) -> list[str]:
        """Return a sentence for each missing file, and each text that is empty or not UTF-8."""
        table = self.table_path
        rows = [f"{table}: row {row + 1} (id {name})" for row, name in enumerate(self.table.id)]
        if self._has_texts:
            texts = self.table.text
            return [f"{rows[row]}: empty text" for row in texts.index[texts.str.strip() == ""]]
        if self.modality == "images":
            return [
                f"{rows[row]}: {path}: missing{suggest_file(path)}"
                for row, path in list_missing_files(self._named_files)
            ]
        problems = []
        for row, path in zip(rows, self._named_files, strict=True):
            try:
                if not read_text(path).strip():
                    problems.append(f"{row}: {path}: empty text")
            except UserError as error:
                problems.append(f"{row}: {error}")
        return problems

    def list_notices(self) -> list[str]:
        """Return sentences on how the table was understood."""
        return [f"{self.table_path}: {note}" for note in self._contents.notes]

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
        reader = self._make_reader()
        for split in SPLITS:
            paths = locate_named_files(self.folder, self.select_rows(split).filename)
            write_images(writer, split, paths, f"{self.name}, {split}", reader)
        if changes := reader.describe_changes():
            print(f"{self.name}: images {changes}", file=sys.stderr)

    def encode_files(self, paths: Sequence[Path], folder: Path) -> Inputs:
        """Return other images or texts, read like those of the table."""
        if self.modality == "text":
            return super().encode_files(paths, folder)
        writer = ArrayWriter(folder)
        write_images(writer, "new", paths, f"{self.name}, new images", self._make_reader())
        return read_images(writer.arrays, "new")

    def _make_reader(self) -> PictureReader:
        return PictureReader(self.own_sizes.get(IMAGE_SIZE, 0))

    def read_inputs(self, split: str) -> Inputs:
        """Return the images or the texts of a split."""
        if self.modality == "text":
            return super().read_inputs(split)
        return read_images(self.cache.arrays, split)
