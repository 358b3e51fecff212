"""``two_digits``: the digit on the left, the one on the right, and their sum.

Two of scikit-learn's 1,797 handwritten digits (8x8 pixels; Alpaydin & Kaynak, UCI ML Repository,
CC BY 4.0) overlap on a canvas of 12x12, as in MultiMNIST (Sabour, Frosst & Hinton, Dynamic Routing
Between Capsules, NeurIPS 2017; as tasks: Sener & Koltun, NeurIPS 2018). The small trunk must serve
two classifications and a regression, whose losses have different units.
"""

from typing import ClassVar

import numpy as np
import torch

from common.hyperparameters import Hyperparameter
from datasets.benchmark import Split
from datasets.data_card import DataCard
from datasets.formats.digits import read_digits
from datasets.multitask.base import TaskBenchmark
from datasets.multitask.metrics import AbsoluteError, Accumulator, LabelAccuracy
from datasets.multitask.task import Task
from datasets.training_config import TrainingConfig

CANVAS, DIGIT = 12, 8
DIGITS = {"train": 1079, "validation": 359, "test": 359}  # no digit is in two splits
PAIRS = {"train": 4000, "validation": 1000, "test": 1000}
# RandomState, unlike numpy's newer generators, promises the same stream for ever.
SPLIT_SEED = 7
SUM_MEAN, SUM_SCALE = 9.0, 4.0  # the regression's target is (sum - 9) / 4


class TwoDigits(TaskBenchmark):
    """The built-in benchmark of several tasks: no download, about a second per epoch."""

    name = "two_digits"
    version = "1"
    tasks = (
        Task("left", "cross_entropy", 10, {"left_accuracy": True}),
        Task("right", "cross_entropy", 10, {"right_accuracy": True}),
        Task("sum", "squared_error", 1, {"sum_mae": False}),
    )
    training_config = TrainingConfig(
        model="two_digits_cnn",
        epochs=20,
        lr=3e-3,
        weight_decay=0.0,
        batch_size=64,
        optimizer="adam",
    )
    search_space: ClassVar = {
        "lr": Hyperparameter("log_uniform", (1e-5, 1e-1), 3e-3),
        "batch_size": Hyperparameter("choice", (32, 64, 128), 64),
    }
    card = DataCard(
        title="Two overlapping handwritten digits: name the left and the right one, and their sum.",
        source="scikit-learn's load_digits (UCI Optical Recognition of Handwritten Digits)",
        license="CC BY 4.0",
        paper="Sener & Koltun, Multi-Task Learning as Multi-Objective Optimization, NeurIPS 2018 "
        "(MultiMNIST); digits: Alpaydin & Kaynak, 1998",
        notes=(
            "1,797 real digits, each in one split only; pairs are drawn with a fixed seed.",
            "left_accuracy and right_accuracy are shares, sum_mae is in digits.",
        ),
    )

    def load_splits(self) -> dict[str, Split]:
        """Make the splits: inputs ``(n, 1, 12, 12)`` float32 in [0, 1]."""
        images, labels = read_digits()
        pixels = (images / 16.0).reshape(-1, DIGIT, DIGIT).astype(np.float32)
        random = np.random.RandomState(SPLIT_SEED)
        order = random.permutation(len(labels))
        splits, start = {}, 0
        for name, size in DIGITS.items():
            own = order[start : start + size]
            start += size
            left, right = own[random.randint(size, size=(2, PAIRS[name]))]
            total = (labels[left] + labels[right]).astype(np.float32)
            targets = {
                "left": torch.from_numpy(labels[left].astype(np.int64)),
                "right": torch.from_numpy(labels[right].astype(np.int64)),
                "sum": torch.from_numpy((total - SUM_MEAN) / SUM_SCALE).float(),
            }
            splits[name] = Split(
                torch.from_numpy(overlay_digits(pixels[left], pixels[right])), targets
            )
        return splits

    def make_accumulators(self) -> dict[str, Accumulator]:
        """Return accuracies, and the sum's absolute error in digits."""
        return {
            "left": LabelAccuracy("left_accuracy"),
            "right": LabelAccuracy("right_accuracy"),
            "sum": AbsoluteError("sum_mae", SUM_SCALE),
        }


def overlay_digits(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return pairs of digits, ``(n, 8, 8)`` each, on one canvas, ``(n, 1, 12, 12)``.

    The left one is at the top left, the right one at the bottom right; the brighter pixel wins.
    """
    canvas = np.zeros((len(left), 1, CANVAS, CANVAS), dtype=left.dtype)
    canvas[:, 0, :DIGIT, :DIGIT] = left
    corner = canvas[:, 0, -DIGIT:, -DIGIT:]
    np.maximum(corner, right, out=corner)
    return canvas
