"""``celeba``: blond hair against gender on faces of celebrities (Liu et al., ICCV 2015)."""

from pathlib import Path
from typing import ClassVar

import pandas as pd

from datasets.data_card import DataCard
from datasets.formats.celeba import (
    LANDMARKS,
    OTHER_FOLDERS,
    describe_choices,
    locate_files,
    read_lists,
    select_attribute,
)
from datasets.groups.base import Groups
from datasets.groups.image_table import ImageBenchmark


class CelebA(ImageBenchmark):
    """Hair color, judged by the worst of four groups: few men are blond."""

    name = "celeba"
    version = "1"
    folder_name = "celeba"
    other_folder_names = OTHER_FOLDERS
    landmarks = LANDMARKS
    groups = Groups(("not blond", "blond"), ("female", "male"))
    published_counts: ClassVar = {"train": (71629, 66874, 22880, 1387)}
    card = DataCard(
        title="Faces of celebrities: is the hair blond? The attribute is the annotated gender.",
        source="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (aligned and cropped images)",
        license="non-commercial research only; the images may not be passed on",
        paper="Liu et al., Deep Learning Face Attributes in the Wild, ICCV 2015",
        notes=(
            "Groups as in Sagawa et al., ICLR 2020.",
            "The flat layout, that of the release (Img, Anno, Eval) and Kaggle's (.csv) are read.",
        ),
        sizes={"train": 162_770, "validation": 19_867, "test": 19_962},
    )

    @property
    def image_folder(self) -> Path:
        """The folder of the aligned images."""
        return locate_files(self.folder).images

    def list_notices(self) -> list[str]:
        """Return a sentence for each part of which there are two."""
        return describe_choices(self.folder)

    def make_table(self) -> pd.DataFrame:
        """Return the common table of Blond_Hair and Male."""
        files = locate_files(self.folder)
        attributes, splits = read_lists(files)
        return pd.DataFrame(
            {
                "id": range(1, len(splits) + 1),
                "filename": splits.index,
                "split": splits.to_numpy(),
                "y": select_attribute(attributes, "Blond_Hair", files.attributes),
                "a": select_attribute(attributes, "Male", files.attributes),
            }
        )
