"""Group benchmarks on tables of image files."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pandas as pd

from common.hyperparameters import Hyperparameter
from datasets.benchmark import SPLITS, Inputs
from datasets.formats.csv_tables import find_outside_names
from datasets.groups.base import GroupBenchmark
from datasets.groups.table import TableBenchmark
from datasets.storage.array_cache import ArrayWriter
from datasets.storage.images import (
    find_damaged_images,
    find_missing_files,
    read_images,
    write_images,
)
from datasets.storage.named_files import locate_named_files
from datasets.training_config import TrainingConfig


class ImageBenchmark(TableBenchmark):
    """Images whose files the table names, trained as by System 1 unless a benchmark differs."""

    modality = "images"
    has_image_files = True
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
    search_space: ClassVar = {
        "lr": Hyperparameter("log_uniform", (1e-5, 1e-2), 1e-3),
        "weight_decay": Hyperparameter("log_uniform", (1e-4, 1.0), 1e-2),
        "batch_size": Hyperparameter("choice", (4, 8, 16, 32, 64), 16),
    }

    @property
    def image_folder(self) -> Path:
        """The folder to which the table's file names are relative."""
        return self.folder

    def list_images(self, split: str | None = None) -> list[Path]:
        """Return the image files of a split, or of all, in the table's order."""
        rows = self.table if split is None else self.select_rows(split)
        return locate_named_files(self.image_folder, rows.filename)

    def find_table_problems(self, path: Path, table: pd.DataFrame) -> list[str]:
        """Return the mistakes in the table, among them file names outside the folder."""
        return super().find_table_problems(path, table) + find_outside_names(path, table.filename)

    def list_source_files(self) -> list[Path]:
        """Return all image files."""
        return self.list_images()

    def find_file_problems(self) -> list[str]:
        """Return a sentence for each image that is missing."""
        return find_missing_files(self.list_images())

    def verify_files(self) -> list[str]:
        """Return a sentence for each image that cannot be decoded."""
        return find_damaged_images(self.list_images(), self.name)

    def write_inputs(self, writer: ArrayWriter) -> None:
        """Decode all images."""
        for split in SPLITS:
            write_images(writer, split, self.list_images(split), f"{self.name}, {split}")

    def encode_files(self, paths: Sequence[Path], folder: Path) -> Inputs:
        """Return other images, decoded like those of the table.

        Args:
            paths: The images.
            folder: An empty folder for their pixels.
        """
        writer = ArrayWriter(folder)
        write_images(writer, "new", paths, f"{self.name}, new images")
        return read_images(writer.arrays, "new")

    def read_inputs(self, split: str) -> Inputs:
        """Return the images of a split."""
        return read_images(self.cache.arrays, split)
