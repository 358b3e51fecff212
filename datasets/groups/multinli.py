"""``multinli``: does one sentence follow from another, against negation in the second."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from common.errors import UserError, ValidationErrors
from common.hyperparameters import Hyperparameter
from datasets.data_card import DataCard
from datasets.formats.csv_tables import parse_row_numbers
from datasets.formats.glue_features import (
    VOCABULARY,
    Features,
    concatenate_features,
    read_features,
)
from datasets.formats.multinli import LABELS, draw_split, has_negation, read_pairs, read_split
from datasets.groups.base import Groups
from datasets.groups.text_table import TextBenchmark, TextPairs
from datasets.storage.array_cache import ArrayWriter
from datasets.storage.texts import VOCABULARY_SIZES, Tokens

FEATURES = tuple(
    f"cached_{part}_bert-base-uncased_128_{task}"
    for part, task in (("train", "mnli"), ("dev", "mnli"), ("dev", "mnli-mm"))
)
PARTS = ("train", "dev_matched", "dev_mismatched")


class MultiNLI(TextBenchmark):
    """Inference between sentences, judged by the worst of six groups."""

    name = "multinli"
    version = "1"
    folder_name = "multinli"
    other_folder_names = ("multinli_1.0", "glue_data/MNLI", "MNLI")
    landmarks = ("glue_data", "data", "multinli_1.0", "multinli_1.0_train.jsonl", "train.tsv")
    groups = Groups(LABELS, ("no negation", "negation"))
    published_counts: ClassVar = {"train": (57498, 11158, 67376, 1521, 66630, 1992)}
    max_tokens = 128
    training_config = replace(TextBenchmark.training_config, batch_size=32)
    search_space: ClassVar = {
        **TextBenchmark.search_space,
        "batch_size": Hyperparameter("choice", (4, 8, 16, 32), 32),
    }
    card = DataCard(
        title="Pairs of sentences: contradiction, entailment or neutral. Contradictions often hold "
        "a word of negation.",
        source="https://cims.nyu.edu/~sbowman/multinli/ or GLUE; split and features: "
        "https://github.com/kohpangwei/group_DRO",
        license="OANC; the fiction part CC BY 3.0, CC BY-SA 3.0 or public domain",
        paper="Williams et al., A Broad-Coverage Challenge Corpus for Sentence Understanding "
        "through Inference, NAACL 2018",
        notes=(
            "Training, matched and mismatched development pairs together, split anew as in Sagawa "
            "et al., ICLR 2020: 50%, 20% and 30%.",
            "Without their data/metadata_random.csv the split is drawn here with a fixed seed: "
            "results are then not comparable with published ones.",
            "Read from BERT features in glue_data/MNLI if they are there, else from the text.",
        ),
        sizes={"train": 206_175, "validation": 82_462, "test": 123_712},
    )

    @property
    def published_split(self) -> Path:
        """The split of Sagawa et al."""
        return self.folder / "data" / "metadata_random.csv"

    @cached_property
    def files(self) -> list[Path]:
        """The files with the pairs, in their order: features, or text.

        Raises:
            UserError: If some are missing.
        """
        glue = self.folder / "glue_data" / "MNLI"
        data = self.folder / "data"
        corpora = (self.folder, data, self.folder / "multinli_1.0", data / "multinli_1.0")
        features = [glue / name for name in FEATURES]
        texts = [
            *([folder / f"multinli_1.0_{part}.jsonl" for part in PARTS] for folder in corpora),
            *([folder / f"{part}.tsv" for part in PARTS] for folder in (glue, self.folder)),
        ]
        for files in (features, *texts):
            if all(path.is_file() for path in files):
                return files
        started = features
        if not any(path.is_file() for path in features):
            started = max(texts, key=lambda files: sum(path.is_file() for path in files))
        missing = [str(path) for path in started if not path.is_file()]
        raise UserError(
            f"{', '.join(missing)}: missing; expected the BERT features in {glue}, the corpus "
            "(multinli_1.0_*.jsonl) or GLUE's train.tsv, dev_matched.tsv and dev_mismatched.tsv"
        )

    @property
    def _has_features(self) -> bool:
        return self.files[0].name == FEATURES[0]

    @cached_property
    def _pairs(self) -> pd.DataFrame:
        return read_pairs(self.files)

    @cached_property
    def _features(self) -> Features:
        return concatenate_features([read_features(path) for path in self.files])

    def make_table(self) -> pd.DataFrame:
        """Return the common table: of the published split, or of our own."""
        if self.published_split.is_file():
            table = read_split(self.published_split)
        elif self._has_features:
            raise UserError(
                f"{self.published_split}: missing; the features hold no text, so it is the only "
                "source of negations"
            )
        else:
            table = pd.DataFrame(
                {
                    "split": draw_split(len(self._pairs)),
                    "y": self._pairs.y,
                    "a": has_negation(self._pairs.sentence2).astype(np.int64),
                }
            )
        row = np.arange(len(table))
        return table.assign(id=row, filename=row)[["id", "filename", "split", "y", "a"]]

    def list_source_files(self) -> list[Path]:
        """Return the files with the pairs."""
        return self.files

    @property
    def vocabulary(self) -> Path | int:
        """The tokenizer's file, or the number of words of the features."""
        return VOCABULARY_SIZES[VOCABULARY] if self._has_features else super().vocabulary

    @property
    def cache_parameters(self) -> Mapping[str, Any]:
        """The table's content, and the tokenizer's where there is text."""
        if self._has_features:
            return {**super(TextBenchmark, self).cache_parameters, "features": True}
        return super().cache_parameters

    def find_file_problems(self) -> list[str]:
        """Return a sentence for each pair of the table that is missing or has another label."""
        try:
            labels = self._features.labels if self._has_features else self._pairs.y.to_numpy()
        except ValidationErrors as error:
            return error.problems
        except UserError as error:
            return [str(error)]
        index = self._pair_index()
        folder = self.files[0].parent
        if index.max() >= len(labels):
            return [
                f"{self.table_path}: names pair {index.max()}, but {folder} has {len(labels)} pairs"
            ]
        y = self.table.y.to_numpy()
        return [
            f"{self.table_path}: row {row + 1}: y is {y[row]}, but pair {index[row]} of {folder} "
            f"has {labels[index[row]]}"
            for row in np.flatnonzero(labels[index] != y)
        ]

    def write_arrays(self, writer: ArrayWriter) -> None:
        """Write labels, groups and tokens, and free the memory of the files' content."""
        super().write_arrays(writer)
        for name in ("_pairs", "_features"):
            self.__dict__.pop(name, None)

    def load_texts(self) -> TextPairs:
        """Return both sentences of each pair of the table."""
        pairs = self._pairs.iloc[self._pair_index()]
        return TextPairs(pairs.sentence1.tolist(), pairs.sentence2.tolist())

    def tokenize_rows(self) -> tuple[Tokens, np.ndarray]:
        """Return the tokens of the features, or of the text."""
        if self._has_features:
            return self._features.tokens, self._pair_index()
        return super().tokenize_rows()

    def _pair_index(self) -> np.ndarray:
        """Return the number, in the files, of the pair of each row of the table."""
        return parse_row_numbers(self.table_path, self.table.filename)
