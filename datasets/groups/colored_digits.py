"""``colored_digits``: real handwritten digits whose color almost gives the answer away.

The 1,797 digits of scikit-learn (8x8 pixels; Alpaydin & Kaynak, UCI ML Repository, CC BY 4.0).
Label: digit >= 5. Attribute: which of two color channels holds the digit. In training the color
agrees with the label for 95% of each class; in validation and test for half of each class, so
that it says nothing. A model that leans on the color is right on average and fails the two small
groups.
"""

from typing import ClassVar

import numpy as np
import torch

from common.hyperparameters import Hyperparameter
from datasets.benchmark import Split
from datasets.data_card import DataCard
from datasets.formats.digits import read_digits
from datasets.groups.base import GroupBenchmark, Groups
from datasets.training_config import TrainingConfig

SIZES = {"train": 1079, "validation": 359, "test": 359}
AGREEMENT = {"train": 0.95, "validation": 0.5, "test": 0.5}
# RandomState, unlike numpy's newer generators, promises the same stream for ever.
SPLIT_SEED = 5


class ColoredDigits(GroupBenchmark):
    """The built-in benchmark of group robustness: no download, under a second per epoch."""

    name = "colored_digits"
    version = "1"
    card = DataCard(
        title="Real handwritten digits whose color nearly gives the label away in training.",
        source="scikit-learn's digits (UCI ML Repository), in the package; nothing is downloaded",
        license="CC BY 4.0",
        paper="Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
        notes=("The color agrees with the label for 95% of each class in training, for half "
               "of it in validation and test.",),
    )  # fmt: skip
    provides = GroupBenchmark.provides | {"encoder", "images"}
    encoder = "digits_vit"
    modality = "images"
    groups = Groups(classes=("digit < 5", "digit >= 5"), attributes=("channel 0", "channel 1"))
    training_config = TrainingConfig(
        model="digits_cnn", epochs=20, lr=0.05, weight_decay=1e-3, batch_size=32, optimizer="sgd"
    )
    # Wide, so that a search must find rates at which the small network learns on every seed.
    search_space: ClassVar = {
        "lr": Hyperparameter("log_uniform", (1e-4, 1.0), 0.05),
        "weight_decay": Hyperparameter("log_uniform", (1e-6, 1e-1), 1e-3),
        "batch_size": Hyperparameter("choice", (16, 32, 64), 32),
    }

    def list_ids(self, split: str) -> list[int]:
        """Return the rows of scikit-learn's digits."""
        return [int(row) for row in _choose_rows(np.random.RandomState(SPLIT_SEED))[split]]

    def load_splits(self) -> dict[str, Split]:
        """Make the splits: inputs ``(n, 2, 8, 8)`` float32 in [0, 1]."""
        images, digits = read_digits()
        random = np.random.RandomState(SPLIT_SEED)
        splits = {}
        for name, chosen in _choose_rows(random).items():
            size = len(chosen)
            y = (digits[chosen] >= 5).astype(np.int64)
            a = _draw_channels(y, AGREEMENT[name], random)
            pixels = (images[chosen] / 16.0).reshape(size, 8, 8).astype(np.float32)
            inputs = np.zeros((size, 2, 8, 8), dtype=np.float32)
            inputs[np.arange(size), a] = pixels
            group = torch.from_numpy(2 * y + a)
            splits[name] = Split(torch.from_numpy(inputs), {"y": torch.from_numpy(y)}, group)
        return splits


def _choose_rows(random: np.random.RandomState) -> dict[str, np.ndarray]:
    """Return the rows of scikit-learn's digits in each split."""
    order = random.permutation(sum(SIZES.values()))
    ends = np.cumsum(list(SIZES.values()))
    return dict(zip(SIZES, np.split(order, ends[:-1]), strict=True))


def _draw_channels(y: np.ndarray, agreement: float, random: np.random.RandomState) -> np.ndarray:
    """Return the channel of each digit, equal to its label for the given share of each class."""
    a = y.copy()
    for label in (0, 1):
        members = random.permutation(np.flatnonzero(y == label))
        disagreeing = round(len(members) * (1 - agreement))
        a[members[:disagreeing]] = 1 - label
    return a
