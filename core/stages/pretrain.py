"""Pretraining on auxiliary objectives."""

from dataclasses import dataclass
from typing import ClassVar

from core.objectives.base import Objective
from core.stages.base import Stage


@dataclass
class Pretrain(Stage):
    """Minimizes the auxiliary objectives only; none of its epochs is eligible.

    Task-adaptive pretraining: Gururangan et al., Don't Stop Pretraining, ACL 2020.
    """

    eligible: ClassVar[bool] = False

    def uses_objective(self, objective: Objective) -> bool:
        """Return whether the objective is auxiliary."""
        return objective.is_auxiliary
