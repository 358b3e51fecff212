"""Group benchmarks on tables of texts."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd

from common.files import read_text
from common.hyperparameters import Hyperparameter
from datasets.benchmark import SPLITS, Inputs
from datasets.groups.base import GroupBenchmark
from datasets.groups.table import TableBenchmark
from datasets.storage.array_cache import ArrayWriter
from datasets.storage.ragged_arrays import RaggedTexts
from datasets.storage.texts import (
    Tokens,
    find_tokenizer,
    hash_tokenizer,
    read_texts,
    tokenize_texts,
    write_texts,
)
from datasets.training_config import TrainingConfig


class TextPairs(NamedTuple):
    """The texts of a table's rows.

    Args:
        first: The texts.
        second: The second texts, where rows are pairs.
    """

    first: list[str]
    second: list[str] | None = None


class TextBenchmark(TableBenchmark):
    """Texts or pairs of texts, tokenized with the model's vocabulary.

    They are trained as by System 1 unless a benchmark differs.
    """

    modality = "text"
    provides = GroupBenchmark.provides | {"text", "encoder"}
    tokenizer: ClassVar[str] = "bert-base-uncased"
    max_tokens: ClassVar[int]  # to which texts are truncated
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
    search_space: ClassVar = {
        "lr": Hyperparameter("log_uniform", (1e-6, 1e-4), 1e-5),
        "weight_decay": Hyperparameter("log_uniform", (1e-4, 1.0), 1e-2),
        "batch_size": Hyperparameter("choice", (4, 8, 16, 32), 8),
    }

    @abstractmethod
    def load_texts(self) -> TextPairs:
        """Return the texts of the table's rows."""

    @cached_property
    def token_share(self) -> float:  # type: ignore[override]
        """The mean number of tokens of a training text, as a share of :attr:`max_tokens`."""
        texts = self.train_split.inputs
        if not isinstance(texts, RaggedTexts):  # the images of a folder
            return 1.0
        return float(texts.lengths.double().mean()) / self.max_tokens

    @property
    def tokenizer_file(self) -> Path:
        """The file that defines the tokenizer.

        Raises:
            UserError: If it is not on this machine.
        """
        return find_tokenizer(self.tokenizer, self.data_root, self.folder)

    @property
    def vocabulary(self) -> Path | int:
        """The tokenizer's file, or the number of words of texts that come as tokens."""
        return self.tokenizer_file

    @property
    def cache_parameters(self) -> Mapping[str, Any]:
        """The content of the table and of the tokenizer, and the maximum length."""
        tokenizer = hash_tokenizer(self.tokenizer_file)
        return {**super().cache_parameters, "tokenizer": tokenizer, "longest": self.max_tokens}

    def tokenize_rows(self) -> tuple[Tokens, np.ndarray]:
        """Return the tokens of all different texts, and the index of each row's among them."""
        first, second = self.load_texts()
        keys = pd.Index(first) if second is None else pd.MultiIndex.from_arrays([first, second])
        rows, different = pd.factorize(keys)
        levels = range(different.nlevels)
        first, second = TextPairs(*(different.get_level_values(n).tolist() for n in levels))
        file, name = self.tokenizer_file, f"{self.name}: tokenizing"
        return tokenize_texts(file, first, second, self.max_tokens, name), rows

    def write_inputs(self, writer: ArrayWriter) -> None:
        """Tokenize all texts."""
        tokens, rows = self.tokenize_rows()
        splits = self.table.split.to_numpy()
        for number, split in enumerate(SPLITS):
            write_texts(writer, split, tokens, rows[splits == number])

    def encode_files(self, paths: Sequence[Path], folder: Path) -> Inputs:
        """Return the texts of other files, tokenized like those of the table.

        Args:
            paths: Text files in UTF-8, a text each.
            folder: An empty folder for their tokens.
        """
        return self.encode_texts([read_text(path) for path in paths], folder)

    def encode_texts(self, texts: Sequence[str], folder: Path) -> Inputs:
        """Return other texts, tokenized like those of the table.

        Args:
            texts: The texts.
            folder: An empty folder for their tokens.
        """
        writer = ArrayWriter(folder)
        name = f"{self.name}: tokenizing"
        tokens = tokenize_texts(self.tokenizer_file, list(texts), None, self.max_tokens, name)
        write_texts(writer, "new", tokens, np.arange(len(texts)))
        return read_texts(writer.arrays, "new")

    def read_inputs(self, split: str) -> Inputs:
        """Return the texts of a split."""
        return read_texts(self.cache.arrays, split)
