"""Finetuning on the end task."""

from dataclasses import dataclass
from typing import ClassVar

from core.objectives.base import Objective
from core.stages.base import Stage


@dataclass
class Finetune(Stage):
    """Continues from the previous stage's weights, without auxiliary objectives."""

    reinitialize: ClassVar[bool] = False

    def uses_objective(self, objective: Objective) -> bool:
        """Return whether the objective is not auxiliary."""
        return not objective.is_auxiliary
