"""Training that a later stage builds on."""

from dataclasses import dataclass
from typing import ClassVar

from core.stages.base import Stage


@dataclass
class TrainFirst(Stage):
    """Trains; none of its epochs is eligible, because what is selected comes later."""

    eligible: ClassVar[bool] = False
