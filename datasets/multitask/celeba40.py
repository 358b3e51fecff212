"""``celeba40``: the 40 attributes of CelebA's faces as 40 tasks.

As in FAMO (Liu et al., NeurIPS 2023) and FairGrad (Ban & Ji, ICML 2024): aligned images at 64x64
pixels, the official partition, F1 per attribute.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from PIL import Image

from common.errors import UserError, ValidationErrors, truncate_problems
from common.hyperparameters import Hyperparameter
from datasets.benchmark import SPLITS, Split
from datasets.data_card import DataCard
from datasets.formats.celeba import (
    LANDMARKS,
    OTHER_FOLDERS,
    CelebAFiles,
    CelebALists,
    describe_choices,
    find_missing_parts,
    locate_files,
    missing_attribute_message,
    read_lists,
)
from datasets.formats.csv_tables import find_outside_names
from datasets.multitask.base import TaskBenchmark
from datasets.multitask.metrics import F1, Accumulator
from datasets.multitask.task import Task
from datasets.on_disk import OnDisk
from datasets.storage.array_cache import ArrayWriter
from datasets.storage.images import find_damaged_images, find_missing_files, process_images
from datasets.storage.named_files import locate_named_files
from datasets.training_config import TrainingConfig

SIDE = 64  # pixels
ATTRIBUTES = tuple(
    """
    5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose
    Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee
    Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard
    Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair
    Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young
    """.split()  # noqa: SIM905
)


class CelebA40(OnDisk, TaskBenchmark):
    """Forty binary attributes of a face."""

    name = "celeba40"
    version = "1"
    folder_name = "celeba"
    other_folder_names = OTHER_FOLDERS
    landmarks = LANDMARKS
    image_size = SIDE
    published_rule = "validation_mean_f1"
    reported_metrics = ("delta_m", "worst_task_delta", "mean_f1")
    tasks = tuple(
        Task(attribute, "binary_cross_entropy", 1, {f"f1_{attribute}": True})
        for attribute in ATTRIBUTES
    )
    training_config = TrainingConfig(
        model="celeba_cnn",
        epochs=15,
        lr=3e-4,
        weight_decay=0.0,
        batch_size=256,
        optimizer="adam",
    )
    search_space: ClassVar = {
        "lr": Hyperparameter("log_uniform", (3e-5, 3e-3), 3e-4),
        "batch_size": Hyperparameter("choice", (128, 256, 512), 256),
    }
    card = DataCard(
        title="Forty binary attributes of the faces of celebrities, judged by F1.",
        source="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (aligned and cropped images)",
        license="non-commercial research only; the images may not be passed on",
        paper="Liu et al., Deep Learning Face Attributes in the Wild, ICCV 2015",
        notes=(
            "162,770 training, 19,867 validation and 19,962 test images of the official partition, "
            "resized to 64x64.",
            "The flat layout, that of the release (Img, Anno, Eval) and Kaggle's (.csv) are read.",
        ),
        sizes={"train": 162_770, "validation": 19_867, "test": 19_962},
    )

    @property
    def higher_is_better(self) -> dict[str, bool]:  # type: ignore[override]
        """The metrics of all tasks and their mean F1: whether higher is better."""
        return {**super().higher_is_better, "mean_f1": True}

    def add_deltas(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return metrics with ``delta_m``, ``worst_task_delta`` and ``mean_f1`` added.

        The published code keeps the epoch with the highest mean F1 of validation.
        """
        found = super().add_deltas(values)
        return {
            **found,
            "mean_f1": sum(values[name] for name in self.task_metrics) / len(ATTRIBUTES),
        }

    @property
    def files(self) -> CelebAFiles:
        """The paths of images and lists."""
        return locate_files(self.folder)

    @cached_property
    def _lists(self) -> CelebALists:
        lists = read_lists(self.files)
        problems = [
            missing_attribute_message(lists.attributes, name, self.files.attributes)
            for name in ATTRIBUTES
            if name not in lists.attributes.columns
        ]
        problems += [
            f"{self.files.partition}: no image of split {number} ({split})"
            for number, split in enumerate(SPLITS)
            if not (lists.splits == number).any()
        ]
        problems += find_outside_names(self.files.partition, pd.Series(lists.file_names))
        if problems:
            raise truncate_problems(problems)
        return lists

    def _list_images(self) -> list[Path]:
        return locate_named_files(self.files.images, self._lists.file_names)

    def find_problems(self) -> list[str]:
        """Return a sentence for each file that is missing or malformed."""
        if not self.folder.is_dir():
            return [f"{self.folder}: missing; put the data there (source: {self.card.source})"]
        missing = find_missing_parts(self.files)
        if missing:
            return missing
        try:
            images = self._list_images()
        except ValidationErrors as error:
            return error.problems
        except UserError as error:
            return [str(error)]
        return find_missing_files(images)

    def list_notices(self) -> list[str]:
        """Return a sentence for each part of which there are two."""
        return describe_choices(self.folder)

    def verify_files(self) -> list[str]:
        """Return a sentence for each image that cannot be decoded; decodes all."""
        if self.find_problems():
            return []
        return find_damaged_images(self._list_images(), self.name)

    def list_source_files(self) -> list[Path]:
        """Return the lists and all images that they name."""
        problems = self.find_problems()
        if problems:
            raise truncate_problems(problems)
        return [self.files.attributes, self.files.partition, *self._list_images()]

    def write_arrays(self, writer: ArrayWriter) -> None:
        """Write the images at 64x64 pixels, and the labels attribute by attribute."""
        attributes, splits = self._lists
        for number, split in enumerate(SPLITS):
            selected = splits == number
            paths = locate_named_files(self.files.images, splits.index[selected])
            images = writer.create_array(f"{split}_images", (len(paths), 3, SIDE, SIDE), np.uint8)
            _write_images(images, paths, f"{self.name}: resizing the images of {split}")
            labels = attributes[selected.to_numpy()][list(ATTRIBUTES)].to_numpy().T
            writer.write_array(f"{split}_labels", labels.astype(np.uint8))

    def list_ids(self, split: str) -> list[str]:
        """Return the file names of the images."""
        splits = self._lists.splits
        return [str(name) for name in splits.index[splits == SPLITS.index(split)]]

    def list_filenames(self, split: str) -> list[str]:
        """Return the file names of the images."""
        return self.list_ids(split)

    def load_splits(self) -> dict[str, Split]:
        """Read the splits: images ``(n, 3, 64, 64)`` uint8, and 0 or 1 per attribute, ``(n,)``."""
        arrays = self.cache.arrays
        return {
            split: Split(
                arrays[f"{split}_images"],
                dict(zip(ATTRIBUTES, arrays[f"{split}_labels"].unbind(), strict=True)),
            )
            for split in SPLITS
        }

    def make_accumulators(self) -> dict[str, Accumulator]:
        """Return the F1 of each attribute."""
        return {attribute: F1(f"f1_{attribute}") for attribute in ATTRIBUTES}


def _write_images(images: np.ndarray, paths: Sequence[Path], description: str) -> None:
    """Write resized images into an array ``(n, 3, 64, 64)``."""

    def write_image(row: int) -> None:
        # As torchvision's Resize does with an image of Pillow's: antialiased, and rounded.
        with Image.open(paths[row]) as image:
            small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        images[row] = np.asarray(small).transpose(2, 0, 1)

    process_images(write_image, paths, description)
