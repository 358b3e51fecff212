"""Group benchmarks whose examples stand in a common table: images, or texts."""

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
from common.hyperparameters import Hyperparameter
from datasets.benchmark import SPLITS, Inputs, Split, TrainingConfig
from datasets.formats import csv_tables as tables
from datasets.groups.base import GroupBenchmark, Groups, undefined
from datasets.on_disk import OnDisk
from datasets.storage.array_cache import Writer
from datasets.storage.images import damaged_images, missing_files, read_images, write_images
from datasets.storage.texts import (
    Tokens,
    find_tokenizer,
    fingerprint,
    read_texts,
    tokenise,
    write_texts,
)

WRITABLE = "tables are written beside the data: make room, or the folder writable"


class TableBenchmark(OnDisk, GroupBenchmark):
    """A group benchmark on a common table (:mod:`datasets.formats.csv_tables`).

    The table is read where it stands, or made of the original files. It is no source of the
    cache: what counts is its content.
    """

    published_counts: ClassVar[Mapping[str, tuple[int, ...]]] = {}  # per group, by split

    @property
    def table_name(self) -> str:
        """The file name of the common table."""
        return f"metadata_{self.name}.csv"

    @property
    def table_path(self) -> Path:
        """Where the table stands, or where it will be written."""
        own = self.folder / self.table_name
        places = (
            own,
            self.folder / "metadata" / self.table_name,  # where the published loaders look
            self.data_root / "metadata" / self.table_name,
        )
        return next((path for path in places if path.is_file()), own)

    @property
    def made_of(self) -> Path:
        """What messages name for the rows of a table that is not yet written."""
        return self.folder

    def make_table(self) -> pd.DataFrame:
        """Return the common table as made of the original files.

        Raises:
            UserError: If they are missing or malformed.
        """
        raise UserError(f"{self.table_path}: missing")

    @cached_property
    def _made(self) -> pd.DataFrame:
        """What :meth:`make_table` returns, which reads the original files."""
        return self.make_table()

    def organise(self) -> None:
        """Write the common table, unless it is there."""
        if self.table_path.is_file():
            return
        with (
            wrap_os_errors(self.folder, WRITABLE),
            lock_file(self.folder / ".prepare.lock", f"{self.name}: in use"),
        ):
            if not self.table_path.is_file():
                tables.write_table(self.table_path, self._made)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The common table with numbers, and a column ``group``; checked.

        Raises:
            UserError: What is missing or wrong in it, by row.
        """
        path = self.table_path
        if path.is_file():
            table = tables.read_table(path)
        else:
            path, table = self.made_of, _numbers(self._made)
        found = self.table_problems(path, table)
        if found:
            raise truncate_problems(found)
        count = np.where(
            table["split"] == 0, len(self.train_groups.attributes), len(self.groups.attributes)
        )
        table["group"] = count * table["y"] + table["a"]
        return table

    def table_problems(self, path: Path, table: pd.DataFrame) -> list[str]:
        """Return what is wrong in the table, a sentence each."""
        found = tables.missing_splits(path, table)
        for splits, groups in (((0,), self.train_groups), ((1, 2), self.groups)):
            found += tables.in_range(path, table, "y", len(groups.classes), splits)
            found += tables.in_range(path, table, "a", len(groups.attributes), splits)
        return found

    def rows(self, split: str) -> pd.DataFrame:
        """Return the rows of a split, in the table's order."""
        return self.table[self.table["split"] == SPLITS.index(split)]

    def settings(self) -> Mapping[str, Any]:
        """The table's content."""
        return {"table": tables.digest(self.table)}

    def problems(self) -> list[str]:
        """Return what is missing or malformed, file by file."""
        if not self.folder.is_dir():
            return [
                f"{self.folder}: missing; put the data there, or try: "
                f"python -m datasets.prepare {self.name} --data-root {self.data_root} --download"
            ]
        try:
            _ = self.table
        except ValidationErrors as error:
            return error.problems
        except UserError as error:
            return [str(error)]
        return self.file_problems()

    def cautions(self) -> list[str]:
        """Return which groups training or test has and validation lacks, as one sentence."""
        splits = ("test",) if self.training_groups else ("train", "test")
        elsewhere = [self.counts(split) for split in splits]
        lacking = [
            group
            for group, count in enumerate(self.counts("validation"))
            if not count and any(counts[group] for counts in elsewhere)
        ]
        return [f"{self.table_path}: {undefined(self.groups, lacking)}"] if lacking else []

    def outdated(self) -> list[str]:
        """Return whether the table differs from what the original files give, as one sentence."""
        path, columns = self.table_path, ["split", "y", "a"]
        if not path.is_file():
            return []
        try:
            made = _numbers(self._made).set_index("id")[columns]
        except UserError:  # the original files need not be there
            return []
        found = self.table.set_index("id")[columns]
        both = found.index.intersection(made.index)
        parts = {
            "missing": len(made.index.difference(both)),
            "more": len(found.index.difference(both)),
            "changed": int((found.loc[both] != made.loc[both]).any(axis=1).sum()),
        }
        if not any(parts.values()):
            return []
        differing = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count)
        return [
            f"{path}: not the {len(made):,} rows that the original files give ({differing}); if "
            "they were changed, or it was cut short, delete it, and it is made anew"
        ]

    def file_problems(self) -> list[str]:
        """Return what is wrong in the files that the table names."""
        return []

    def build(self, writer: Writer) -> None:
        """Write labels, groups and inputs of each split."""
        self.write_inputs(writer)
        for name in SPLITS:
            rows = self.rows(name)
            writer.save(f"{name}_y", rows["y"].to_numpy(np.int64))
            writer.save(f"{name}_group", rows["group"].to_numpy(np.int64))

    def write_inputs(self, writer: Writer) -> None:
        """Write the inputs of all splits."""
        raise NotImplementedError

    def read_inputs(self, split: str) -> Inputs:
        """Return the inputs of a split from the cache."""
        raise NotImplementedError

    def load(self) -> dict[str, Split]:
        """Return the splits from the cache."""
        arrays = self.cache.arrays
        with suppress(UserError):  # a folder that cannot be written is no reason to stop
            self.organise()
        return {
            name: Split(
                self.read_inputs(name),
                {"y": arrays[f"{name}_y"].clone()},
                arrays[f"{name}_group"].clone(),
            )
            for name in SPLITS
        }

    def counts(self, split: str) -> list[int]:
        """Return the number of examples per group, as the table has it; reads no inputs."""
        groups = self.train_groups if split == "train" else self.groups
        group = torch.from_numpy(self.rows(split)["group"].to_numpy(np.int64, copy=True))
        return list(torch.bincount(group, minlength=len(groups)).tolist())


