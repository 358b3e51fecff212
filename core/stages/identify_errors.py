"""The first stage of Just Train Twice (JTT)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from core.stages.base import Stage


@dataclass
class IdentifyErrors(Stage):
    """Trains for ``epochs``, then upweights the misclassified training examples.

    Liu et al., Just Train Twice, ICML 2021. None of its epochs is eligible for selection: 4 of
    the 5 JTT runs that Kulkarni et al. published selected an epoch of this stage, and are ERM.

    Args:
        epochs: Epochs before the errors are counted (``T`` in the paper).
        upweight: How often an epoch of the next stage has each error (``lambda_up`` in the paper).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"classification"})
    eligible: ClassVar[bool] = False
    passes_after: ClassVar[int] = 1  # System 1 counts the errors in an epoch of its own

    upweight: int = 1

    def __post_init__(self) -> None:
        """Check the parameters.

        Raises:
            ValueError: If one is out of range.
        """
        super().__post_init__()
        if self.upweight < 1:
            raise ValueError(f"upweight: received {self.upweight}, expected at least 1")

    def compute_sample_counts(self, correct: Callable[[], Tensor]) -> Tensor:
        """Return ``upweight`` for the errors and 1 for the others, ``(n,)`` int64."""
        return torch.where(correct(), 1, self.upweight)
