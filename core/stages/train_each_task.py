"""One model per task."""

from dataclasses import dataclass
from typing import ClassVar

from core.stages.base import Stage


@dataclass
class TrainEachTask(Stage):
    """Trains one model per task within one run.

    Each task keeps the weights of the epoch with its best validation metrics, so the metrics of an
    epoch are those of the best models so far.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"tasks"})
    one_model_per_task: ClassVar[bool] = True