class ImageBenchmark(TableBenchmark):
    """Images whose files the table names, trained as by System 1 unless a benchmark says more."""

    modality = "images"
    provides = GroupBenchmark.provides | {"images", "encoder"}
    # System 1 warms up for 500 steps; set warmup to 500 / (epochs x batches per epoch) for that.
    training_config = TrainingConfig(
        model="google/vit-base-patch16-224-in21k",
        epochs=50,
        lr=1e-3,
        weight_decay=1e-2,
        batch_size=16,
        optimizer="sgd",
        momentum=0.9,
        schedule="cosine_with_restarts",
        warmup=0.0,
        augmentation="random_resized_crop",
        patience=9,
    )
    search: ClassVar = {
        "lr": Hyperparameter("log_uniform", (1e-5, 1e-2), 1e-3),
        "weight_decay": Hyperparameter("log_uniform", (1e-4, 1.0), 1e-2),
        "batch_size": Hyperparameter("choice", (4, 8, 16, 32, 64), 16),
    }

    @property
    def image_folder(self) -> Path:
        """The folder in which the table's file names lie."""
        return self.folder

    def paths(self, split: str | None = None) -> list[Path]:
        """Return the image files of a split, or of all, in the table's order."""
        rows = self.table if split is None else self.rows(split)
        folder = self.image_folder
        return [folder / name for name in rows["filename"]]

    def table_problems(self, path: Path, table: pd.DataFrame) -> list[str]:
        """Return what is wrong in the table; no file name may lead out of the folder."""
        return super().table_problems(path, table) + outside(path, table["filename"])

    def sources(self) -> list[Path]:
        """All image files."""
        return self.paths()

    def file_problems(self) -> list[str]:
        """Return the images that are missing."""
        return missing_files(self.paths())

    def damage(self) -> list[str]:
        """Return the images that cannot be decoded."""
        return damaged_images(self.paths(), self.name)

    def write_inputs(self, writer: Writer) -> None:
        """Decode all images."""
        for name in SPLITS:
            write_images(writer, name, self.paths(name), f"{self.name}, {name}")

    def read_inputs(self, split: str) -> Inputs:
        """Return the images of a split."""
        return read_images(self.cache.arrays, split)


