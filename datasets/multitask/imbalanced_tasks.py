"""``imbalanced_tasks``: regressions whose gradients differ by factors of a hundred and oppose.

Generated from a fixed seed. Task ``k`` is ``s_k sin(2 v_k x)`` plus noise, with ``x`` standard
normal in 8 dimensions, deviations ``s_k`` in the ratios 1 : 10 : 100 : 1000 and directions ``v_k``
that point away from each other: the corners of a regular tetrahedron, any two of which meet with a
cosine of -1/3. The sum of squared errors sees little but the largest task. The metrics are
relative to the targets' deviations, so that every task counts alike.
"""

from functools import cached_property
from typing import ClassVar

import numpy as np
import torch

from common.hyperparameters import Hyperparameter
from datasets.benchmark import Split
from datasets.data_card import DataCard
from datasets.multitask.base import TaskBenchmark
from datasets.multitask.metrics import Accumulator, RelativeError
from datasets.multitask.task import Task
from datasets.training_config import TrainingConfig

SCALES = {"tiny": 0.01, "small": 0.1, "medium": 1.0, "large": 10.0}
SIZES = {"train": 4000, "validation": 1000, "test": 1000}
INPUTS = 8
FREQUENCY, NOISE = 2.0, 0.1  # the noise's deviation is relative to the task's scale
# RandomState, unlike numpy's newer generators, promises the same stream for ever.
DATA_SEED = 11


class ImbalancedTasks(TaskBenchmark):
    """The built-in benchmark of unequal gradients: no download, under a second per epoch."""

    name = "imbalanced_tasks"
    version = "1"
    tasks = tuple(
        Task(name, "squared_error", 1, {f"{name}_relative_rmse": False}) for name in SCALES
    )
    training_config = TrainingConfig(
        model="tasks_mlp",
        epochs=30,
        lr=1e-2,
        weight_decay=0.0,
        batch_size=64,
        optimizer="adam",
    )
    search_space: ClassVar = {
        "lr": Hyperparameter("log_uniform", (1e-5, 1e-1), 1e-2),
        "batch_size": Hyperparameter("choice", (32, 64, 128), 64),
    }
    card = DataCard(
        title="Four regressions on shared inputs whose losses and gradients differ by a million.",
        source="generated from a fixed seed",
        license="Apache-2.0, as the project",
        paper="none",
        notes=(
            "The best possible relative error is 0.14, the noise's; predicting the mean gets 1.",
            "Metrics are root mean square errors relative to the training targets' deviations.",
        ),
    )

    def load_splits(self) -> dict[str, Split]:
        """Make the splits: inputs ``(n, 8)``, float32."""
        random = np.random.RandomState(DATA_SEED)
        directions = draw_opposed_directions(random)
        splits = {}
        for name, size in SIZES.items():
            inputs = random.standard_normal((size, INPUTS))
            clean = np.sin(FREQUENCY * inputs @ directions.T)
            noisy = (clean + NOISE * random.standard_normal(clean.shape)) * [*SCALES.values()]
            targets = {
                task: torch.from_numpy(column).float()
                for task, column in zip(SCALES, noisy.T, strict=True)
            }
            splits[name] = Split(torch.from_numpy(inputs).float(), targets)
        return splits

    @cached_property
    def deviations(self) -> dict[str, float]:
        """The deviation of each task's training targets."""
        targets = self.train_split.targets
        return {name: float(target.double().std()) for name, target in targets.items()}

    def make_accumulators(self) -> dict[str, Accumulator]:
        """Return the relative errors."""
        return {
            name: RelativeError(f"{name}_relative_rmse", deviation)
            for name, deviation in self.deviations.items()
        }


def draw_opposed_directions(random: np.random.RandomState) -> np.ndarray:
    """Return unit vectors, ``(4, 8)``, any two of which have an inner product of -1/3."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    frame = np.linalg.qr(random.standard_normal((INPUTS, 3)))[0]
    directions: np.ndarray = corners @ frame.T
    return directions
