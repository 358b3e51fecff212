"""Group benchmarks whose examples are listed in a common table."""

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch

from common.errors import UserError, ValidationErrors, truncate_problems
from common.files import lock_file, wrap_os_errors
from datasets.benchmark import SPLITS, Inputs, Split
from datasets.formats import csv_tables as tables
from datasets.groups.base import GroupBenchmark, missing_groups_message
from datasets.on_disk import OnDisk
from datasets.storage.array_cache import ArrayWriter


class TableBenchmark(OnDisk, GroupBenchmark):
    """A group benchmark on a common table (:mod:`datasets.formats.csv_tables`).

    The table is read where it is found, or made from the original files. It is no source file of
    the cache: only its content counts.
    """

    published_counts: ClassVar[Mapping[str, tuple[int, ...]]] = {}  # per group, by split

    @property
    def table_name(self) -> str:
        """The file name of the common table."""
        return f"metadata_{self.name}.csv"

    @property
    def table_path(self) -> Path:
        """The common table, or the path at which it will be written."""
        own = self.folder / self.table_name
        candidates = (
            own,
            self.folder / "metadata" / self.table_name,  # where the published loaders look
            self.data_root / "metadata" / self.table_name,
        )
        return next((path for path in candidates if path.is_file()), own)

    @property
    def table_source(self) -> Path:
        """The file or folder that messages name for rows of a table that is not yet written."""
        return self.folder

    def make_table(self) -> pd.DataFrame:
        """Return the common table, made from the original files.

        Raises:
            UserError: If they are missing or malformed.
        """
        raise UserError(f"{self.table_path}: missing")

    @cached_property
    def _made_table(self) -> pd.DataFrame:
        """The table of :meth:`make_table`, which reads the original files."""
        return self.make_table()

    def write_metadata(self) -> None:
        """Write the common table, unless it exists."""
        if self.table_path.is_file():
            return
        with (
            wrap_os_errors(self.folder),
            lock_file(self.folder / ".prepare.lock", f"{self.name}: in use"),
        ):
            if not self.table_path.is_file():
                tables.write_table(self.table_path, self._made_table)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The common table with numbers and a column ``group``, validated.

        Raises:
            UserError: If something in it is missing or wrong, by row.
        """
        path = self.table_path
        if path.is_file():
            table = tables.read_table(path)
        else:
            path, table = self.table_source, _convert_types(self._made_table)
        problems = self.find_table_problems(path, table)
        if problems:
            raise truncate_problems(problems)
        is_train = table.split == SPLITS.index("train")
        n_attributes = np.where(
            is_train, len(self.train_groups.attributes), len(self.groups.attributes)
        )
        return table.assign(group=n_attributes * table.y + table.a)

    def find_table_problems(self, path: Path, table: pd.DataFrame) -> list[str]:
        """Return the mistakes in the table, a sentence each."""
        problems = tables.find_missing_splits(path, table)
        for splits, groups in (((0,), self.train_groups), ((1, 2), self.groups)):
            problems += tables.find_out_of_range(path, table, "y", len(groups.classes), splits)
            problems += tables.find_out_of_range(path, table, "a", len(groups.attributes), splits)
        return problems

    def select_rows(self, split: str) -> pd.DataFrame:
        """Return the rows of a split, in the table's order."""
        return self.table[self.table.split == SPLITS.index(split)]

    def list_ids(self, split: str) -> list[str]:
        """Return the ids of the table."""
        return self.select_rows(split).id.tolist()

    def list_filenames(self, split: str) -> list[str] | None:
        """Return the files of the table; None where it names none."""
        rows = self.select_rows(split)
        return rows.filename.tolist() if "filename" in rows else None

    def count_groups(self, split: str) -> list[int]:
        """Return the number of examples per group in the table, without reading inputs."""
        groups = self.train_groups if split == "train" else self.groups
        group = torch.from_numpy(self.select_rows(split).group.to_numpy(np.int64, copy=True))
        return list(torch.bincount(group, minlength=len(groups)).tolist())

    @property
    def cache_parameters(self) -> Mapping[str, Any]:
        """The table's content."""
        return {"table": tables.hash_table(self.table)}

    def find_problems(self) -> list[str]:
        """Return a sentence for each file that is missing or malformed."""
        if not self.folder.is_dir():
            return [
                f"{self.folder}: missing; put the data there, or run: "
                f"python -m datasets.prepare {self.name} --data-root {self.data_root} --download"
            ]
        try:
            _ = self.table
        except ValidationErrors as error:
            return error.problems
        except UserError as error:
            return [str(error)]
        return self.find_file_problems()

    def find_file_problems(self) -> list[str]:
        """Return the mistakes in the files that the table names, a sentence each."""
        return []

    def list_warnings(self) -> list[str]:
        """Return a sentence about groups of training or test that validation lacks."""
        splits = ("test",) if self.separate_train_groups else ("train", "test")
        elsewhere = [self.count_groups(split) for split in splits]
        missing = [
            group
            for group, count in enumerate(self.count_groups("validation"))
            if not count and any(counts[group] for counts in elsewhere)
        ]
        if not missing:
            return []
        return [f"{self.table_path}: {missing_groups_message(self.groups, missing)}"]

    def find_outdated_files(self) -> list[str]:
        """Return a sentence if the table differs from one made from the original files."""
        path, columns = self.table_path, ["split", "y", "a"]
        if not path.is_file():
            return []
        try:
            made = _convert_types(self._made_table).set_index("id")[columns]
        except UserError:  # the original files need not be there
            return []
        found = self.table.set_index("id")[columns]
        both = found.index.intersection(made.index)
        differences = {
            "missing": len(made.index.difference(both)),
            "more": len(found.index.difference(both)),
            "changed": int((found.loc[both] != made.loc[both]).any(axis=1).sum()),
        }
        if not any(differences.values()):
            return []
        listed = ", ".join(f"{count:,} {kind}" for kind, count in differences.items() if count)
        return [
            f"{path}: not the {len(made):,} rows that the original files give ({listed}); if they "
            "were changed, or the table was cut short, delete it, and it is made anew"
        ]

    def write_arrays(self, writer: ArrayWriter) -> None:
        """Write labels, groups and inputs of each split."""
        self.write_inputs(writer)
        for split in SPLITS:
            rows = self.select_rows(split)
            writer.write_array(f"{split}_y", rows.y.to_numpy(np.int64))
            writer.write_array(f"{split}_group", rows.group.to_numpy(np.int64))

    @abstractmethod
    def write_inputs(self, writer: ArrayWriter) -> None:
        """Write the inputs of all splits."""

    @abstractmethod
    def read_inputs(self, split: str) -> Inputs:
        """Return the inputs of a split from the cache."""

    def load_splits(self) -> dict[str, Split]:
        """Return the splits from the cache."""
        arrays = self.cache.arrays
        with suppress(UserError):  # training works without a writable folder
            self.write_metadata()
        return {
            split: Split(
                self.read_inputs(split),
                {"y": arrays[f"{split}_y"].clone()},
                arrays[f"{split}_group"].clone(),
            )
            for split in SPLITS
        }


def _convert_types(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table that was made, with the types of one that was read."""
    types = {"id": str, "filename": str, "split": np.int64, "y": np.int64, "a": np.int64}
    return table.astype(types).reset_index(drop=True)