class TextBenchmark(TableBenchmark):
    """Texts or pairs of texts, tokenised as the model's vocabulary says.

    They are trained as by System 1 unless a benchmark says more.
    """

    modality = "text"
    provides = GroupBenchmark.provides | {"text", "encoder"}
    tokenizer: ClassVar[str] = "bert-base-uncased"
    longest: ClassVar[int]  # tokens to which a text is cut
    training_config = TrainingConfig(
        model="bert-base-uncased",
        epochs=50,
        lr=1e-5,
        weight_decay=1e-2,
        batch_size=8,
        optimizer="adamw",
        schedule="linear",
        clip_norm=1.0,
        patience=9,
    )
    search: ClassVar = {
        "lr": Hyperparameter("log_uniform", (1e-6, 1e-4), 1e-5),
        "weight_decay": Hyperparameter("log_uniform", (1e-4, 1.0), 1e-2),
        "batch_size": Hyperparameter("choice", (4, 8, 16, 32), 8),
    }

    def texts(self) -> tuple[list[str], list[str] | None]:
        """Return the texts of the table's rows, and the second ones of pairs."""
        raise NotImplementedError

    @property
    def tokenizer_file(self) -> Path:
        """The file that defines the tokenizer.

        Raises:
            UserError: If it is not on this machine.
        """
        return find_tokenizer(self.tokenizer, self.data_root, self.folder)

    @property
    def vocabulary(self) -> Path | int:
        """The tokenizer's file; of texts that come as tokens, the number of words."""
        return self.tokenizer_file

    def settings(self) -> Mapping[str, Any]:
        """The table's content, the tokenizer's and the length."""
        tokenizer = fingerprint(self.tokenizer_file)
        return {**super().settings(), "tokenizer": tokenizer, "longest": self.longest}

    def tokens(self) -> tuple[Tokens, np.ndarray]:
        """Return the tokens of different texts, and which of them each row of the table is."""
        first, second = self.texts()
        pairs = pd.DataFrame({"first": first, "second": second})
        rows, _ = pd.factorize(pd.MultiIndex.from_frame(pairs) if second else pairs["first"])
        once = ~pd.Series(rows).duplicated()
        kept = pairs[once.to_numpy()]
        texts = kept["first"].tolist(), kept["second"].tolist() if second else None
        what = f"{self.name}: tokenising"
        return tokenise(self.tokenizer_file, *texts, self.longest, what), rows

    def write_inputs(self, writer: Writer) -> None:
        """Tokenise all texts."""
        tokens, rows = self.tokens()
        for number, name in enumerate(SPLITS):
            chosen = (self.table["split"] == number).to_numpy()
            write_texts(writer, name, tokens, rows[chosen])

    def read_inputs(self, split: str) -> Inputs:
        """Return the texts of a split."""
        return read_texts(self.cache.arrays, split)


def outside(path: Path, names: pd.Series) -> list[str]:
    """Return a sentence for each file name that leads out of its folder."""
    parts = names.str.replace("\\", "/", regex=False)
    bad = parts.str.startswith("/") | parts.str.contains(r"(?:^|/)\.\.(?:/|$)", regex=True)
    return [
        f"{path}: row {row + 1}: filename: received '{names[row]}', expected a name inside the "
        "data set's folder"
        for row in names.index[bad]
    ]


def group_name(groups: Groups, number: int) -> str:
    """Return a group's name with its number."""
    return f"{number}: {groups.names[number]}"


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table that was made, with the types of one that was read."""
    types = {"id": str, "filename": str, "split": np.int64, "y": np.int64, "a": np.int64}
    return table.astype(types).reset_index(drop=True)
