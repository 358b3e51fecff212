"""Plain training."""

from dataclasses import dataclass

from core.stages.base import Stage


@dataclass
class Train(Stage):
    """Trains; selection may choose any of its epochs."""
