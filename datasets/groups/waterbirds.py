"""``waterbirds``: land birds and water birds, cut out and put before land or water.

Made by Sagawa et al. (ICLR 2020) from CUB-200-2011 and Places. In training 95% of each class are
shown before the background of their kind.
"""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pandas as pd

from datasets.data_card import DataCard
from datasets.formats import csv_tables as tables
from datasets.groups.base import Groups
from datasets.groups.image_table import ImageBenchmark

ARCHIVE = "waterbird_complete95_forest2water2"


class Waterbirds(ImageBenchmark):
    """Kind of bird against background, judged by the worst of four groups."""

    name = "waterbirds"
    version = "1"
    folder_name = "waterbirds"
    other_folder_names = ("waterbirds_v1.0", "cub", ARCHIVE)
    landmarks = (ARCHIVE, "metadata.csv")
    groups = Groups(("land bird", "water bird"), ("land background", "water background"))
    published_counts: ClassVar = {"train": (3498, 184, 56, 1057), "test": (2255, 2255, 642, 642)}
    training_config = replace(ImageBenchmark.training_config, epochs=200)
    card = DataCard(
        title="Photographs of birds before backgrounds that almost give the kind of bird away.",
        source="https://nlp.stanford.edu/data/dro/waterbird_complete95_forest2water2.tar.gz",
        license="CUB images: non-commercial research and education only",
        paper="Sagawa et al., Distributionally Robust Neural Networks for Group Shifts, ICLR 2020",
        notes=(
            "In validation and test both backgrounds are equally frequent within a class, unlike "
            "in training.",
            "Regenerated variants exist, with other training groups than the published release: "
            "3,498, 184, 56 and 1,057.",
        ),
        sizes={"train": 4_795, "validation": 1_199, "test": 5_794},
    )

    @property
    def image_folder(self) -> Path:
        """The folder of the published archive, or that of WILDS with the same files."""
        flat = (self.folder / "metadata.csv").is_file() and not (self.folder / ARCHIVE).is_dir()
        return self.folder if flat else self.folder / ARCHIVE

    @property
    def table_source(self) -> Path:
        """The table of the published archive."""
        return self.image_folder / "metadata.csv"

    def make_table(self) -> pd.DataFrame:
        """Return the common table; the attribute is the kind of background."""
        columns = ["img_id", "img_filename", "split", "y", "place"]
        table = tables.read_csv(self.table_source, columns)[columns]
        table.columns = pd.Index(tables.COLUMNS)
        return tables.parse_table(self.table_source, table)
