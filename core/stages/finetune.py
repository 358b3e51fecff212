"""Training on the end task from the weights of the stage before."""

from dataclasses import dataclass
from typing import ClassVar

from core.objectives.base import Objective
from core.stages.base import Stage


@dataclass
class Finetune(Stage):
    """Keeps the weights of the stage before and descends all objectives but auxiliary ones."""

    reinitialize: ClassVar[bool] = False

    def uses(self, objective: Objective) -> bool:
        """Return whether the objective is of the end task."""
        return not objective.auxiliary
