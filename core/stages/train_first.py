"""Training before another stage."""

from dataclasses import dataclass
from typing import ClassVar

from core.stages.base import Stage


@dataclass
class TrainFirst(Stage):
    """Minimizes all objectives; no epoch is eligible, because a later stage is selected."""

    eligible: ClassVar[bool] = False
