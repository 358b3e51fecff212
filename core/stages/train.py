"""Training on all objectives."""

from dataclasses import dataclass

from core.stages.base import Stage


@dataclass
class Train(Stage):
    """Minimizes all objectives; all of its epochs are eligible."""
