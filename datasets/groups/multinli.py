"""``multinli``: does one sentence follow from another, against negation in the second."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from common.errors import UserError
from common.hyperparameters import Hyperparameter
from datasets.data_card import DataCard
from datasets.formats.glue_features import VOCABULARY, read_features
from datasets.formats.multinli import LABELS, negated, own_split, read_pairs, read_split
from datasets.groups.base import Groups
from datasets.groups.table import TextBenchmark
from datasets.storage.array_cache import Writer
from datasets.storage.texts import WORDS, Tokens

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
    groups = Groups(LABELS, ("no negation", "negation"))
    published_counts: ClassVar = {"train": (57498, 11158, 67376, 1521, 66630, 1992)}
    longest = 128
    training_config = replace(TextBenchmark.training_config, batch_size=32)
    search: ClassVar = {
        **TextBenchmark.search,
        "batch_size": Hyperparameter("choice", (4, 8, 16, 32), 32),
    }
    card = DataCard(
        title="Pairs of sentences: contradiction, entailment or neutral. Contradictions often hold "
        "a word of negation.",
        source="https://cims.nyu.edu/~sbowman/multinli/ or GLUE; split and features: "
        "https://github.com/kohpangwei/group_DRO",
        licence="OANC; the fiction part CC BY 3.0, CC BY-SA 3.0 or public domain",
        paper="Williams et al., A Broad-Coverage Challenge Corpus for Sentence Understanding "
        "through Inference, NAACL 2018",
        notes=(
            "Training, matched and mismatched development pairs together, split anew as in Sagawa "
            "et al., ICLR 2020: half, a fifth and three tenths.",
            "Without their data/metadata_random.csv the split is our own, of a fixed seed: figures "
            "then do not compare with published ones.",
            "Read from BERT features in glue_data/MNLI where they are, else from the text.",
        ),
    )

    @property
    def published_split(self) -> Path:
        """The split of Sagawa et al."""
        return self.folder / "data" / "metadata_random.csv"

    @cached_property
    def files(self) -> list[Path]:
        """The files that hold the pairs, in their order: features, or text.

        Raises:
            UserError: If some are missing.
        """
        glue = self.folder / "glue_data" / "MNLI"
        data = self.folder / "data"
        corpora = (self.folder, data, self.folder / "multinli_1.0", data / "multinli_1.0")
        choices = [
            [glue / name for name in FEATURES],
            *([place / f"multinli_1.0_{part}.jsonl" for part in PARTS] for place in corpora),
            *([place / f"{part}.tsv" for part in PARTS] for place in (glue, self.folder)),
        ]
        for files in choices:
            if all(path.is_file() for path in files):
                return files
        nearest = max(choices[1:], key=lambda files: sum(path.is_file() for path in files))
        if any(path.is_file() for path in choices[0]):
            nearest = choices[0]
        missing = [str(path) for path in nearest if not path.is_file()]
        raise UserError(
            f"{', '.join(missing)}: missing; expected the BERT features in {glue}, the corpus "
            "(multinli_1.0_*.jsonl) or GLUE's train.tsv, dev_matched.tsv and dev_mismatched.tsv"
        )

    @property
    def _featured(self) -> bool:
        return self.files[0].name == FEATURES[0]

    @cached_property
    def _pairs(self) -> pd.DataFrame:
        return read_pairs(self.files)

    @cached_property
    def _features(self) -> tuple[Tokens, np.ndarray]:
        parts = [read_features(path) for path in self.files]
        arrays = (
            np.concatenate([getattr(tokens, name) for tokens, _ in parts])
            for name in ("flat", "lengths", "seconds")
        )
        return Tokens(*arrays), np.concatenate([labels for _, labels in parts])

    def make_table(self) -> pd.DataFrame:
        """Return the common table: of the published split, or of our own."""
        if self.published_split.is_file():
            table = read_split(self.published_split)
        elif self._featured:
            raise UserError(
                f"{self.published_split}: missing; the features hold no text, so negations can "
                "only be had from it"
            )
        else:
            pairs = self._pairs
            table = pd.DataFrame({"split": own_split(len(pairs)), "y": pairs["y"]})
            table["a"] = negated(pairs["sentence2"]).astype(np.int64)
        row = np.arange(len(table))
        return table.assign(id=row, filename=row)[["id", "filename", "split", "y", "a"]]

    def sources(self) -> list[Path]:
        """The files that hold the pairs."""
        return self.files

    @property
    def vocabulary(self) -> Path | int:
        """The tokenizer's file, or the number of words of the features."""
        return WORDS[VOCABULARY] if self._featured else super().vocabulary

    def settings(self) -> Mapping[str, Any]:
        """The table's content, and the tokenizer's where there is text."""
        if self._featured:
            return {"table": super(TextBenchmark, self).settings()["table"], "features": True}
        return super().settings()

    def file_problems(self) -> list[str]:
        """Return which pairs of the table are not there, or have another label."""
        try:
            labels = self._features[1] if self._featured else self._pairs["y"].to_numpy()
        except UserError as error:
            return getattr(error, "problems", [str(error)])
        place = self._places()
        if place.max() >= len(labels):
            return [
                f"{self.table_path}: names pair {place.max()}, but {self.files[0].parent} holds "
                f"{len(labels)} pairs"
            ]
        rows = np.flatnonzero(labels[place] != self.table["y"].to_numpy())
        return [
            f"{self.table_path}: row {row + 1}: y is {self.table['y'][row]}, but pair {place[row]} "
            f"of {self.files[0].parent} has {labels[place[row]]}"
            for row in rows
        ]

    def build(self, writer: Writer) -> None:
        """Write labels, groups and tokens; then forget what was read for it."""
        super().build(writer)
        for name in ("_pairs", "_features"):
            self.__dict__.pop(name, None)

    def texts(self) -> tuple[list[str], list[str] | None]:
        """Return both sentences of each pair of the table."""
        pairs = self._pairs.iloc[self._places()]
        return pairs["sentence1"].tolist(), pairs["sentence2"].tolist()

    def tokens(self) -> tuple[Tokens, np.ndarray]:
        """Return the tokens of the features, or of the text."""
        if self._featured:
            return self._features[0], self._places()
        return super().tokens()

    def _places(self) -> np.ndarray:
        """Return which pair of the files each row of the table is."""
        return whole(self.table_path, self.table["filename"])


def whole(path: Path, names: "pd.Series[str]") -> np.ndarray:
    """Return the rows that a table's file names are, ``(n,)`` int64.

    Raises:
        UserError: If one is no number.
    """
    bad = ~names.str.fullmatch("[0-9]{1,9}")
    for row in names.index[bad][:1]:
        raise UserError(
            f"{path}: row {row + 1}: filename: received '{names[row]}', expected a row's number"
        )
    return names.astype(np.int64).to_numpy()
